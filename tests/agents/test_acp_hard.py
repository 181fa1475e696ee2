"""Agents over the Agent Client Protocol that do not listen, leave things behind, or may not run."""

from __future__ import annotations

import threading

import pytest

from agents import meters, pipeline
from agents.models import Run
from agents.scheduler import STATUS_OF
from projects.models import Attention, Plan
from reviews.models import CheckResult
from tests import factories
from tests.agents.test_acp import Stage
from tests.living import left_behind
from tests.wait import until


@pytest.fixture
def make(tutti_home, tmp_path):
    """Stages for agents of their own, of which nothing may be left."""
    made: list[Stage] = []

    def stage(name="one") -> Stage:
        (tmp_path / name).mkdir()
        made.append(Stage(tmp_path / name))
        return made[-1]

    yield stage
    for one in made:
        one.kept.close()
    assert [pid for one in made for pid in left_behind(one.agent)] == []


class Steers:
    """A person who interrupts the agent once."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.is_told = stage, False

    def is_waiting(self) -> bool:
        return not self.is_told and bool(self.stage.of("session"))

    def take(self) -> str:
        self.is_told = True
        return "write"


def test_an_agent_that_ignores_a_cancel_ends_alone(make):
    deaf, good = make("deaf"), make("good")
    good.turn("one")
    (before,) = (line for line in good.said.splitlines() if line.startswith("pid"))
    ordering = deaf.stop_soon()
    assert deaf.turn("deaf", cancel_seconds=0.2).exit_code is None
    ordering.join()
    assert not deaf.kept.is_alive and good.kept.is_alive
    good.events.clear()
    good.turn("two")
    assert before.split(",")[0] in good.said and "prompts 2" in good.said


def test_one_that_ignores_a_person_goes_on_in_its_session_as_another_process(make):
    stage = make()
    outcome = stage.turn("one hang_once", steers=Steers(stage), cancel_seconds=0.2)
    assert outcome.exit_code == 0 and (stage.workspace / "owned.txt").exists()
    first, second = (row["id"] for row in stage.of("session"))
    # It forgot the turn that it was killed in; had it kept one, that session would go on.
    assert first != second and outcome.session == second


@pytest.mark.parametrize("words", ["daemon kill", "daemon die", "daemon shut"])
def test_daemons_end_with_an_agent_that_ends_badly(make, words):
    stage = make()
    error = stage.fails(words, idle_seconds=0.5, cancel_seconds=0.2)
    assert error.kind in ("signal", "exit", "idle", "protocol")
    assert left_behind(stage.agent) == []


def test_without_walls_nothing_is_left_either(make, monkeypatch):
    monkeypatch.setenv("TUTTI_SANDBOX_LEVEL", "unconfined")
    stage = make()
    error = stage.fails("daemon deaf", idle_seconds=0.5, cancel_seconds=0.2)
    assert error.kind == "idle"
    assert left_behind(stage.agent) == []


def test_an_agent_that_waits_for_its_next_turn_counts_as_its_runs(make):
    stage = make()

    def seen() -> float:
        (use,) = meters.uses()
        assert (use.run_id, use.kind) == (7, meters.AGENT)
        return use.memory_mb

    for _ in range(2):
        with meters.metering(7, meters.AGENT):
            stage.turn("one")
        assert until(seen, what="the memory of an agent that waits") > 1
    stage.kept.close()
    assert meters.uses() == []


def test_a_stopped_turn_counts_for_nothing_whatever_it_says_afterwards(make):
    stage = make()
    ordering: threading.Thread = stage.stop_soon()
    outcome = stage.turn("late")
    ordering.join()
    assert (outcome.exit_code, "still working" in stage.said) == (None, True)
    assert stage.kept.is_alive, "it listened, so that it may go on"


# --- Where nothing can be confined ---------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", sorted(pipeline.STEPS))
def test_no_run_of_any_kind_starts_unconfined(kind, alice, tutti_home, monkeypatch):
    monkeypatch.setenv("TUTTI_SANDBOX_LEVEL", "unconfined")
    monkeypatch.delenv("TUTTI_ALLOW_UNCONFINED", raising=False)
    plan = factories.plan(factories.project("shop"))
    is_modules = kind in STATUS_OF
    module = factories.module(plan, "cart", STATUS_OF[kind] if is_modules else "merged")
    run = factories.run(module, kind)
    if not is_modules:
        Run.objects.filter(pk=run.pk).update(module=None)
    run = Run.objects.get(pk=run.pk)
    pipeline.execute(run)
    run.refresh_from_db()
    assert (run.status, run.reason_kind, run.reason_owner) == ("failed", "sandbox", "tutti")
    assert run.reason.startswith("Agents and checks cannot be confined on this host")
    assert "or install bubblewrap" in run.reason and "TUTTI_ALLOW_UNCONFINED=yes" in run.reason
    assert not CheckResult.objects.exists()
    assert list(tutti_home.iterdir()) == []
    if is_modules:
        (asked,) = Attention.objects.filter(kind="needs_person")
        assert "TUTTI_ALLOW_UNCONFINED=yes" in asked.detail and "then retry" in asked.detail
        assert run.module is not None and run.module.failures == 0
    elif kind != "decompose":
        assert "TUTTI_ALLOW_UNCONFINED=yes" in Plan.objects.get().blocked_reason
