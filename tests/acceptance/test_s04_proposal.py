"""The orchestrator cuts a goal into modules: a draft that people edit, submit and approve."""

from __future__ import annotations

import pytest

from agents.models import Conversation, ConversationEntry, Run
from agents.services import runs
from projects import live, plancontent, planfile
from projects.hub import integration_ref
from projects.models import Attention, Contract, Plan
from projects.services import plans
from projects.services.errors import Refused
from projects.services.proposals import proposal_ask
from tests.acceptance.stage import Turn, given, part

GOAL = {"goal": "Answers.", "policies": {"split": {"depth": 2}}}


@pytest.fixture
def asked(team):
    """A project with a goal and recordings, whose draft holds no module yet."""
    stage = team(part("a"), given("b"), **GOAL)
    plans.plan_withdraw(stage.plan, stage.owner)
    for slug in ("a", "b"):
        plans.contract_remove(stage.plan, slug, stage.owner)
    stage.plan.refresh_from_db()
    return stage


def proposal(*modules, **project):
    file = planfile.PlanFile.model_validate({"project": project, "modules": list(modules)})
    return Turn(result={"plan": file.model_dump(mode="json"), "summary": "Two that share nothing."})


def decompositions(stage):
    rows = Run.objects.filter(project=stage.project, kind="decompose").order_by("pk")
    return list(rows)


def test_a_goal_becomes_a_draft_that_people_edit_approve_and_that_runs(asked):
    stage = asked
    head = stage.merged_head
    proposed = proposal(
        part("a"), given("b"), goal="Take over.", policies={"exceptions": {"allow": ["**"]}}
    )
    stage.play("project", "decompose", proposed)
    plan = proposal_ask(stage.project, stage.owner)
    assert (plan.status, plan.proposal_by) == ("draft", stage.owner)
    stage.work()

    (run,) = decompositions(stage)
    assert (run.status, run.role, run.plan) == ("succeeded", "orchestrator", plan)
    assert "Answers." in run.assignments[0]["text"]
    assert "a.py" in run.assignments[0]["text"]
    plan.refresh_from_db()
    assert (plan.status, plan.proposal_at) == ("draft", None)
    made = plancontent.plan_file(plan)
    assert [module.slug for module in made.modules] == ["a", "b"]
    assert made.project.goal == "Answers.", "the goal is people's"
    assert made.project.policies.split.depth == 2
    assert made.project.policies.exceptions.allow == [], "a model grants itself nothing"
    assert stage.merged_head == head, "nothing is written to the repository"
    assert stage.statuses() == {"a": "draft", "b": "draft"}
    (event,) = stage.events("plan.proposal_asked")
    assert event.actor == "person:alice"
    (event,) = stage.events("plan.proposed")
    assert (event.actor, event.data["kept"]) == (f"run:{run.pk}", ["goal", "policies"])
    assert Attention.objects.filter(kind="proposal", closed_at__isnull=True).count() == 1

    plans.contract_save(plan, "b", stage.owner, {**given("b"), "brief": "Answer well."})
    plan.refresh_from_db()
    plans.plan_submit(plan, stage.owner)
    assert not Attention.objects.filter(kind="proposal", closed_at__isnull=True).exists()
    stage.plan = plan
    stage.run()
    assert stage.statuses() == {"a": "merged", "b": "merged"}
    entries = list(ConversationEntry.objects.filter(conversation__plan=plan).order_by("sequence"))
    first, second, third = entries[:3]
    assert (first.kind, first.run_topic) == ("decomposition", run.topic)
    assert "Two that share nothing." in first.text
    assert (second.kind, second.run_topic) == ("decomposition", "")
    assert "approved by alice" in second.text
    assert third.kind == "delegation"
    sent = stage.runs("a", "review")[0].assignments[0]["text"]
    assert first.text in sent and second.text in sent


