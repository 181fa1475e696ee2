"""A model API behind a role, over real HTTP and with edits in the real sandbox."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from decimal import Decimal
from typing import Any

import pytest

from agents.backends.base import BackendError, Kept, Turn
from agents.backends.llm import LlmBackend
from agents.backends.llm_answers import Edit, EditError, edited
from tests.agents.llmstub import IN, OUT, Refusal, Stub

SECRET = "sk-very-secret-key"
APPROVE = {"verdict": "approve", "summary": "As the contract says.", "findings": []}


class Stage:
    """A workspace, a model API that answers from a script, and turns of the backend."""

    def __init__(self, folder):
        self.workspace, self.home = folder / "ws", folder / "agent"
        self.workspace.mkdir()
        self.home.mkdir()
        self.events, self.kept, self.stubs = [], Kept(), []
        self.order = None

    def stub(self, *answers, key="", script=None):
        """Answers in their order, the last one again and again."""
        left = list(answers)

        def play(body):
            said = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(said, Refusal):
                raise said
            return said

        made = Stub(script or play, key)
        self.stubs.append(made)
        return made

    def turn(self, stub, kind="review", text="Judge it.", *, files=None, owns=("a.py", "src/**"),
             key="", follow_up="", model="small", **settings):  # fmt: skip
        values = {"base_url": stub.url if isinstance(stub, Stub) else stub, **settings}
        for path, content in (files or {}).items():
            if content is not None:
                place = self.workspace / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(content)
        turn = Turn(text, "m", kind, "orchestrator", 1, model, self.workspace, self.home, values,
                    owns=owns, files=files or {}, kept=self.kept, follow_up=follow_up,
                    secrets={"KEY": key} if key else {})  # fmt: skip
        return LlmBackend().run(turn, lambda *event: self.events.append(event), lambda: self.order)

    def fails(self, *args, **options) -> BackendError:
        with pytest.raises(BackendError) as caught:
            self.turn(*args, **options)
        return caught.value


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    for stub in made.stubs:
        stub.close()


def test_a_verdict_comes_as_data_with_exact_usage(stage):
    found = {"path": "a.py", "line": 3, "clause": "provides", "message": "It says no."}
    stub = stage.stub({"verdict": "rebuild", "summary": "Not yet.", "findings": [found]})
    outcome = stage.turn(stub, temperature=0.2, max_tokens=700)
    assert outcome.result == {"verdict": "rebuild", "summary": "Not yet.", "findings": [found]}
    assert (outcome.exit_code, outcome.usage.quality) == (0, "exact")
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (IN, OUT)
    assert outcome.usage.cost is None, "nobody knows the price of a model of one's own"
    (request,) = stub.requests
    assert (request["model"], request["temperature"]) == ("small", 0.2)
    assert request.get("max_tokens", request.get("max_completion_tokens")) == 700
    assert "Judge it." in stub.texts()
    kinds = [kind for kind, _ in stage.events]
    assert kinds == ["request", "usage", "message", "result"]


@pytest.mark.parametrize("text", [
    json.dumps(APPROVE),
    'I looked at it.\n{"tutti": ' + json.dumps(APPROVE) + "}",
    "```json\n" + json.dumps(APPROVE) + "\n```",
])  # fmt: skip
def test_an_answer_in_words_counts_too(stage, text):
    assert stage.turn(stage.stub(text)).result["verdict"] == "approve"


@pytest.mark.parametrize("output", ["native", "prompted"])
def test_the_structure_may_be_asked_for_in_other_ways(stage, output):
    stub = stage.stub(json.dumps(APPROVE))
    assert stage.turn(stub, output=output).result["verdict"] == "approve"
    assert "tools" not in stub.requests[0]


def test_what_does_not_fit_goes_back_to_the_model(stage):
    stub = stage.stub({"verdict": "perhaps", "summary": "Hm."}, "I can't decide.", APPROVE)
    outcome = stage.turn(stub)
    assert outcome.result["verdict"] == "approve"
    assert "'approve', 'fix', 'rebuild' or 'ask'" in stub.texts(1)
    assert "verdict: Field required" in stub.texts(2)
    assert outcome.usage.input_tokens == 3 * IN
    said = [data["text"] for kind, data in stage.events if kind == "message"]
    assert sum("did not fit" in text for text in said) == 2


def test_five_answers_that_do_not_fit_are_a_clear_failure(stage):
    stub = stage.stub({"verdict": "perhaps", "summary": "Hm."})
    error = stage.fails(stub)
    assert (error.kind, error.owner) == ("answer", "agent")
    assert "5 answers" in str(error) and "verdict" in str(error)
    assert len(stub.requests) == 5
    assert error.usage.input_tokens == 5 * IN


def test_edits_are_carried_out_in_the_sandbox(stage):
    files = {"a.py": "one\ntwo\nthree\n", "src/b.py": None}
    edits = [
        {"path": "a.py", "search": "two\n", "replace": "2\n"},
        {"path": "a.py", "search": "three", "replace": "3"},
        {"path": "src/new.py", "content": "x = 1\n"},
    ]
    outcome = stage.turn(stage.stub({"summary": "Mended.", "edits": edits}), "fix", files=files)
    assert outcome.result == {"summary": "Mended.", "edited": ["a.py", "src/new.py"]}
    assert (stage.workspace / "a.py").read_text() == "one\n2\n3\n"
    assert (stage.workspace / "src/new.py").read_text() == "x = 1\n"
    assert [data["path"] for kind, data in stage.events if kind == "write"] == [
        "a.py",
        "src/new.py",
    ]
    assert outcome.sandbox


def test_wrong_edits_go_back_and_nothing_is_written_before(stage):
    files = {"a.py": "one\none\n"}
    outside = {"path": "../b.py", "content": "x"}
    foreign = {"path": "b.py", "content": "x"}
    twice = {"path": "a.py", "search": "one", "replace": "1"}
    good = {"path": "a.py", "content": "1\n"}
    stub = stage.stub(*({"summary": "s", "edits": [edit]} for edit in
                        (outside, foreign, twice, good)))  # fmt: skip
    stage.turn(stub, "fix", files=files)
    assert "not a path inside the repository" in stub.texts(1)
    assert "not yours to change; you own a.py, src/**" in stub.texts(2)
    assert "occurs 2 times" in stub.texts(3) and "one\\\\none" in stub.texts(3)
    assert (stage.workspace / "a.py").read_text() == "1\n"
    assert not (stage.workspace.parent / "b.py").exists()


def test_a_link_in_the_workspace_leads_nowhere(stage):
    target = stage.home.parent / "target"
    target.write_text("safe")
    (stage.workspace / "src").symlink_to(target.parent)
    edit = {"path": "src/target", "content": "gone"}
    error = stage.fails(stage.stub({"summary": "s", "edits": [edit]}), "fix")
    assert error.kind == "exit"
    assert target.read_text() == "safe"


@pytest.mark.parametrize("edit, said", [
    ({"path": ".git/config", "content": "x"}, "inside the repository"),
    ({"path": "src//a", "content": "x"}, "inside the repository"),
    ({"path": "/etc/passwd", "content": "x"}, "inside the repository"),
    ({"path": "src/hidden", "content": "x"}, "not shown"),
    ({"path": "src/none", "search": "a", "replace": "b"}, "no file"),
    ({"path": "a.py", "content": "same"}, "change nothing"),
])  # fmt: skip
def test_edits_that_can_not_be(edit, said):
    files = {"a.py": "same", "src/hidden": None}
    with pytest.raises(EditError, match=said):
        edited([Edit.model_validate(edit)], files, ["**"])


def test_a_goal_becomes_a_typed_plan(stage):
    module = {"slug": "a", "owns": ["a.py"], "checks": ["true"], "tests": ["tests/**"]}
    bad = {"summary": "s", "plan": {"modules": [{**module, "colour": "red"}]}}
    stub = stage.stub(bad, {"summary": "s", "plan": {"modules": [module]}})
    outcome = stage.turn(stub, "decompose")
    assert outcome.result["plan"]["modules"][0]["tests"] == {"paths": ["tests/**"], "given": False}
    assert "colour" in stub.texts(1) and "Extra inputs are not permitted" in stub.texts(1)


def test_the_next_turn_of_a_run_goes_on_in_the_same_conversation(stage):
    stub = stage.stub(APPROVE)
    stage.turn(stub, text="The whole story.")
    stage.turn(stub, text="The whole story, again.", follow_up="Only what is new.")
    said = stub.texts(1)
    assert "The whole story." in said and "Only what is new." in said
    assert "again" not in said
    stage.turn(stub, text="Another model's.", follow_up="New.", model="other")
    assert "Another model's." in stub.texts(2) and "whole story" not in stub.texts(2)


# --- Refusals ------------------------------------------------------------------------------------


def test_too_many_requests_are_told_at_once_and_never_tried_again(stage):
    stub = stage.stub(Refusal(429, "Rate limit reached", Retry_After="7"))
    began = time.monotonic()
    error = stage.fails(stub)
    assert (error.kind, error.owner, error.retry_after) == ("rate_limited", "provider", 7.0)
    assert len(stub.requests) == 1
    assert time.monotonic() - began < 7


@pytest.mark.parametrize("refusal, kind, owner", [
    (Refusal(429, "You exceeded your current quota", "insufficient_quota"),
     "exhausted", "provider"),
    (Refusal(402, "Payment required"), "exhausted", "provider"),
    (Refusal(503, "Overloaded"), "overloaded", "provider"),
    (Refusal(500, "Internal error"), "overloaded", "provider"),
    (Refusal(404, "The model `small` does not exist", "model_not_found"), "settings", "tutti"),
    (Refusal(400, "Unsupported value: temperature"), "settings", "tutti"),
    (Refusal(400, "maximum context length is 8 tokens", "context_length_exceeded"),
     "settings", "tutti"),
])  # fmt: skip
def test_each_refusal_has_its_owner(stage, refusal, kind, owner):
    stub = stage.stub(refusal)
    error = stage.fails(stub)
    assert (error.kind, error.owner) == (kind, owner), error
    assert len(stub.requests) == 1


def test_a_wrong_key_is_said_and_never_shown(stage):
    stub = stage.stub(APPROVE, key="sk-the-right-key")
    error = stage.fails(stub, key=SECRET)
    assert (error.kind, error.owner) == ("signed_out", "provider")
    assert stub.keys == [SECRET]
    assert SECRET not in str(error) + str(stage.events)
    assert "Enter the account's key" in str(error)


def test_the_servers_own_key_goes_nowhere_by_itself(stage, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    stub = stage.stub(APPROVE)
    stage.turn(stub)
    stage.turn(stub, env=["OPENAI_API_KEY"])
    assert stub.keys == ["none", SECRET]
    turn = Turn("t", "m", "review", "o", 1, "openai:gpt-6-luna", stage.workspace, stage.home, {})
    with pytest.raises(BackendError, match="no key for openai"):
        LlmBackend().run(turn, lambda *event: None, lambda: None)


def test_an_unknown_model_names_the_model_and_the_place(stage):
    error = stage.fails(stage.stub(Refusal(404, "no such model")), model="gpt-nine")
    assert "gpt-nine" in str(error) and "/v1" in str(error) and "profile" in str(error)
    turn = Turn("t", "m", "review", "o", 1, "nobody:x", stage.workspace, stage.home, {})
    with pytest.raises(BackendError, match="nobody"):
        LlmBackend().run(turn, lambda *event: None, lambda: None)


def test_a_wrong_address_says_what_to_look_at(stage):
    stub = stage.stub(APPROVE)
    stub.close()
    error = stage.fails(stub.url)
    assert (error.kind, error.owner) == ("settings", "tutti")
    assert "could not be reached" in str(error) and "URL" in str(error)
    error = stage.fails(stage.stub(APPROVE).url.replace("/v1", "/v2"))
    assert (error.kind, error.owner) == ("settings", "tutti")


def test_an_answer_that_never_comes_ends_by_the_time_limit(stage):
    stub = stage.stub("x")
    stub.script = stub.hang
    error = stage.fails(stub, timeout_seconds=0.5)
    assert (error.kind, error.owner) == ("overloaded", "provider")
    assert len(stub.requests) == 1


def test_a_stop_reaches_a_request_that_hangs(stage):
    stub = stage.stub("x")
    stub.script = stub.hang
    asked = []

    def stop():
        asked.append(time.monotonic())
        return "stopped" if stub.requests else None

    turn = Turn("t", "m", "review", "o", 1, "small", stage.workspace, stage.home,
                {"base_url": stub.url})  # fmt: skip
    outcome = LlmBackend().run(turn, lambda *event: None, stop)
    assert (outcome.exit_code, outcome.result) == (None, {})
    assert time.monotonic() - asked[-1] < 5


def test_settings_are_judged_before_anything_is_sent():
    problem = LlmBackend().problem
    assert problem({"base_url": "http://127.0.0.1:1/v1", "temperature": 0, "max_tokens": 9}) is None
    for url in ("ftp://a/v1", "http://", 7, "http://user:key@host/v1", "http://[", "x",
                  "http://169.254.169.254/latest"):  # fmt: skip
        assert problem({"base_url": url}), url
    settings: list[dict[str, Any]] = [
        {"temperature": 3}, {"max_tokens": 1.5}, {"timeout_seconds": 0},
        {"output": "x"}, {"url": "x"}, {"env": ["TUTTI_KEYS"]}, {"temperature": True},
    ]  # fmt: skip
    for wrong in settings:
        assert problem(wrong), wrong


def test_it_does_no_agents_work(stage):
    error = stage.fails(stage.stub(APPROVE), "build")
    assert error.kind == "settings" and "Choose an agent" in str(error)


def test_a_start_of_the_server_does_not_wait_for_the_library():
    code = "import sys, agents.backends.llm; print('pydantic_ai' in sys.modules)"
    env = {"DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_a_known_price_is_the_librarys_and_a_server_of_ones_own_has_none(stage):
    from pydantic_ai.usage import RunUsage

    from agents.backends.llm_talk import Talk

    turn = Turn("t", "m", "review", "o", 1, "x", stage.workspace, stage.home, {})
    talk = Talk(turn, [], "t")
    assert talk.usage().quality == "unknown" and talk.usage().input_tokens is None
    talk.spent = RunUsage(requests=1, input_tokens=10, output_tokens=2, cost=Decimal("0.0125"))
    assert (talk.usage().cost, talk.usage().currency) == (0.0125, "USD")
    assert stage.turn(stage.stub(APPROVE), model="gpt-4o").usage.cost is None


def test_what_a_stopped_or_failed_turn_used_is_still_counted(stage):
    stub = stage.stub({"verdict": "perhaps", "summary": "Hm."}, Refusal(503, "Overloaded"))
    error = stage.fails(stub)
    assert (error.kind, error.usage.input_tokens, error.usage.quality) == (
        "overloaded", IN, "estimated",
    )  # fmt: skip


def test_an_endless_answer_ends_the_turn_alone(stage, monkeypatch):
    from agents.backends import llm_models

    monkeypatch.setattr(llm_models, "LARGEST_ANSWER", 10_000)
    error = stage.fails(stage.stub(b'{"id": "' + b"x" * 20_000 + b'"}'))
    assert error.owner == "tutti" and "longer than" in str(error)


@pytest.mark.parametrize("raw", [b"<html>Welcome</html>", b"", b"[]", b'{"choices": []}'])
def test_what_is_no_model_api_is_no_answer(stage, raw):
    error = stage.fails(stage.stub(raw))
    assert (error.kind, error.owner) == ("settings", "tutti")
    assert "does not answer as a model API" in str(error)


def test_a_redirect_is_not_followed_with_the_key(stage):
    other = stage.stub(APPROVE)
    stub = stage.stub(Refusal(307, "Moved", Location=f"{other.url}/chat/completions"))
    error = stage.fails(stub, key=SECRET)
    assert (error.kind, other.requests) == ("settings", [])


def test_a_local_server_without_its_address_is_asked_for_it(stage):
    turn = Turn("t", "m", "review", "o", 1, "ollama:llama3:8b", stage.workspace, stage.home, {})
    with pytest.raises(BackendError, match="give base_url"):
        LlmBackend().run(turn, lambda *event: None, lambda: None)
