"""An agent over the Agent Client Protocol, in the real sandbox, whatever it does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agents import sandbox
from agents.backends import acp
from agents.backends.acp import AcpBackend
from agents.backends.acp_events import error_of, usage_of
from agents.backends.acp_guest import decide
from agents.backends.agents_known import KNOWN
from agents.backends.base import BackendError, Kept, Turn, joined
from agents.startslots import start_slot
from tests.living import left_behind, living
from tests.wait import until

AGENT = Path(__file__).with_name("acp_agent.py")


class Stage:
    """A workspace, and an agent's turns in it with everything that it said."""

    def __init__(self, folder: Path) -> None:
        self.workspace, self.home = folder / "ws", folder / "agent"
        self.workspace.mkdir()
        self.home.mkdir()
        # A copy of its own tells its processes from those of tests that run at the same time.
        self.agent = Path(shutil.copy(AGENT, folder))
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.kept = Kept()
        self.order: str | None = None
        self.seconds = 0.0

    def turn(
        self,
        text,
        *words,
        ask=None,
        model="",
        session="",
        follow_up="",
        secrets=None,
        mcp_servers=(),
        steers=None,
        **settings,
    ):
        command = [sandbox.python(), "-I", "-S", str(self.agent), *words]
        values = {
            "command": command,
            "readable": [str(self.agent)],
            "start_seconds": 30,
            **settings,
        }
        turn = Turn(text, "m", "build", "executor", 1, model, self.workspace, self.home, values,
                    session=session, follow_up=follow_up, owns=("owned.txt", "src/**"),
                    kept=self.kept, ask=ask, secrets=secrets or {},
                    mcp_servers=mcp_servers, steers=steers)  # fmt: skip
        began = time.monotonic()
        try:
            return AcpBackend().run(turn, self.hear, lambda: self.order)
        finally:
            self.seconds = time.monotonic() - began

    def fails(self, *args, **options) -> BackendError:
        with pytest.raises(BackendError) as caught:
            self.turn(*args, **options)
        return caught.value

    def hear(self, kind, data):
        self.events.append((kind, data))

    def of(self, kind):
        return [data for name, data in self.events if name == kind]

    @property
    def said(self):
        return "".join(data["text"] for data in self.of("message"))

    def stop_soon(self) -> threading.Thread:
        """Order a stop once the agent's session is open."""

        def order():
            until(lambda: self.of("session"))
            self.order = "stopped: enough"

        thread = threading.Thread(target=order)
        thread.start()
        return thread

    def answers(self):
        return [data["answer"] for data in self.of("permission")]


class Person:
    """Answers an agent's questions by a function of all that was asked so far."""

    def __init__(self, says):
        self.says, self.asked, self.withdrawn = says, [], []

    def answer(self, question):
        self.asked.append(question)
        return self.says(self.asked)

    def withdraw(self, question):
        self.withdrawn.append(question)


@pytest.fixture
def stage(tutti_home, tmp_path):
    found = Stage(tmp_path)
    yield found
    found.kept.close()
    assert left_behind(found.agent) == []


def test_a_turn_gives_its_answer_usage_and_cost(stage):
    outcome = stage.turn("write", model="big", mode="plan")
    assert outcome.result == {"summary": "done", "words": 1}
    usage = outcome.usage
    assert (usage.input_tokens, usage.output_tokens, usage.quality) == (150, 15, "estimated")
    assert (usage.cost, usage.currency, usage.source) == (0.25, "USD", "prompt.usage")
    assert (stage.workspace / "owned.txt").read_text() == "made\n"
    assert (stage.home / "set-model").read_text() == "big"
    assert (stage.home / "set-mode").read_text() == "plan"
    session = stage.of("session")[0]
    assert (session["agent"], session["version"]) == ("tester", "1.2")
    assert (session["models"], session["modes"]) == (["small", "big"], ["build", "plan"])
    assert outcome.sandbox == sandbox.level()


def test_every_kind_of_update_is_kept_and_unknown_ones_raw(stage):
    stage.turn("kinds")
    assert stage.of("thought") == [{"text": "I think"}]
    assert stage.of("plan")[0]["entries"][0]["content"] == "one"
    assert stage.of("tool")[0]["path"] == "a"
    assert stage.of("tool_update")[0]["status"] == "completed"
    names = {row["name"]: row["raw"] for row in stage.of("update")}
    assert names["brand_new_kind"]["deep"]["x"] == [1, "␀"]
    assert "available_commands_update" in names


