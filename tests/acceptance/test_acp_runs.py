"""Runs whose agent speaks the Agent Client Protocol, from the plan to the merge."""

from __future__ import annotations

import threading
from pathlib import Path

from django.core.management import call_command
from django.db import connection

from agents import sandbox
from agents.models import Request, Run
from agents.services.answers import request_answer
from agents.services.profiles import profile_set
from agents.supervision import supervisor
from agents.workspaces import Workspace
from projects.models import Attention
from reviews.models import CheckResult
from tests import factories
from tests.acceptance.stage import code, given
from tests.wait import until

AGENT = Path(__file__).parents[1] / "agents" / "acp_agent.py"


def executor(stage, *words, **settings):
    command = [sandbox.python(), "-I", "-S", str(AGENT), "build=a", *words]
    values = {"command": command, "readable": [str(AGENT)], **settings}
    root = factories.user("root", is_superuser=True)
    profile_set(stage.project, "executor", "acp", "big", values, root)


def test_findings_of_a_gate_are_the_next_prompt_of_the_same_session(team):
    stage = team(given("a"))
    executor(stage)
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    assert stage.merged_file("a.py") == code("a")
    (run,) = stage.runs("a", "build")
    assert (run.backend, run.turns, run.usage_quality) == ("acp", 2, "estimated")
    assert (run.input_tokens, run.output_tokens) == (300, 30)
    assert float(run.cost) == 0.5
    home = Workspace.of(stage.project.pk, "a").home
    first, second = (home / f"prompt-{number}.txt" for number in (0, 1))
    assert "# Standing instructions" in first.read_text()
    assert second.read_text().startswith("# Your last turn was not accepted")
    assert second.read_text() == run.assignments[1]["follow_up"]
    kinds = list(run.log.filter(kind="session").values_list("data__id", flat=True))
    assert kinds == [run.session]

    again = team(given("a"))
    call_command("run_record", run.pk, to=again.folder / "recordings")
    again.run()
    assert again.hub.tree(again.merged_head) == stage.hub.tree(stage.merged_head)
    assert checks(again) == checks(stage)
    (played,) = again.runs("a", "build")
    assert (played.backend, played.turns, played.usage_quality) == ("replay", 2, "estimated")
    assert (played.result, played.input_tokens) == (run.result, run.input_tokens)


def checks(stage):
    rows = CheckResult.objects.filter(project_id=stage.project.pk).order_by("pk")
    return [(row.phase, row.command, row.exit_code) for row in rows]


def test_a_person_answers_a_running_agent(team):
    stage = team(given("a"))
    executor(stage, "asks", permissions="ask")
    answered = []

    def person():
        request = until(lambda: Request.objects.filter(answered_at=None).first(), seconds=60)
        assert request is not None
        deadline = Attention.objects.get(topic=request.topic).deadline
        assert deadline is not None
        waits = (deadline - request.asked_at).total_seconds()
        answered.append((request.question, request.run.status, round(waits)))
        request_answer(request, granted=True, by=stage.owner)
        connection.close()

    thread = threading.Thread(target=person)
    thread.start()
    executor(stage, "asks", permissions="ask", ask_seconds=8)
    stage.run()
    thread.join()
    assert stage.statuses() == {"a": "merged"}
    (run,) = stage.runs("a", "build")
    given_, refused = Request.objects.order_by("pk")
    assert (given_.granted, refused.granted) == (True, False)
    assert "execute rm -rf build" in answered[0][0]
    assert answered[0][1:] == ("running", 8)
    assert refused.answer.startswith("Nobody answered")
    rows = run.log.filter(kind="permission").order_by("sequence")
    answers = [row.data["answer"] for row in rows]
    assert (answers[0], answers[-1]) == ("allow", "reject")
    assert not Attention.objects.filter(kind="question", closed_at=None).exists()


def test_an_interrupted_run_goes_on_in_its_session(team):
    stage = team(given("a"))
    executor(stage, "pauses")
    builds = Run.objects.filter(kind="build")

    def shut_down():
        until(lambda: builds.filter(status="running").exclude(session="").first(), seconds=60)
        supervisor.shutting_down.set()
        until(lambda: builds.filter(status="interrupted").first(), seconds=60)
        supervisor.shutting_down.clear()
        connection.close()

    thread = threading.Thread(target=shut_down)
    thread.start()
    try:
        stage.run()
    finally:
        thread.join()
        supervisor.shutting_down.clear()
    assert stage.statuses() == {"a": "merged"}
    first, last = stage.runs("a", "build")[0], stage.runs("a", "build")[-1]
    assert (first.status, last.status) == ("interrupted", "succeeded")
    assert last.session == first.session
    assert last.turns == 1


def test_an_agent_that_dies_costs_its_run_alone(team):
    stage = team(given("a"))
    executor(stage, "dies")
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    died, good = stage.runs("a", "build")
    assert (died.status, died.reason_kind, died.reason_owner) == ("failed", "exit", "agent")
    assert "exit code 9" in died.reason
    assert good.status == "succeeded"
