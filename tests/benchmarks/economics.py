"""The economics page of a large plan beside that of a small one, on rows made in bulk."""

from __future__ import annotations

from datetime import timedelta

from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from agents.models import Run
from projects.models import Contract, Dependency, Module, Plan, Project
from tests import factories
from tests.benchmarks.engine import timed
from tests.benchmarks.rows import Row, median, row

COMMAND = "python -m tests.benchmarks --only economics"
SMALL, LARGE = 100, 1_000
KINDS = (("tests", "planner"), ("build", "executor"), ("review", "orchestrator"),
         ("fix", "orchestrator"), ("merge", ""))  # fmt: skip
MOST_TIMES = 12


def finished_plan(size: int) -> Project:
    """A finished plan of `size` modules with five runs each, two needs each, and some lanes."""
    project = factories.project(f"economics-{size}", {"alice": "owner"})
    zero = timezone.now() - timedelta(days=2)
    end = zero + timedelta(seconds=size * 20)
    plan = factories.plan(project, decided_at=zero, finished_at=end)
    modules = _modules(project, plan, size)
    Run.objects.bulk_create(
        _run(plan, module, place, turn) for place, module in enumerate(modules) for turn in range(5)
    )
    return project


def _modules(project: Project, plan: Plan, size: int) -> list[Module]:
    Module.objects.bulk_create(
        Module(project=project, plan=plan, slug=f"m{n}", title=f"M{n}", status="merged")
        for n in range(size)
    )
    modules = list(Module.objects.filter(project=project).order_by("pk"))
    contracts = Contract.objects.bulk_create(
        Contract(module=module, plan=plan, position=n, lane=f"l{n % 7}" if n % 10 == 0 else "")
        for n, module in enumerate(modules)
    )
    Dependency.objects.bulk_create(
        Dependency(contract=contract, needs=modules[n - back], kind=kind)
        for n, contract in enumerate(contracts)
        for back, kind in ((11, "contract"), (37, "implementation"))
        if n >= back and not contract.lane
    )
    return modules


def _run(plan: Plan, module: Module, place: int, turn: int) -> Run:
    kind, role = KINDS[turn]
    agent = 10.0 + place * 7919 % 50 if role else 0.0
    gate = 2.0 + place % 5
    assert plan.decided_at is not None
    began = plan.decided_at + timedelta(seconds=place * 18 + turn * 40)
    half = {"agent": agent / 2, "gate": gate / 2, "input": 500, "output": 50}
    return Run(
        project_id=plan.project_id, plan=plan, module=module, kind=kind, role=role,
        status="succeeded", needs_slot=bool(role), backend="command", model="some",
        started_at=began, ended_at=began + timedelta(seconds=agent + gate), agent_seconds=agent,
        gate_seconds=gate, input_tokens=1000 if role else None, laps=[half, half],
        output_tokens=100 if role else None, turns=2,
    )  # fmt: skip


def rows(repetitions: int) -> list[Row]:
    """Pages take turns; the simulated curves are forgotten before each, so nothing is spared."""
    projects = {size: finished_plan(size) for size in (SMALL, LARGE)}
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(factories.user("alice"))
    seconds: dict[int, list[float]] = {size: [] for size in projects}
    again: dict[int, list[float]] = {size: [] for size in projects}
    queries: dict[int, int] = {}
    for _ in range(repetitions + 1):
        for size, project in projects.items():
            url = reverse("agents:economics", args=[project.slug])
            cache.clear()
            seconds[size].append(timed(lambda url=url: _open(client, url)))  # type: ignore[misc]
            with CaptureQueriesContext(connection) as captured:
                again[size].append(timed(lambda url=url: _open(client, url)))  # type: ignore[misc]
            queries[size] = len(captured)
    first = {size: median(found[1:]) for size, found in seconds.items()}
    kept = {size: median(found[1:]) for size, found in again.items()}
    what = f"economics page, {LARGE:,} modules and {LARGE * 5:,} runs"
    return [
        row(f"{what}: time beside {SMALL} modules", first[LARGE] / first[SMALL], "x", COMMAND,
            most=MOST_TIMES),
        row(f"{what}: queries beside {SMALL} modules", queries[LARGE] / queries[SMALL], "x",
            COMMAND, most=1),
        row(f"{what}: the first to open it", first[LARGE] * 1000, "ms", COMMAND),
        row(f"{what}: opened again", kept[LARGE] * 1000, "ms", COMMAND),
    ]  # fmt: skip


def _open(client: Client, url: str) -> None:
    answer = client.get(url)
    assert answer.status_code == 200, answer.status_code