def test_usage_that_is_unknown_is_never_zero(stage):
    usage = stage.turn("free").usage
    assert (usage.input_tokens, usage.cost, usage.quality) == (None, None, "unknown")
    usage = stage.turn("meta").usage
    assert (usage.input_tokens, usage.output_tokens, usage.quality) == (70, 7, "exact")


def test_one_process_takes_the_turns_of_a_run_and_remembers(stage):
    first = stage.turn("one", follow_up="again")
    second = stage.turn("one", follow_up="again")
    assert first.session == second.session
    assert second.usage.cost == 0.25
    assert len({line for line in stage.said.splitlines() if line.startswith("pid")}) == 2
    assert "prompts 2" in stage.said
    assert "again" in (stage.home / "sessions.json").read_text()
    assert len(living(stage.agent)) > 0
    stage.kept.close()
    assert left_behind(stage.agent) == []


def test_a_session_survives_the_death_of_its_process(stage):
    first = stage.turn("one")
    stage.kept.close()
    stage.events.clear()
    second = stage.turn("two", session=first.session)
    assert second.session == first.session
    assert "prompts 2" in stage.said
    assert "OLD ANSWER" not in stage.said


def test_an_agent_that_only_resumes_goes_on_in_its_session_too(stage):
    first = stage.turn("one", "resumes")
    stage.kept.close()
    stage.events.clear()
    second = stage.turn("two", "resumes", session=first.session)
    assert second.session == first.session
    assert "prompts 2" in stage.said
    # What the session had cost before is not known, so neither is the turn's part of it.
    assert (first.usage.cost, second.usage.cost) == (0.25, None)


def test_no_more_agents_start_at_once_than_the_host_may(tutti_home, settings):
    settings.TUTTI_STARTS_PER_HOST = 1
    is_in = threading.Event()
    orders: list[str | None] = [None]

    def start():
        with start_slot(lambda: orders[0]):
            is_in.set()

    for order in (None, "stopped: enough"):
        is_in.clear()
        waiting = threading.Thread(target=start)
        with start_slot(lambda: None):
            waiting.start()
            assert not is_in.wait(0.2)
            orders[0] = order
            # A stop ends the wait; without one it goes on until the other has started.
            assert is_in.wait(10 if order else 0.1) == bool(order)
        waiting.join(10)
        assert is_in.is_set()


def test_an_agent_that_knows_the_session_no_more_gets_a_new_one(stage):
    assert stage.turn("one", session="s-gone").session != "s-gone"


@pytest.mark.parametrize("word", ["trickle", "stderr", "strays", "giant", "daemon"])
def test_noise_does_no_harm(stage, word):
    assert stage.turn(word).result["summary"] == "done"
    if word == "trickle":
        assert len(stage.of("message")) < 100
        assert "1999" in stage.said
    if word == "strays":
        assert len(stage.of("stray")) == 4


@pytest.mark.parametrize(
    ("word", "kind", "says"),
    [
        ("die", "exit", "something went very wrong"),
        ("kill", "signal", "signal 9"),
        ("babble", "protocol", "no messages"),
        ("boom", "agent_error", "it broke"),
        ("nonsense", "protocol", "broke the protocol"),
        ("refusal", "refusal", "refused"),
        ("max_tokens", "max_tokens", "limit of tokens"),
        ("max_turn_requests", "max_turn_requests", "model requests"),
    ],
)
def test_a_turn_that_fails_says_why(stage, word, kind, says):
    error = stage.fails(word)
    assert (error.kind, error.owner) == (kind, "agent")
    assert says in str(error)
    assert left_behind(stage.agent) == []


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("rate", "rate_limited"),
        ("over", "overloaded"),
        ("used", "exhausted"),
        ("auth", "signed_out"),
    ],
)
def test_what_the_provider_refuses_is_the_providers_fault(stage, word, kind):
    error = stage.fails(word)
    assert (error.kind, error.owner) == (kind, "provider")


@pytest.mark.parametrize("word", ["flood", "endless"])
def test_an_agent_that_floods_is_ended(stage, word):
    error = stage.fails(word, output_mb=8)
    # A line without end breaks the protocol's bound, or the sandbox's, whichever is seen first.
    assert error.kind in (("output",) if word == "flood" else ("output", "protocol"))
    assert stage.seconds < 20


def test_requests_without_end_are_ended(stage):
    assert stage.fails("requests").kind == "protocol"


