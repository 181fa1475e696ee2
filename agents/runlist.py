"""The list of a project's runs, filtered by its address: what stands behind every figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict

from agents.economics import PURPOSE_OF_KIND, PURPOSES, REPEATABLE, purposes_of
from agents.figures import plan_shown, run_facts
from agents.models import Run
from projects.forms import whole_number
from projects.models import Plan, Project
from projects.text import clean_text

PAGE = 100
#: Runs of one CSV.
LARGEST = 100_000
#: What people may filter by, beside the plan.
NAMES = ("role", "kind", "module", "purpose", "status", "parallel")
HEAVY = ("assignments", "result", "laps")
#: "none" as a role and "-" as a module mean that a run has none.
NO_ROLE, NO_MODULE = "none", "-"


@dataclass(frozen=True)
class Filters:
    """What the address asks for; empty = everything."""

    plan: int | None = None
    role: str = ""
    kind: str = ""
    module: str = ""
    purpose: str = ""
    status: str = ""
    parallel: str = ""

    @property
    def query(self) -> str:
        found = QueryDict(mutable=True)
        for name in ("plan", *NAMES):
            if value := getattr(self, name):
                found[name] = str(value)
        return found.urlencode()


def filters_of(asked: QueryDict) -> Filters:
    words = {name: clean_text(asked.get(name, "")).strip()[:100] for name in NAMES}
    return Filters(plan=whole_number(asked.get("plan", "")), **words)


def runs(project: Project, filters: Filters) -> QuerySet[Run]:
    """The runs that match, the newest first; without what was sent and answered."""
    rows = Run.objects.filter(project=project).select_related("module", "plan").defer(*HEAVY)
    if filters.plan is not None:
        rows = rows.filter(plan__number=filters.plan)
    if filters.role:
        rows = rows.filter(role="" if filters.role == NO_ROLE else filters.role)
    if filters.kind:
        rows = rows.filter(kind=filters.kind)
    if filters.module == NO_MODULE:
        rows = rows.filter(module__isnull=True)
    elif filters.module:
        rows = rows.filter(module__slug=filters.module)
    if filters.status:
        rows = rows.filter(
            status__in=Run.ACTIVE if filters.status == "active" else [filters.status]
        )
    if filters.parallel:
        rows = rows.filter(parallel_only=True)
    if filters.purpose:
        rows = _of_purpose(project, rows, filters)
    return rows.order_by("-pk")


def _of_purpose(project: Project, rows: QuerySet[Run], filters: Filters) -> QuerySet[Run]:
    """Runs with a turn for a purpose, exactly as the figures of their plan count them."""
    if filters.purpose == "coordination":
        return rows.exclude(kind__in=list(PURPOSE_OF_KIND))
    if filters.purpose != "rework" and filters.purpose not in REPEATABLE:
        return rows.filter(kind__in=[k for k, p in PURPOSE_OF_KIND.items() if p == filters.purpose])
    plan = plan_shown(project, filters.plan)
    if plan is None:
        return rows.none()
    purposes = purposes_of(list(run_facts(plan)))
    return rows.filter(pk__in=[pk for pk, found in purposes.items() if filters.purpose in found])


def choices(project: Project) -> dict[str, Any]:
    """What the filters offer."""
    plans = Plan.objects.filter(project=project).order_by("-number")
    return {
        "plans": list(plans.values_list("number", flat=True)[:200]),
        "roles": ["orchestrator", "planner", "executor", NO_ROLE],
        "kinds": Run.Kind.values,
        "purposes": PURPOSES,
        "statuses": ["active", *Run.Status.values],
    }


COLUMNS = (
    "run", "plan", "module", "kind", "number", "role", "backend", "model", "status", "queued_at",
    "started_at", "ended_at", "agent_seconds", "gate_seconds", "waited_seconds", "turns",
    "input_tokens", "output_tokens", "usage_quality", "cost", "parallel_only", "reason_kind",
    "reason",
)  # fmt: skip


def csv_rows(found: QuerySet[Run]) -> list[list[Any]]:
    """Cells of the CSV; empty where the agent did not say, never 0 for it."""
    fields = {"run": "pk", "plan": "plan__number", "module": "module__slug"}
    names = [fields.get(name, name) for name in COLUMNS]
    rows = found.values_list(*names)[:LARGEST]
    return [[_cell(value) for value in row] for row in rows]


def _cell(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
