"""A model API as the orchestrator: it cuts the goal, judges, and mends small errors itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User

from agents import recording
from agents.models import Run
from agents.services.profiles import profile_set
from projects import plancontent
from projects.services import plans
from projects.services.errors import Refused
from projects.services.proposals import proposal_ask
from tests.acceptance.stage import Turn, code, given, part
from tests.agents.llmstub import IN, OUT, Refusal, Stub

APPROVE = {"verdict": "approve", "summary": "Good.", "findings": []}


@pytest.fixture
def model():
    """A model API that answers with what `answers` holds, in that order."""
    answers: list[Any] = []

    def script(body):
        said = answers.pop(0)
        if isinstance(said, Refusal):
            raise said
        return said

    stub: Any = Stub(script)
    stub.answers = answers
    yield stub
    stub.close()


def orchestrated(stage, model, **settings):
    root, _ = User.objects.get_or_create(username="root", is_superuser=True)
    profile_set(stage.project, "orchestrator", "llm", "judge-1",
                {"base_url": model.url, **settings}, root)  # fmt: skip
    return stage


def test_it_sends_back_what_is_small_mends_it_and_approves(team, model):
    stage = orchestrated(team(given("a")), model)
    stage.play("a", "build", Turn({"a.py": code("a") + "# eror\n"}))
    finding = {"path": "a.py", "line": 3, "message": "It is spelled error."}
    edit = {"path": "a.py", "search": "# eror", "replace": "# error"}
    model.answers += [
        {"verdict": "fix", "summary": "A typo.", "findings": [finding]},
        {"summary": "Spelled right.", "edits": [{**edit, "path": "tests/test_a.py"}]},
        {"summary": "Spelled right.", "edits": [edit]},
        APPROVE,
    ]
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    assert stage.merged_file("a.py") == code("a") + "# error\n"
    assert stage.verdicts("a") == ["fix", "approve"]
    (fix,) = stage.runs("a", "fix")
    assert (fix.backend, fix.model, fix.turns) == ("llm", "judge-1", 1)
    sent = fix.assignments[0]["text"]
    assert "## a.py" in sent and "# eror" in sent and "It is spelled error." in sent
    assert "tests/test_a.py" not in sent.partition("# Files that you may change")[2]
    assert "not yours to change" in model.texts(2)
    assert (fix.input_tokens, fix.output_tokens) == (2 * IN, 2 * OUT)
    assert (fix.usage_quality, fix.cost) == ("exact", None)
    assert "+    return" in model.texts(0), "the diff that is judged"


def test_a_fix_that_stays_red_gets_the_findings_in_the_same_conversation(team, model):
    stage = orchestrated(team(given("a")), model)
    model.answers += [
        {"verdict": "fix", "summary": "Say it louder.", "findings": []},
        {"summary": "Louder.", "edits": [{"path": "a.py", "content": code("A")}]},
        {"summary": "As before.", "edits": [{"path": "a.py", "content": code("a") + "#\n"}]},
        APPROVE,
    ]
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    (fix,) = stage.runs("a", "fix")
    assert fix.turns == 2
    assert "Your last turn was not accepted" in fix.assignments[1]["follow_up"]
    said = json.dumps(model.requests[2]["messages"])
    assert "Louder." in said and said.count("# The module") == 1


def test_a_goal_is_cut_and_what_is_wrong_goes_back(team, model):
    stage = orchestrated(team(part("a"), given("b")), model)
    plans.plan_withdraw(stage.plan, stage.owner)
    for slug in ("a", "b"):
        plans.contract_remove(stage.plan, slug, stage.owner)
    twice = part("c", owns=["a.py"])
    model.answers += [
        {"summary": "Two.", "plan": {"modules": [part("a"), twice]}},
        {"summary": "Two that share nothing.", "plan": {"modules": [part("a"), given("b")]}},
    ]
    proposal_ask(stage.project, stage.owner)
    stage.work()
    run = Run.objects.get(project=stage.project, kind="decompose")
    assert (run.status, run.turns, run.input_tokens) == ("succeeded", 2, 2 * IN), run.reason
    stage.plan.refresh_from_db()
    assert [one.slug for one in plancontent.plan_specs(stage.plan)] == ["a", "b"]
    assert plancontent.plan_problems(stage.plan) == []
    said = json.dumps(model.requests[1]["messages"])
    assert "both own a.py" in said
    assert said.count("# Outline of the repository") == 1, "it remembers the first turn"


def test_a_limited_account_waits_and_counts_as_nobodys_failure(team, model):
    stage = orchestrated(team(given("a")), model)
    model.answers += [Refusal(429, "Slow down", Retry_After="0"), APPROVE, APPROVE, APPROVE]
    stage.run()
    first, *_ = stage.runs("a", "review")
    assert (first.status, first.reason_owner, first.reason_kind) == (
        "interrupted", "provider", "rate_limited",
    )  # fmt: skip
    assert stage.module("a").failures == 0


def test_a_wrong_model_name_is_told_to_people(team, model):
    stage = orchestrated(team(part("a")), model)
    plans.plan_withdraw(stage.plan, stage.owner)
    plans.contract_remove(stage.plan, "a", stage.owner)
    model.answers += [Refusal(404, "The model does not exist", "model_not_found")]
    proposal_ask(stage.project, stage.owner)
    stage.work()
    (event,) = stage.events("plan.proposal_failed")
    assert "judge-1" in event.data["reason"] and "profile" in event.data["reason"]


def test_a_model_alone_plays_no_agent(team, model):
    stage = team(part("a"))
    with pytest.raises(Refused, match="only be the orchestrator"):
        profile_set(stage.project, "executor", "llm", "m", {}, stage.owner)
    with pytest.raises(Refused, match="provider:model"):
        profile_set(stage.project, "orchestrator", "llm", "gpt-6", {}, stage.owner)
    with pytest.raises(Refused, match="base_url is an address"):
        profile_set(stage.project, "orchestrator", "llm", "m", {"base_url": "x"}, stage.owner)


def test_what_it_did_is_recorded_and_plays_again_without_it(team, model):
    stage = orchestrated(team(given("a")), model)
    finding = {"path": "a.py", "line": 2, "message": "Say who answers."}
    mended = code("a") + "# a\n"
    model.answers += [
        {"verdict": "fix", "summary": "Almost.", "findings": [finding]},
        {"summary": "Said.", "edits": [{"path": "a.py", "content": mended}]},
        APPROVE,
    ]
    stage.run()
    assert stage.merged_file("a.py") == mended
    again = team(given("a"))
    for run in [*stage.runs("a", "review"), *stage.runs("a", "fix")]:
        for name, lines in recording.recordings(run).items():
            place = again.folder / "recordings" / "base" / name
            place.write_text(recording.text(lines), encoding="utf-8")
    again.run()
    assert again.merged_file("a.py") == mended
    assert again.verdicts("a") == ["fix", "approve"]
    (fix,) = again.runs("a", "fix")
    assert (fix.backend, fix.input_tokens, fix.output_tokens) == ("replay", IN, OUT)
