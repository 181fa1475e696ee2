"""The scheduler's pass and a worker's claim, on rows made in bulk."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from agents import machine, scheduler
from agents.models import Host, Run
from agents.services import hosts, runs
from projects.models import Contract, Module, Project
from tests import factories
from tests.benchmarks.rows import Row, median, row

SIZES = (100, 1_000, 10_000)
COMMAND = "python -m tests.benchmarks --only engine"


def waiting_project(size: int, ceiling: int = 5) -> Project:
    """A project with `size` waiting modules, half of them held by a need, and one slot free."""
    project = factories.project(f"waiting-{size}", {"alice": "owner"}, ceiling=ceiling)
    plan = factories.plan(project)
    Module.objects.bulk_create(
        Module(
            project=project,
            plan=plan,
            slug=f"m{number}",
            title=f"M{number}",
            status=Module.Status.WAITING,
            needs_to_start=number % 2,
            path_length=float(number * 7919 % 1000),
        )
        for number in range(size)
    )
    modules = list(Module.objects.filter(project=project))
    Contract.objects.bulk_create(
        Contract(module=module, plan=plan, owns=[f"{module.slug}/"], checks=["true"])
        for module in modules
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE projects_module SET contract_id = c.id FROM projects_contract c "
            "WHERE c.module_id = projects_module.id AND projects_module.project_id = %s",
            [project.pk],
        )
    for number in range(ceiling - 1):
        module = factories.module(plan, f"busy{number}", Module.Status.BUILDING)
        factories.run(module, "build", "running", heartbeat_at=timezone.now())
    return project


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def start_and_undo(project: Project) -> float:
    """One pass that starts one run, without its commit; seconds."""
    with transaction.atomic():
        seconds = timed(lambda: _one(project))
        transaction.set_rollback(True)
    return seconds


def _one(project: Project) -> None:
    started = scheduler.start(project)
    assert len(started) == 1, f"{len(started)} runs started"


def tick_rows(repetitions: int) -> list[Row]:
    """Sizes take turns, so that what else the machine does falls on all of them alike."""
    # What an earlier part told of this machine would leave these projects no room.
    Host.objects.all().delete()
    projects = {size: waiting_project(size) for size in SIZES}
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    seconds: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(repetitions + 3):
        for size, project in projects.items():
            seconds[size].append(start_and_undo(project))
    medians = {size: median(found[3:]) for size, found in seconds.items()}
    return [
        row("scheduler: largest / smallest pass with 100, 1,000 and 10,000 waiting modules",
            max(medians.values()) / min(medians.values()), "x", COMMAND, most=1.5),
        *(row(f"scheduler: a pass with {size:,} waiting modules", medians[size] * 1000, "ms",
              COMMAND) for size in SIZES),
    ]  # fmt: skip


def claim_rows(repetitions: int) -> list[Row]:
    """A worker's claim, against one bare committed update of the same row."""
    plan = factories.plan(factories.project("claims", {"alice": "owner"}))
    queued = [
        factories.run(factories.module(plan, f"c{number}", Module.Status.BUILDING), "build",
                      "queued", holds_slot=False, started_at=None)
        for number in range(repetitions)
    ]  # fmt: skip
    bare, claimed = [], []
    for run in queued:
        bare.append(timed(lambda run=run: _touch(run)))  # type: ignore[misc]
        claimed.append(timed(lambda run=run: _claim(run)))  # type: ignore[misc]
    return [
        row("claim of a run, p50 / one committed update", median(claimed) / median(bare), "x",
            COMMAND, most=15),
        row("claim of a run, p50", median(claimed) * 1000, "ms", COMMAND),
    ]  # fmt: skip


def _touch(run: Run) -> None:
    Run.objects.filter(pk=run.pk, status="queued").update(sent_at=timezone.now())


def _claim(run: Run) -> None:
    assert runs.run_claim(run.pk, run.fence) is not None


def capacity_rows(repetitions: int) -> list[Row]:
    """One look at the machine with its decision and its rows, against one bare committed update."""
    assert hosts.host_read(is_due=True) is not None
    bare, read, looked = [], [], []
    for _ in range(repetitions):
        bare.append(timed(_touch_host))
        read.append(timed(lambda: hosts.host_read(is_due=True)))
        looked.append(timed(lambda: machine.read(settings.TUTTI_HOME)))
    return [
        row("capacity of a host: reading, decision and rows, p50 / one committed update",
            median(read) / median(bare), "x", COMMAND, most=15),
        row("capacity of a host: reading, decision and rows, p50", median(read) * 1000, "ms",
            COMMAND),
        row("capacity of a host: the reading alone, p50", median(looked) * 1000, "ms", COMMAND,
            most=5),
    ]  # fmt: skip


def _touch_host() -> None:
    Host.objects.filter(name=settings.TUTTI_HOST).update(seen_at=timezone.now())


def rows(repetitions: int) -> Sequence[Row]:
    # The last, for a host that is not read any more lets nothing start.
    return [*tick_rows(repetitions), *claim_rows(repetitions * 3), *capacity_rows(repetitions * 3)]
