"""Real agents' own command lines: what they print is read as their format's table says."""

from __future__ import annotations

import json

import pytest

from agents.backends.base import Turn
from agents.backends.command import CommandBackend
from tests.agents.modelstub import ANSWER_TOKENS, PROMPT_TOKENS, ModelStub
from tests.agents.realagents import Crew
from tests.agents.test_acp_opencode import PRICE, config, program, script  # noqa: F401 - a fixture

pytestmark = pytest.mark.timeout(600)
BOTH = (2 * PROMPT_TOKENS, 2 * ANSWER_TOKENS, "exact")


@pytest.mark.parametrize(
    ("agent", "tool"),
    [
        ("claude", {"name": "Write", "path": "hello.txt"}),
        ("codex", {"name": "command_execution", "text": "/bin/sh -lc 'echo hello > hello.txt'"}),
        ("gemini", {"name": "write_file", "path": "hello.txt"}),
        ("qwen", {"name": "write_file", "path": "hello.txt"}),
    ],
)
def test_its_lines_become_events_usage_session_and_answer(tutti_home, tmp_path, agent, tool):
    crew = Crew(agent, tmp_path)
    if agent == "gemini":
        # Where its address is another one, it wants to be told that the key is for that.
        settings = {"security": {"auth": {"selectedType": "gemini-api-key"}}}
        (crew.home / ".gemini").mkdir()
        (crew.home / ".gemini" / "settings.json").write_text(json.dumps(settings))
    try:
        outcome = crew.command()
    finally:
        crew.close()
    assert crew.hello.read_text() == "hello\n"
    assert outcome.result == {"summary": "hello is there"}
    assert crew.of("tool") == [tool]
    assert "It is written." in "".join(data["text"] for data in crew.of("message"))
    used = outcome.usage
    assert (used.input_tokens, used.output_tokens, used.quality) == BOTH
    assert outcome.session
    # Codex knows nothing of the stub's model, and says so.
    assert [data["item"]["type"] for data in crew.of("other")] == ["error"] * (agent == "codex")


def test_opencodes_steps_are_added_up(tutti_home, tmp_path, program):  # noqa: F811
    stub, rows = ModelStub(script), []
    for name in ("ws", "agent"):
        (tmp_path / name).mkdir()
    settings = {
        "command": ["opencode", "run", "--format", "json", "--model", "{model}"],
        "format": "opencode-json",
        "readable": [str(program.parent)],
        "variables": {"OPENCODE_CONFIG_CONTENT": config(stub.url, "allow"),
                      "OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"},
    }  # fmt: skip
    turn = Turn("Write hello.txt.", "m", "build", "executor", 1, "stub/big", tmp_path / "ws",
                tmp_path / "agent", settings, network=True)  # fmt: skip
    try:
        outcome = CommandBackend().run(turn, lambda *row: rows.append(row), lambda: None)
    finally:
        stub.close()
    assert (tmp_path / "ws" / "hello.txt").read_text() == "hello\n"
    assert outcome.result == {"summary": "hello is there"}
    assert [kind for kind, _ in rows] == ["tool", "message", "usage", "result"]
    assert rows[0][1] == {"name": "write", "path": "hello.txt"}
    # More than it tells over the protocol: every step, and its cost.
    used = outcome.usage
    assert (used.input_tokens, used.output_tokens, used.quality) == BOTH
    step = (PROMPT_TOKENS * PRICE["input"] + ANSWER_TOKENS * PRICE["output"]) / 1_000_000
    assert used.cost == pytest.approx(2 * step)
    assert outcome.session.startswith("ses_")
