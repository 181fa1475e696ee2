"""What agents do wrong while they work is noticed, told to them, and ends in a person's hands."""

from __future__ import annotations

from agents.services.profiles import profile_set
from projects import live
from projects.models import Attention
from projects.services.modules import module_retry
from tests.acceptance.stage import Turn, code, given

GOOD = Turn({"a.py": code("a")})


def test_nothing_done_and_a_bad_exit_are_not_done(team):
    stage = team(given("a"))
    stage.play("a", "build", Turn(), Turn({"a.py": "half"}, exit_code=3), GOOD)
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    (nothing,) = stage.findings("a")
    assert nothing.source == "nothing"
    assert "ended without changing anything" in nothing.message
    broken, good = stage.runs("a", "build")
    assert (broken.status, broken.reason_kind, broken.reason_owner) == ("failed", "exit", "agent")
    assert "exit code 3" in broken.reason
    assert "ended without changing anything" in broken.assignments[1]["text"]
    assert (good.status, good.number) == ("succeeded", 2)
    assert stage.merged_file("a.py") == code("a")


def test_an_agent_that_hangs_is_stopped(team):
    stage = team(given("a"))
    profile_set(stage.project, "executor", "replay", "slow", {"idle_seconds": 3}, stage.owner)
    stage.play("a", "build", Turn({"a.py": code("a")}, seconds=100), GOOD)
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    hanging, good = stage.runs("a", "build")
    assert (hanging.status, hanging.reason_kind) == ("failed", "idle")
    assert hanging.reason == "The agent gave no sign for too long and was stopped."
    assert 3 <= hanging.agent_seconds < 60
    assert good.status == "succeeded"


def test_used_up_attempts_need_a_person_and_a_retry_goes_on(team):
    stage = team(given("a"), policies={"attempts": 2})
    stage.play("a", "build", Turn(exit_code=1))
    stage.run()
    assert stage.statuses() == {"a": "needs_person"}
    assert [run.status for run in stage.runs("a", "build")] == ["failed", "failed"]
    reason = stage.module("a").reason
    assert reason.startswith("2 attempts failed, the last one with: The agent ended with exit")
    assert "code 1. Look at the findings" in reason, "it says what to do next"
    asked = Attention.objects.get(project=stage.project, kind="needs_person")
    assert (asked.closed_at, asked.detail) == (None, reason)

    stage.play("a", "build", GOOD)
    module_retry(stage.module("a"), live.Actor.person(stage.owner))
    stage.work()
    assert stage.statuses() == {"a": "merged"}
    asked.refresh_from_db()
    assert asked.closed_by == "person:alice"


def test_answers_that_can_not_be_taken_are_attempts(team):
    stage = team(given("a"))
    stage.play("a", "build", Turn(result={"exception": {}}))
    stage.run()
    assert stage.statuses() == {"a": "needs_person"}
    assert [run.reason_kind for run in stage.runs("a", "build")] == ["answer"] * 3
    assert "names no paths" in stage.module("a").reason
