"""People write to a running agent: next prompt, at once, one more turn, or the next run."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.db import connection

from agents.models import Request, Run, Steer
from agents.services import runs, steering
from agents.services.answers import request_answer
from agents.workspaces import Workspace
from projects import live
from projects.services.modules import module_resume
from tests.acceptance.stage import Turn, code, given, proof
from tests.acceptance.test_acp_runs import executor
from tests.wait import until


def meanwhile(act: Callable[[], None]) -> threading.Thread:
    """Do something in a thread of its own while the stage works."""

    def person() -> None:
        try:
            act()
        finally:
            connection.close()

    thread = threading.Thread(target=person)
    thread.start()
    return thread


def running(kind: str = "build", **values: object) -> Run:
    found = until(
        lambda: Run.objects.filter(kind=kind, status="running", **values).first(), seconds=60
    )
    assert found is not None
    return found


def asked(number: int) -> Request:
    """The nth question of an agent, once it waits for the answer."""
    rows = Request.objects.filter(answered_at=None).order_by("pk")
    until(lambda: Request.objects.count() == number and rows.exists(), seconds=60)
    return rows.get()


def test_it_goes_with_the_next_prompt_and_a_good_run_takes_one_more_turn(team):
    stage = team(given("a"))
    executor(stage, "asks", permissions="ask", ask_seconds=60)

    def person() -> None:
        for number, text in enumerate(("Name it well.", "Thanks, and mind the tax."), start=1):
            request = asked(number)
            steering.steer_write(request.run, text, stage.owner)
            request_answer(request, granted=True, by=stage.owner)
        request_answer(asked(3), granted=True, by=stage.owner)

    thread = meanwhile(person)
    stage.run()
    thread.join()
    assert stage.statuses() == {"a": "merged"}
    (run,) = stage.runs("a", "build")
    assert (run.turns, run.status) == (3, "succeeded")
    first, second = Steer.objects.order_by("pk")
    assert (first.told_run, first.told_turn, second.told_turn) == (run, 2, 3)
    assert first.receipt == "Delivered at turn 2."
    home = Workspace.of(stage.project.pk, "a").home
    prompts = [(home / f"prompt-{number}.txt").read_text() for number in range(3)]
    assert prompts[1].startswith("# Your last turn was not accepted")
    assert "# What people tell you now" in prompts[1]
    assert f"{stage.owner.username}: Name it well." in prompts[1]
    assert prompts[2].startswith("# What people tell you now")
    assert "mind the tax" in prompts[2] and "Name it well." not in prompts[2]
    assert [row.data["turn"] for row in run.log.filter(kind="steer")] == [2, 3]
    written = stage.events("steer.written")
    assert [event.data["text"] for event in written] == [first.text, second.text]
    assert [event.data["turn"] for event in stage.events("steer.delivered")] == [2, 3]


def test_an_agent_that_can_be_interrupted_is_told_at_once_in_its_session(team):
    stage = team(given("a"))
    executor(stage, "pauses")

    def person() -> None:
        run = running()
        until(lambda: Run.objects.filter(pk=run.pk).exclude(session="").exists(), seconds=60)
        steering.steer_write(run, "Do not wait.", stage.owner, at_once=True)

    thread = meanwhile(person)
    stage.run()
    thread.join()
    assert stage.statuses() == {"a": "merged"}
    (run,) = stage.runs("a", "build")
    assert (run.turns, run.status) == (1, "succeeded")
    steer = Steer.objects.get()
    assert (steer.told_run, steer.told_turn, steer.at_once) == (run, 1, True)
    assert "Do not wait." in run.assignments[0]["told"][0]
    assert run.log.filter(kind="session").count() == 1
    assert run.usage_quality == "last_step"
    assert stage.merged_file("a.py") == code("a")


def test_a_replayed_run_and_its_review_take_one_more_turn(team):
    stage = team(given("a"))
    stage.play("a", "build", Turn({"a.py": code("a")}, {"summary": "done"}, seconds=1.0))
    stage.play("a", "review", Turn({}, {"verdict": "approve", "summary": "Good."}, seconds=1.0))

    def person() -> None:
        for kind in ("build", "review"):
            steering.steer_write(running(kind, assignments__0__turn=1), "Careful.", stage.owner)

    thread = meanwhile(person)
    stage.run()
    thread.join()
    assert stage.statuses() == {"a": "merged"}
    (build,), (review,) = stage.runs("a", "build"), stage.runs("a", "review")
    assert (build.turns, review.turns) == (2, 2)
    assert "Careful." in build.assignments[1]["text"]
    assert "Careful." in review.assignments[1]["text"]
    assert stage.verdicts("a") == ["approve"]
    assert set(Steer.objects.values_list("told_turn", flat=True)) == {2}


def test_what_a_run_was_not_told_is_kept_for_the_next(team):
    stage = team(given("a"))
    stage.play("a", "build", Turn({"a.py": code("a")}, {"summary": "done"}, seconds=20.0))
    receipts: list[str] = []

    def person() -> None:
        run = running(assignments__0__turn=1)
        steer = steering.steer_write(run, "Be quick.", stage.owner)
        receipts.append(steer.receipt)
        runs.run_stop(run, live.Actor.person(stage.owner))
        until(lambda: not Run.objects.get(pk=run.pk).is_active, seconds=60)
        receipts.append(Steer.objects.get().receipt)
        stage.play("a", "build", Turn({"a.py": code("a")}, {"summary": "done"}))
        module_resume(stage.module("a"), live.Actor.person(stage.owner))

    thread = meanwhile(person)
    stage.run()
    thread.join()
    stage.work()
    assert stage.statuses() == {"a": "merged"}
    stopped, good = stage.runs("a", "build")
    assert (stopped.status, good.status) == ("cancelled", "succeeded")
    assert "Be quick." in good.assignments[0]["text"]
    assert receipts[0].startswith("Queued")
    assert receipts[1].startswith("The run ended before; it is kept")
    assert Steer.objects.get().receipt == f"Delivered at turn 1 of run {good.pk}."


def test_a_planner_that_was_told_something_keeps_its_tests(team):
    stage = team({**given("a"), "tests": ["tests/test_a.py"]})
    stage.play("a", "tests", Turn({"tests/test_a.py": proof("a")}, {"outline": "x"}, seconds=1.0))

    def person() -> None:
        steering.steer_write(running("tests", assignments__0__turn=1), "Test it.", stage.owner)

    thread = meanwhile(person)
    stage.run()
    thread.join()
    assert stage.statuses() == {"a": "merged"}
    assert stage.runs("a", "tests")[0].turns == 2
