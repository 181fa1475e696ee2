"""What each agent's JSON lines are read as; the streams lie in tests/agents/formats."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.backends.finals import answer_of
from agents.backends.formats import FORMATS, Reader
from agents.backends.troubles import trouble_of

STREAMS = Path(__file__).parent.parent / "agents" / "formats"
NOW = datetime(2026, 11, 25, 0, 0, tzinfo=UTC)
RESET = datetime.fromtimestamp(1795582800, UTC)
WORDS = {"claude": "claude-stream-json", "codex": "codex-json", "gemini": "gemini-stream-json",
         "opencode": "opencode-json"}  # fmt: skip


def reader_of(word):
    table = FORMATS[word]
    assert table is not None
    return Reader(table, NOW)


def read(name):
    reader = reader_of(WORDS[name.partition("_")[0]])
    events = []
    for line in (STREAMS / f"{name}.jsonl").read_text().splitlines():
        events += reader.line(line)
    return reader, events + reader.close()


@pytest.mark.parametrize(
    ("name", "session", "tokens", "cost", "result"),
    [
        ("claude_works", "5f3c9a52-1c7e-4a0e-9d2b-0c9a5a1f7e11", (24_512, 410), 0.0312,
         {"summary": "Added add()."}),
        ("codex_works", "0199a213-81c0-7800-8aa1-bbab2a035a53", (24_763, 122), None,
         {"summary": "Added add()."}),
        ("gemini_works", "ses-gem-1", (9_000, 100), None,
         {"verdict": "approve", "summary": "Good.", "findings": []}),
        ("opencode_works", "ses_6f1", (2_140, 90), 0.00384, {"summary": "Wrote calc.py."}),
    ],
)  # fmt: skip
def test_turn_that_ended_well(name, session, tokens, cost, result):
    reader, events = read(name)
    used = reader.usage
    assert reader.is_done and reader.session == session and reader.failed(badly=False) is None
    assert ((used.input_tokens, used.output_tokens), used.quality) == (tokens, "exact")
    assert used.cost is None if cost is None else used.cost == pytest.approx(cost)
    assert answer_of(reader.final, "build") == result
    assert next(data["path"] for _, data in events if data.get("path")).endswith("calc.py")
    assert {"message", "tool"} <= {kind for kind, _ in events}


def test_events_of_claude_in_their_order():
    _, events = read("claude_works")
    assert events[:4] == [
        ("thought", {"text": "The tests pin down add()."}),
        ("message", {"text": "I write the module."}),
        ("tool", {"name": "Write", "path": "/ws/calc.py"}),
        ("tool", {"name": "Bash", "text": "python -m pytest -q"}),
    ]


def test_pieces_of_a_text_come_out_by_whole_lines():
    _, events = read("gemini_works")
    said = [data["text"] for kind, data in events if kind == "message"]
    assert said[:2] == ["I look at the tests first.", "Then I write."]


def test_kinds_that_no_table_knows_are_kept():
    _, events = read("codex_works")
    (other,) = [data for kind, data in events if kind == "other" and "item" in data]
    assert other["item"]["items"] == [{"text": "Write add()", "completed": True}]


@pytest.mark.parametrize(
    ("name", "kind", "resets_at", "retry_after"),
    [
        ("claude_limit", "exhausted", RESET, None),
        ("claude_signed_out", "signed_out", None, None),
        ("claude_overloaded", "overloaded", None, None),
        ("claude_max_turns", "failed", None, None),
        ("codex_limit", "exhausted", NOW.replace(hour=12, minute=16), 44_160.0),
        ("codex_limited", "rate_limited", NOW + timedelta(seconds=17), 17.0),
        ("gemini_exhausted", "exhausted", NOW + timedelta(hours=6, minutes=20, seconds=30),
         22_830.0),
        ("opencode_signed_out", "signed_out", None, None),
    ],
)  # fmt: skip
def test_turn_that_failed(name, kind, resets_at, retry_after):
    reader, _ = read(name)
    trouble = reader.failed(badly=True)
    assert (trouble.kind, trouble.resets_at) == (kind, resets_at)
    assert trouble.retry_after == retry_after
    assert trouble.message


def test_trouble_that_passed_fails_no_turn():
    reader, _ = read("codex_works")
    assert reader.failed(badly=False) is None and reader.failed(badly=True) is None


def test_trouble_that_did_not_pass_is_why_a_process_ended_badly():
    reader = reader_of("claude-stream-json")
    reader.line('{"type":"system","subtype":"api_retry","error_status":429,"error":"rate_limit"}')
    assert reader.failed(badly=False) is None
    assert reader.failed(badly=True).kind == "rate_limited"
    assert not reader.is_done and reader.usage.quality == "unknown"


def test_usage_that_lacks_a_number_is_unknown_and_never_zero():
    reader = reader_of("codex-json")
    reader.line('{"type":"turn.completed","usage":{"input_tokens":5,"output_tokens":null}}')
    assert (reader.usage.quality, reader.usage.output_tokens) == ("unknown", None)
    reader = reader_of("opencode-json")
    reader.line('{"type":"step_finish","part":{"tokens":{"input":5,"output":1},"cost":0.1}}')
    reader.line('{"type":"step_finish","part":{"cost":0.1}}')
    assert (reader.usage.quality, reader.usage.input_tokens) == ("unknown", None)
    assert reader.usage.cost == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("said", "kind", "seconds"),
    [
        ("You've hit your usage limit. Try again in 2 days 17 hours 14 minutes.", "exhausted",
         234_840),
        ("Please retry in 12.5s. status: 429", "rate_limited", 12.5),
        ("Rate limit reached for gpt-5 ... Please try again in 820ms.", "rate_limited", 0.82),
        ('{"type":"usage_limit_reached","resets_at":1795582800}', "exhausted",
         (RESET - NOW).total_seconds()),
        ("You've hit your session limit · resets 8:20pm (Asia/Singapore)", "exhausted", 44_400),
        ("usage limit, try again at Nov 26th, 2026 1:00 AM", "exhausted", 90_000),
        ("Your credit balance is too low", "exhausted", None),
        ("API Error: 401 unauthorized", "signed_out", None),
        ("OAuth token has expired. Please sign in again.", "signed_out", None),
        ("503 Service Unavailable", "overloaded", None),
        ("AssertionError in test.py line 429", "failed", None),
        ("assert 503 == total", "failed", None),
        ("try again in 5", "failed", None),
    ],
)  # fmt: skip
def test_what_a_provider_says(said, kind, seconds):
    trouble = trouble_of(said, NOW)
    assert trouble.kind == kind
    assert trouble.retry_after == (pytest.approx(seconds) if seconds is not None else None)


@pytest.mark.parametrize(
    ("text", "kind", "result"),
    [
        ('{"tutti": {"outline": "1. add"}}', "tests", {"outline": "1. add"}),
        ('Text\n  {"tutti": {"verdict": "ask"}}\nmore', "review", {"verdict": "ask"}),
        ('```json\n{"verdict": "fix", "findings": []}\n```\nbye', "review",
         {"verdict": "fix", "findings": []}),
        ('```python\nx = {}\n```\nI think {"verdict": "rebuild"} fits.', "review",
         {"verdict": "rebuild"}),
        ('{"a": 1} then {"split": {"modules": []}} done', "build", {"split": {"modules": []}}),
        ('{"verdict": "fix"}\n```\n{"verdict": "approve"}\n```', "review", {"verdict": "approve"}),
        ("First the parser.", "tests",
         {"summary": "First the parser.", "outline": "First the parser."}),
        ('Done. {"key": 3}', "build", {"summary": 'Done. {"key": 3}'}),
        ("  \n", "build", {}),
        ("{" * 5_000, "build", {"summary": "{" * 5_000}),
    ],
)  # fmt: skip
def test_answer_in_the_last_words(text, kind, result):
    assert answer_of(text, kind) == result


shapes = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "item", "part", "message", "content", "usage", "error", "tokens",
                         "subtype", "result", "text", "role", "changes", "data", "stats"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
types = st.sampled_from(["assistant", "result", "error", "item.completed", "turn.completed",
                         "step_finish", "text", "message", "tool_use", "turn.failed"])  # fmt: skip


@given(st.sampled_from(sorted(WORDS.values())), types, st.dictionaries(
    st.sampled_from(["message", "item", "part", "usage", "error", "stats", "content", "result",
                     "is_error", "delta", "role", "total_cost_usd"]), shapes))  # fmt: skip
def test_no_shape_of_a_line_breaks_the_reader(format, type, rest):
    reader = reader_of(format)
    for kind, data in [*reader.line(json.dumps({"type": type, **rest})), *reader.close()]:
        json.dumps([kind, data])
    reader.failed(badly=True)
    answer_of(reader.final, "build")