def test_a_hanging_agent_ends_by_its_limits(stage):
    limits = {"idle_seconds": 0.5, "cancel_seconds": 0.3}
    assert stage.fails("hang", **limits).kind == "idle"
    # What it told on standard error alone shows whose silence it was.
    error = stage.fails("refused", **limits | {"idle_seconds": 2})
    assert (error.kind, error.owner) == ("rate_limited", "provider")
    limits = {"timeout_seconds": 0.5, "cancel_seconds": 0.3}
    assert stage.fails("hang", **limits).kind == "timeout"
    # In the sandbox the shell around it holds the pipe open, so that this looks like silence.
    limits = {"idle_seconds": 0.5, "cancel_seconds": 0.3}
    assert stage.fails("shut", **limits).kind in ("idle", "protocol")


def test_an_agent_that_ignores_term_is_killed(stage):
    error = stage.fails("deaf", idle_seconds=0.5, cancel_seconds=0.3)
    assert error.kind == "idle"
    assert stage.seconds < 15


def test_too_much_memory_ends_the_agent(stage):
    error = stage.fails("memory", memory_mb=200)
    assert error.kind == "out_of_memory"
    assert "200 MB" in str(error)


@pytest.mark.parametrize("word", ["wait", "late"])
def test_a_stop_cancels_the_turn(stage, word):
    timer = stage.stop_soon()
    outcome = stage.turn(word)
    timer.join()
    assert outcome.exit_code is None
    assert outcome.session
    assert stage.seconds < 20
    assert ("still working" in stage.said) == (word == "late")


def test_a_stop_ends_an_agent_that_does_not_listen(stage):
    timer = stage.stop_soon()
    outcome = stage.turn("deaf", cancel_seconds=0.3)
    timer.join()
    assert outcome.exit_code is None
    stage.kept.close()


def test_a_stop_while_the_agent_starts_ends_it(stage):
    stage.order = "stopped: enough"
    assert stage.turn("one", "hang").exit_code is None


def test_permission_follows_the_policy_and_the_owned_paths(stage):
    own, other = f"edit:{stage.workspace}/owned.txt", f"edit:{stage.workspace}/foreign.txt"
    stage.turn(f"{own} {other} edit:/etc/passwd execute:x")
    assert stage.answers() == ["allow", "reject", "reject", "allow"]
    assert "[y1]" in stage.said
    assert "[n1]" in stage.said
    stage.events.clear()
    stage.turn(own, permissions="deny")
    assert stage.answers() == ["allow"]  # The run's agent was started with its first policy.
    stage.kept.close()
    stage.events.clear()
    stage.turn(own, permissions="deny")
    assert stage.answers() == ["reject"]


def test_a_person_is_asked_and_a_silent_one_is_a_no(stage):
    person = Person(lambda asked: True if len(asked) > 3 else None)
    stage.turn("edit:owned.txt", permissions="ask", ask=person)
    assert stage.answers() == ["allow"]
    assert person.asked[0].paths == ("owned.txt",)
    stage.kept.close()
    stage.events.clear()
    person = Person(lambda _: None)
    stage.turn("edit:owned.txt", permissions="ask", ask=person, ask_seconds=0.3)
    assert stage.answers()[-1] == "reject"
    assert person.withdrawn == person.asked[:1]
    stage.kept.close()
    stage.events.clear()
    stage.turn("edit:owned.txt", permissions="ask")
    assert stage.answers() == ["reject"]


def test_an_open_question_is_cancelled_with_the_turn(stage):
    person = Person(lambda _: setattr(stage, "order", "stopped: enough"))
    stage.turn("edit:owned.txt", permissions="ask", ask=person)
    assert stage.answers() == ["cancelled"]
    assert "[cancelled]" in stage.said


def test_files_are_read_and_written_only_in_the_workspace(stage):
    stage.turn("files")
    assert stage.said.count("[refused]") == 5
    assert stage.said.count("[wrote]") == 1
    assert (stage.workspace / "owned.txt").read_text() == "w\n"
    assert not (stage.workspace / "foreign.txt").exists()
    assert not (stage.workspace.parent / "x").exists()


def test_sign_in_by_a_key_or_a_sentence_that_says_what_to_do(stage):
    error = stage.fails("one", "locked")
    assert (error.kind, error.owner) == ("signed_out", "provider")
    assert "run my-agent login" in str(error)
    assert stage.turn("one", "locked", secrets={"AGENT_KEY": "k" * 20}).result["summary"] == "done"