def test_what_is_wrong_goes_back_to_the_agent(asked):
    stage = asked
    twice = part("c", owns=["a.py"], checks=[])
    stage.play(
        "project",
        "decompose",
        Turn(result={"summary": "I forgot."}),
        proposal(part("a"), twice),
        proposal(part("a"), given("b")),
    )
    proposal_ask(stage.project, stage.owner)
    stage.work()
    (run,) = decompositions(stage)
    assert (run.status, run.turns) == ("succeeded", 3)
    _, second, third = [sent["text"] for sent in run.assignments]
    assert 'The answer holds no "plan"' in second
    assert "c, checks:" in third and "a.py" in third
    assert sorted(stage.statuses()) == ["a", "b"]


def test_after_three_turns_people_are_told_and_may_ask_again(asked):
    stage = asked
    stage.play("project", "decompose", Turn(result={"plan": {"modules": [], "colour": "red"}}))
    proposal_ask(stage.project, stage.owner)
    stage.work()
    (run,) = decompositions(stage)
    assert (run.status, run.reason_owner, run.turns) == ("failed", "agent", 3)
    (event,) = stage.events("plan.proposal_failed")
    assert "colour" in event.data["reason"]
    assert not Contract.objects.filter(plan=stage.plan).exists()
    assert not Conversation.objects.filter(plan=stage.plan).exists()
    stage.play("project", "decompose", proposal(part("a"), given("b")))
    proposal_ask(stage.project, stage.owner)
    stage.work()
    assert [run.status for run in decompositions(stage)] == ["failed", "succeeded"]


def test_it_never_writes_over_what_people_cut(team, asked):
    stage = asked
    proposed = proposal(part("a"), given("b"))
    stage.play("project", "decompose", proposed)
    proposal_ask(stage.project, stage.owner)
    with pytest.raises(Refused, match="at work on a plan already"):
        proposal_ask(stage.project, stage.owner)
    plans.contract_save(stage.plan, "b", stage.owner, given("b"), create=True)
    stage.work()
    (event,) = stage.events("plan.proposal_failed")
    assert "holds 1 modules that people cut" in event.data["reason"]
    assert list(stage.statuses()) == ["b"]
    (run,) = decompositions(stage)
    assert run.result["plan"]["modules"][0]["slug"] == "a", "the proposal is kept with its run"
    with pytest.raises(Refused, match="that people cut"):
        proposal_ask(stage.project, stage.owner)
    waits = team(part("a"))
    with pytest.raises(Refused, match="waits for approval"):
        proposal_ask(waits.project, waits.owner)


def test_without_a_goal_nobody_is_asked(asked):
    plans.plan_set(asked.plan, asked.owner, goal=" ")
    with pytest.raises(Refused, match="what the goal is"):
        proposal_ask(asked.project, asked.owner)
    asked.work()
    assert decompositions(asked) == []


def test_a_stopped_one_does_not_come_again(asked):
    stage = asked
    stage.play("project", "decompose", proposal(part("a")))
    proposal_ask(stage.project, stage.owner)
    from agents import scheduler

    (run,) = scheduler.start(stage.project)
    runs.run_stop(run, live.Actor.person(stage.owner))
    stage.work()
    assert [run.status for run in decompositions(stage)] == ["cancelled"]
    (event,) = stage.events("plan.proposal_failed")
    assert event.actor == "person:alice"
    assert Plan.objects.get(pk=stage.plan.pk).proposal_at is None


def test_the_next_plan_may_be_asked_for_while_one_runs(asked):
    stage = asked
    stage.play("project", "decompose", proposal(part("a")))
    proposal_ask(stage.project, stage.owner)
    stage.work()
    stage.plan.refresh_from_db()
    plans.plan_submit(stage.plan, stage.owner)
    stage.approve()
    stage.play("project", "decompose", proposal(part("a"), given("b")))
    following = proposal_ask(stage.project, stage.owner)
    assert following.number == 2
    stage.work()
    assert stage.statuses() == {"a": "merged", "b": "draft"}
    assert stage.hub.head(integration_ref()) == stage.merged_head
    assert [run.plan.number for run in decompositions(stage)] == [1, 2]
