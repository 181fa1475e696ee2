"""OpenCode, as npm has it, over the Agent Client Protocol against a model stub on the loopback."""

from __future__ import annotations

import json

import pytest

from agents import sandbox
from agents.backends.acp import AcpBackend
from agents.backends.base import BackendError, Kept, Turn
from tests.agents import npm
from tests.agents.modelstub import ANSWER_TOKENS, PROMPT_TOKENS, ModelStub

PRICE = {"input": 1.0, "output": 2.0, "cache_read": 0.1}
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def program():
    return npm.program(npm.OPENCODE, "opencode-*/bin/opencode")


@pytest.fixture
def stub():
    found = ModelStub(script)
    yield found
    found.close()


def script(messages):
    """First write the file, then say what was done."""
    if messages[-1]["role"] == "tool":
        return 'It is written.\n{"tutti": {"summary": "hello is there"}}'
    return "write", {"filePath": "hello.txt", "content": "hello\n"}


def config(url, permission, bash="deny"):
    model = {"name": "Stub", "limit": {"context": 100_000, "output": 4_000}, "cost": PRICE}
    return json.dumps(
        {
            "model": "stub/small",
            "small_model": "stub/small",
            "enabled_providers": ["stub"],
            "permission": {"edit": permission, "bash": bash, "webfetch": "deny"},
            "provider": {
                "stub": {
                    "npm": "@ai-sdk/openai-compatible",
                    "options": {"baseURL": url, "apiKey": "none"},
                    "models": {"small": model, "big": model},
                }
            },
        }
    )


class Crew:
    """One run's turns of OpenCode in a workspace of its own."""

    def __init__(self, program, stub, folder):
        self.program, self.stub = program, stub
        self.workspace, self.home = folder / "ws", folder / "agent"
        self.workspace.mkdir()
        self.home.mkdir()
        self.kept = Kept()
        self.events = []

    def turn(self, *, permission="allow", model="stub/big", session="", **settings):
        values = {
            "agent": "opencode",
            "command": [str(self.program), "acp"],
            "readable": [str(self.program.parent)],
            "variables": {"OPENCODE_CONFIG_CONTENT": config(self.stub.url, permission)},
            **settings,
        }
        turn = Turn("Write hello.txt.", "m", "build", "executor", 1, model, self.workspace,
                    self.home, values, network=True, session=session, owns=("hello.txt",),
                    kept=self.kept)  # fmt: skip
        return AcpBackend().run(turn, lambda *event: self.events.append(event), lambda: None)

    def of(self, kind):
        return [data for name, data in self.events if name == kind]


@pytest.fixture
def crew(tutti_home, tmp_path, program, stub):
    found = Crew(program, stub, tmp_path)
    yield found
    found.kept.close()


def test_it_works_says_what_it_used_and_goes_on_in_its_session(crew):
    first = crew.turn()
    assert first.sandbox == sandbox.level()
    assert (crew.workspace / "hello.txt").read_text() == "hello\n"
    assert first.result == {"summary": "hello is there"}
    assert {"tool", "context", "usage", "session"} <= {kind for kind, _ in crew.events}
    # It reports its last step alone, and the cost of both.
    used = first.usage
    assert (used.input_tokens, used.output_tokens) == (PROMPT_TOKENS, ANSWER_TOKENS)
    assert used.quality == "last_step"
    step = (PROMPT_TOKENS * PRICE["input"] + ANSWER_TOKENS * PRICE["output"]) / 1_000_000
    assert used.cost == pytest.approx(2 * step)
    assert {body["model"] for body in crew.stub.requests if body.get("tools")} == {"big"}

    again = crew.turn()
    assert again.session == first.session
    assert again.usage.cost == pytest.approx(2 * step)

    crew.kept.close()
    before = len(crew.events)
    loaded = crew.turn(session=first.session)
    assert loaded.session == first.session
    assert not [data for kind, data in crew.events[before:] if kind == "user"]
    # The session's cost so far is not told again: this turn's share is unknown, and not zero.
    assert loaded.usage.cost is None
    assert loaded.usage.input_tokens == PROMPT_TOKENS


def test_it_asks_and_is_answered_by_the_policy(crew):
    crew.turn(permission="ask")
    assert [data["answer"] for data in crew.of("permission")] == ["allow"]
    assert (crew.workspace / "hello.txt").exists()
    crew.kept.close()
    crew.events.clear()
    (crew.workspace / "hello.txt").unlink()
    crew.turn(permission="ask", permissions="deny")
    assert [data["answer"] for data in crew.of("permission")] == ["reject"]
    assert not (crew.workspace / "hello.txt").exists()


def test_silent_retries_end_by_the_inactivity_limit(crew):
    crew.stub.status = 429
    with pytest.raises(BackendError) as caught:
        crew.turn(idle_seconds=6, cancel_seconds=3)
    assert caught.value.kind in ("idle", "rate_limited")


def test_an_unknown_model_says_which_there_are(crew):
    with pytest.raises(BackendError, match="stub/small"):
        crew.turn(model="stub/none")
