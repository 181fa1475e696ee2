"""Agents with a command line, for real in the sandbox: formats, long lines, and their keys."""

from __future__ import annotations

import base64
import json
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from agents.backends.base import BackendError, Turn
from agents.backends.command import CommandBackend

STREAMS = Path(__file__).parent / "formats"
KEY = "sk-ant-0123456789-abcdefghij"
BACKEND = CommandBackend()


class Failed(Exception):
    """A turn that failed: the backend's error, and what was said until then."""

    def __init__(self, error: BackendError, rows: list[Any]) -> None:
        super().__init__(str(error))
        self.error = error
        self.rows = rows


@pytest.fixture
def take(tmp_path):
    """Let a Python script, or a recorded stream, be the agent of one turn."""

    def run(script="", stream="", kind="build", **settings):
        for name in ("clone", "home"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
            (tmp_path / name).mkdir()
        (tmp_path / "clone" / "agent.py").write_text(script)
        if stream:
            shutil.copy(STREAMS / f"{stream}.jsonl", tmp_path / "clone" / "stream")
        command = ["/bin/cat", "stream"] if stream else ["python3", "agent.py"]
        rows = []
        turn = Turn(
            text="Build it.",
            module="calc",
            kind=kind,
            role="executor",
            number=1,
            model="some-model",
            workspace=tmp_path / "clone",
            home=tmp_path / "home",
            settings={"command": command, "timeout_seconds": 60, **settings},
            secrets={"ANTHROPIC_API_KEY": KEY},
        )
        try:
            return BACKEND.run(turn, lambda *row: rows.append(row), lambda: None), rows
        except BackendError as error:
            raise Failed(error, rows) from error

    return run


def test_stream_of_an_agent_becomes_events_usage_session_and_answer(take):
    outcome, rows = take(stream="claude_works", format="claude-stream-json")
    assert outcome.result == {"summary": "Added add()."}
    assert outcome.session == "5f3c9a52-1c7e-4a0e-9d2b-0c9a5a1f7e11"
    assert (outcome.usage.input_tokens, outcome.usage.quality) == (24_512, "exact")
    assert [kind for kind, _ in rows] == [
        "thought", "message", "tool", "tool", "message", "usage", "result",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stream", "format", "kind", "owner"),
    [
        ("claude_limit", "claude-stream-json", "exhausted", "provider"),
        ("claude_signed_out", "claude-stream-json", "signed_out", "provider"),
        ("claude_overloaded", "claude-stream-json", "overloaded", "provider"),
        ("codex_limited", "codex-json", "rate_limited", "provider"),
        ("gemini_exhausted", "gemini-stream-json", "exhausted", "provider"),
        ("claude_max_turns", "claude-stream-json", "failed", "agent"),
    ],
)
def test_refusal_of_the_provider_is_not_the_agents_failure(take, stream, format, kind, owner):
    with pytest.raises(Failed) as error:
        take(stream=stream, format=format)
    assert (error.value.error.kind, error.value.error.owner) == (kind, owner)


def test_reset_time_reaches_who_waits_for_it(take):
    with pytest.raises(Failed) as error:
        take(stream="claude_limit", format="claude-stream-json")
    assert int(error.value.error.resets_at.timestamp()) == 1_795_582_800


def test_turn_without_its_closing_line_failed(take):
    with pytest.raises(Failed, match="closes a turn in codex-json") as error:
        take('print(\'{"type":"thread.started","thread_id":"x"}\')', format="codex-json")
    assert (error.value.error.kind, error.value.error.owner) == ("no_result", "agent")


def test_words_on_stderr_of_a_provider_that_refused(take):
    script = "import sys; sys.exit('Error: 401 Unauthorized, please run codex login')"
    with pytest.raises(Failed) as error:
        take(script, format="codex-json")
    assert (error.value.error.kind, error.value.error.owner) == ("signed_out", "provider")
    script = "import sys, time; print('529 overloaded', file=sys.stderr, flush=True)\n"
    with pytest.raises(Failed) as error:
        take(f"{script}time.sleep(60)", format="codex-json", idle_seconds=2)
    assert (error.value.error.kind, error.value.error.owner) == ("overloaded", "provider")


def test_plain_text_is_its_own_summary_and_may_hold_the_answer(take):
    outcome, rows = take("print('I did it.')\nprint('All of it.')", format="text")
    assert outcome.result == {"summary": "I did it.\nAll of it."}
    assert rows[0] == ("message", {"text": "I did it."})
    assert outcome.usage.quality == "unknown" and outcome.usage.input_tokens is None
    script = 'print(\'```json\\n{"verdict": "ask"}\\n```\')'
    outcome, _ = take(script, format="text", kind="review")
    assert outcome.result == {"verdict": "ask"}


LONG = """
import json, sys
text = "x" * 3_000_000
content = [{"type": "text", "text": text}, {"type": "tool_use", "name": "Write",
           "input": {"file_path": "calc.py", "content": text}}]
for _ in range(3):
    print(json.dumps({"type": "assistant", "message": {"content": content[:1]}}))
    print(json.dumps({"type": "assistant", "message": {"content": content[1:]}}))
print('{"type":"assistant","message":{"content":"' + "y" * 9_000_000 + '"}}')
print(json.dumps({"type": "result", "result": "Fine.", "is_error": False,
                  "usage": {"input_tokens": 5, "output_tokens": 7}}))
"""


def test_lines_of_megabytes_are_read_and_cut(take):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome, rows = take(LONG, format="claude-stream-json")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert outcome.result == {"summary": "Fine."}
    assert [kind for kind, _ in rows][:6] == ["message", "tool"] * 3
    assert all(len(json.dumps(data)) <= 64_000 for _, data in rows)
    assert grown < 120  # MB; the stream has 27


LEAKY = f"""
import base64, json, os, sys
key = os.environ["ANTHROPIC_API_KEY"]
assert key == {KEY!r}
print(json.dumps({{"event": "message", "text": "my key is " + key + " \\0\\ud800"}}))
coded = base64.b64encode(key.encode()).decode()
print(json.dumps({{"event": "tool", "name": "bash", "path": coded}}))
print("x" * 19_990 + key)
print(json.dumps({{"tutti": {{"summary": key, "deep": [key]}}}}))
sys.exit("failed with " + key)
"""


def test_agent_gets_its_key_and_nothing_that_is_kept_holds_it(take):
    with pytest.raises(Failed, match=r"failed with \[redacted\]") as error:
        take(LEAKY)
    kept = json.dumps(error.value.rows) + str(error.value)
    for form in (KEY, KEY[:10], base64.b64encode(KEY.encode()).decode()):
        assert form not in kept
    assert error.value.rows[0][1]["text"] == "my key is [redacted] \u2400\ufffd"
    assert error.value.rows[-1] == (
        "result", {"data": {"summary": "[redacted]", "deep": ["[redacted]"]}},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"format": "xml"}, "format is one of"),
        ({"env": "HOME"}, "env is a list"),
        ({"env": ["DATABASE_URL"]}, "DATABASE_URL is the server's own"),
        ({"env": ["TUTTI_SECRET_KEYS"]}, "the server's own"),
        ({"readable": ["/"]}, "holds Tutti's own data"),
    ],
)
def test_settings_that_would_not_do_are_refused(settings, says):
    assert says in str(BACKEND.problem({"command": ["agent"], **settings}))


def test_secret_keys_can_be_made_readable_by_no_profile(settings, tutti_home):
    for path in (tutti_home, tutti_home / "secret_keys", tutti_home.parent):
        problem = BACKEND.problem({"command": ["agent"], "readable": [str(path)]})
        assert "holds Tutti's own data" in str(problem)
    assert BACKEND.problem({"command": ["agent"], "readable": ["/opt/agent"]}) is None