def test_bad_settings_say_what_to_do(stage):
    assert "small, big" in str(stage.fails("one", model="huge"))
    assert "has no option" in str(stage.fails("one", options={"effort": "high"}))
    error = stage.fails("one", command=["no-such-agent", "acp"])
    assert error.kind == "not_installed"
    assert "no-such-agent is not installed" in str(error)
    error = stage.fails("one", "babble")
    assert error.kind == "protocol"
    error = stage.fails("one", "hang", start_seconds=0.5)
    assert "did not answer as an ACP agent" in str(error)
    assert "version 9" in str(stage.fails("one", "version"))
    backend = AcpBackend()
    assert "Give the command" in str(backend.problem({}))
    assert "choose one of" in str(backend.problem({"agent": "nobody"}))
    assert "no agent" in str(backend.problem({"agent": "opencode", "env": ["DATABASE_URL"]}))
    assert backend.problem({"agent": "opencode"}) is None
    preload = {"agent": "opencode", "variables": {"LD_PRELOAD": "/ws/evil.so"}}
    assert "LD_PRELOAD" in str(backend.problem(preload))


def test_nothing_of_the_servers_environment_reaches_the_agent(stage, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    stage.turn("environment", variables={"OWN": "1"})
    assert "OWN" in stage.said
    assert "DATABASE_URL" not in stage.said


def test_a_secret_is_in_no_row_wherever_the_agent_cuts_it(stage):
    outcome = stage.turn("leak", secrets={"AGENT_TOKEN": "s3cret-key-1234567890"})
    assert "[redacted]" in stage.said
    assert "s3cret-key" not in str(stage.events)
    assert "key-1234567890" not in str(stage.events)
    assert "1234567890" not in str(outcome)


def test_an_agent_that_died_between_two_turns_is_started_again(stage):
    first = stage.turn("one")
    for pid in living(stage.agent):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not stage.kept.is_alive)
    second = stage.turn("two", session=first.session)
    assert second.session == first.session
    assert "prompts 2" in stage.said


def test_errors_of_providers_are_told_apart():
    def kind(text):
        return error_of(None, text, None, "A", "").kind

    assert kind("RESOURCE_EXHAUSTED: rate limit") == "rate_limited"
    assert kind("insufficient_quota: check your plan") == "exhausted"
    assert kind("503 Service Unavailable") == "overloaded"
    assert kind("Invalid API key provided") == "signed_out"
    assert kind("file not found") == "agent_error"


def test_what_counts_of_tokens_is_taken_as_it_is():
    assert usage_of({"usage": {"inputTokens": -1, "outputTokens": 2}}, "exact").quality == "unknown"
    whole = {
        "usage": {"inputTokens": 9, "outputTokens": 2, "cachedReadTokens": 5, "totalTokens": 11}
    }
    assert usage_of(whole, "exact").input_tokens == 9


def test_a_sum_is_as_good_as_its_worst_part():
    assert [joined("", one) for one in ("exact", "unknown")] == ["exact", "unknown"]
    assert joined("exact", "exact") == "exact"
    assert joined("last_step", "exact") == joined("estimated", "last_step") == "last_step"
    assert joined("exact", "estimated") == "estimated"
    assert joined("exact", "unknown") == joined("unknown", "exact") == "last_step"


def test_nothing_outside_the_owned_paths_is_allowed():
    assert decide("allow", "edit", ["src/a.py"], ["src/**"]) == "allow"
    assert decide("ask", "edit", ["b.py"], ["src/**"]) == "deny"
    assert decide("allow", "move", ["src/a.py", ""], ["src/**"]) == "deny"
    assert decide("ask", "execute", [], ["src/**"]) == "ask"
    assert decide("ask", "read", ["b.py"], []) == "allow"


def test_every_known_agent_says_how_to_get_and_sign_in():
    for known in KNOWN.values():
        assert known.install
        assert known.sign_in
        assert known.trust in ("exact", "last_step", "estimated", "unknown")


NOWHERE = "http://127.0.0.1:9/mcp"
SERVERS = ({"type": "http", "name": "tutti", "url": NOWHERE, "headers": {"A": "b"},
            "command": sandbox.python(), "args": ["-I", "-S", str(acp.BRIDGE)],
            "env": {"TUTTI_MCP_TOKEN": "t", "TUTTI_MCP_URL": NOWHERE}},)  # fmt: skip


@pytest.mark.parametrize("words", [(), ("nohttp",)])
def test_an_agent_gets_mcp_over_http_or_else_a_bridge_that_starts(stage, words):
    stage.turn("servers", *words, mcp_servers=SERVERS)
    given = json.loads((stage.home / "servers.json").read_text())
    if words:
        assert (given[0]["command"], given[0]["args"][:2]) == (sandbox.python(), ["-I", "-S"])
        assert "can't be reached" in (stage.home / "bridge.json").read_text()
    else:
        assert (given[0]["type"], given[0]["headers"]) == ("http", [{"name": "A", "value": "b"}])
