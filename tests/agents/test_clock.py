"""What rings the clock's doorbell, and whom it then has to look at."""

from __future__ import annotations

import psycopg
import pytest
from django.db import connection

from agents import scheduler
from agents.management.commands.schedule import _settled, listen
from agents.models import Run
from agents.services import runs
from projects import live
from projects.models import Module, Plan, Project
from tests.wait import until

PACE = live.Actor("system:test")


@pytest.fixture
def team(transactional_db: None) -> Project:
    return made("team")


def made(slug: str) -> Project:
    project = Project.objects.create(slug=slug, name=slug, source="/nowhere", ceiling=1)
    plan = Plan.objects.create(
        project=project, number=1, status="approved", digest="d", approved_digest="d"
    )
    Plan.objects.filter(pk=plan.pk).update(prepared_at=plan.created_at)
    for number in range(2):
        Module.objects.create(
            project=project, plan=plan, slug=f"m{number}", status=Module.Status.BUILDING
        )
    return project


@pytest.fixture
def bell(transactional_db: None):
    with listen() as found:
        yield found


def rung(bell: psycopg.Connection[tuple[str]]) -> list[str]:
    """What rang until now; a ring of the test's own says where that ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, 'end')", [live.DOORBELL])
    found: list[str] = []
    for ring in bell.notifies(timeout=10):
        if ring.payload == "end":
            return found
        found.append(ring.payload)
    raise AssertionError(f"The bell did not ring to the end: {found}")


def test_an_event_calls_the_clock_unless_the_scheduler_looked_after_it(team, bell):
    with live.change(team) as change:
        change.event("team.greeted", team.topic, PACE)
    assert rung(bell) == [str(team.pk)]
    with live.change(team) as change:
        change.event("team.greeted", team.topic, PACE)
        scheduler.start_next(change)
    assert rung(bell) == [f"-{team.pk}"]
    with live.change(team) as change:
        scheduler.start_next(change)
        change.event("team.greeted", team.topic, PACE)
    assert rung(bell) == [str(team.pk)], "what was written last nobody looked at"


def test_a_clock_runs_as_long_as_its_connection_holds_the_lock(transactional_db):
    assert not scheduler.clock_runs()
    with listen() as bell:
        assert not scheduler.clock_runs(), "one that stands by is none"
        bell.execute("SELECT pg_advisory_lock(%s)", [scheduler.CLOCK_LOCK])
        assert scheduler.clock_runs()
    until(lambda: not scheduler.clock_runs(), what="the end of the connection")


def test_a_claim_frees_nothing_and_rings_nobody(team, bell):
    (run,) = scheduler.start(team)
    rung(bell)
    assert runs.run_claim(run.pk, run.fence) is not None
    assert team.events.filter(kind="run.started").exists()
    assert rung(bell) == []


def test_what_one_project_gives_back_may_start_another(team):
    """The pass leaves out the project that looked by itself, and no other one."""
    other = made("other")
    assert scheduler.start_all(but=team.pk) == 1
    assert Run.objects.get().project == other
    assert scheduler.start_all() == 1


@pytest.mark.parametrize(
    ("payloads", "left_out"),
    [({"-7"}, 7), ({"7"}, None), ({"-7", "-8"}, None), ({"-7", "7"}, None), ({live.SITE}, None),
     (set(), None)],
)  # fmt: skip
def test_a_project_is_left_out_when_it_alone_rang_and_looked(payloads, left_out):
    assert _settled(payloads) == left_out
