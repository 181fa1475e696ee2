"""The figures of a plan: its rows as facts, in a fixed number of queries, and how they are told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Count, F, Q, QuerySet, Sum

from agents.economics import BEFORE, Economics, Lap, PlanFacts, RunFacts, Spent, economics
from agents.models import Run
from projects import plancontent
from projects.models import Event, Module, Plan, Project
from projects.specs import ModuleSpec

S = Module.Status

#: Columns of a run that its facts are made of; what was sent and answered is never read.
COLUMNS = (
    "pk", "module__slug", "kind", "role", "started_at", "ended_at", "agent_seconds",
    "gate_seconds", "input_tokens", "output_tokens", "parallel_only", "cost", "status", "number",
    "backend", "model", "needs_slot", "waited_seconds", "laps", "usage_quality", "reason_owner",
)  # fmt: skip
CEILING_KINDS = ("plan.approved", "project.ceiling", "project.binding")


def facts(plan: Plan) -> PlanFacts:
    """What the plan's rows say; the same number of queries for every size of plan."""
    began, until = plan.decided_at, plan.finished_at
    later = _next_decided(plan)
    specs = in_order(plancontent.plan_specs(plan, with_children=True))
    events = _ceiling_events(plan, later)
    modules, merged = _counts(plan, specs, later)
    return PlanFacts(
        project=plan.project.slug,
        number=plan.number,
        began=began.timestamp() if began else None,
        finished=until.timestamp() if until else None,
        ceiling=greatest_ceiling(events, plan.project.ceiling),
        checks=checks_of(events),
        specs=tuple(specs),
        runs=tuple(run_facts(plan)),
        modules=modules,
        merged=merged,
        ceilings=tuple(ceilings_of(events)),
    )


def plan_shown(project: Project, number: int | None = None) -> Plan | None:
    """The approved plan of a number, else the last approved one; None without it."""
    plans = Plan.objects.filter(
        project=project,
        decided_at__isnull=False,
        status__in=[Plan.Status.APPROVED, Plan.Status.SUPERSEDED],
    ).select_related("project")
    if number is not None:
        return plans.filter(number=number).first()
    return plans.order_by("-number").first()


def figures(plan: Plan, *, with_curve: bool = False) -> Economics:
    return economics(facts(plan), with_curve=with_curve)


@dataclass(frozen=True)
class Summary:
    """Seconds of a finished plan, from its own runs; tokens are None when no run knew them.

    `runs_with_part` are those whose agents told only a part of their tokens.
    """

    wall_seconds: float
    sequential_seconds: float
    runs: int
    tokens: int | None
    runs_without_tokens: int
    is_replayed: bool
    runs_with_part: int = 0

    @property
    def speed_up(self) -> float | None:
        return self.sequential_seconds / self.wall_seconds if self.wall_seconds > 0 else None


def summary(plan: Plan) -> Summary | None:
    """The board's few figures, the same as the page's, in one query; None until it is finished."""
    if plan.finished_at is None or plan.decided_at is None:
        return None
    found = ended_runs(plan).aggregate(
        seconds=Sum(F("agent_seconds") + F("gate_seconds"), filter=~Q(kind=BEFORE)),
        runs=Count("pk"),
        tokens_in=Sum("input_tokens"),
        tokens_out=Sum("output_tokens"),
        unknown=Count(
            "pk",
            filter=Q(needs_slot=True, input_tokens__isnull=True, output_tokens__isnull=True)
            & ~Q(role=""),
        ),
        replayed=Count("pk", filter=Q(backend="replay")),
        part=Count("pk", filter=Q(usage_quality="last_step", input_tokens__isnull=False)),
    )
    known = [n for n in (found["tokens_in"], found["tokens_out"]) if n is not None]
    return Summary(
        wall_seconds=(plan.finished_at - plan.decided_at).total_seconds(),
        sequential_seconds=found["seconds"] or 0.0,
        runs=found["runs"],
        tokens=sum(known) if known else None,
        runs_without_tokens=found["unknown"],
        is_replayed=found["replayed"] > 0,
        runs_with_part=found["part"],
    )


def ended_runs(plan: Plan) -> QuerySet[Run]:
    """The plan's runs that an agent or Tutti began and that ended."""
    return Run.objects.filter(plan=plan, ended_at__isnull=False, started_at__isnull=False)


def run_facts(plan: Plan) -> Iterable[RunFacts]:
    """Its runs that ended, by their start."""
    for row in ended_runs(plan).order_by("started_at", "pk").values_list(*COLUMNS):
        (pk, module, kind, role, started, ended, agent, gate, tokens_in, tokens_out, parallel, cost,
         status, number, backend, model, needs_slot, waited, laps, quality,
         owner) = row  # fmt: skip
        yield RunFacts(
            module=module or "",
            kind=kind,
            role=role,
            started=started.timestamp(),
            ended=ended.timestamp(),
            agent_seconds=agent,
            gate_seconds=gate,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            parallel_only=parallel,
            cost=cost,
            status=status,
            number=number,
            backend=backend,
            model=model,
            needs_slot=needs_slot,
            waited_seconds=waited,
            laps=laps_of_json(laps),
            id=pk,
            quality=quality,
            reason_owner=owner,
        )


def laps_of_json(laps: list[dict[str, Any]]) -> tuple[Lap, ...]:
    return tuple(
        Lap(
            agent_seconds=lap.get("agent", 0.0),
            gate_seconds=lap.get("gate", 0.0),
            tokens_in=lap.get("input"),
            tokens_out=lap.get("output"),
            at=lap.get("at"),
        )
        for lap in laps
    )


def in_order(specs: Iterable[ModuleSpec]) -> list[ModuleSpec]:
    """Specs with what the figures need of them; parts of a split come last, by name."""
    whole = [
        ModuleSpec(
            slug=spec.slug,
            needs=spec.needs,
            lane=spec.lane,
            priority=spec.priority,
            estimate_seconds=spec.estimate_seconds,
            parent=spec.parent,
        )
        for spec in specs
    ]
    parts = sorted((spec for spec in whole if spec.parent), key=lambda spec: spec.slug)
    known = {spec.slug for spec in whole}
    kept = [spec for spec in whole if not spec.parent]
    # A part whose parent is of another plan stands for itself.
    return [*kept, *(s if s.parent in known else replace(s, parent="") for s in parts)]


def _next_decided(plan: Plan) -> datetime | None:
    """When the plan after this one was approved; None while this is the newest."""
    if plan.decided_at is None:
        return None
    later = Plan.objects.filter(
        project_id=plan.project_id,
        number__gt=plan.number,
        status__in=[Plan.Status.APPROVED, Plan.Status.SUPERSEDED],
    )
    return later.order_by("number").values_list("decided_at", flat=True).first()


#: Kind, moment and data of an event.
Fact = tuple[str, datetime, dict[str, Any]]


def _ceiling_events(plan: Plan, until: datetime | None) -> list[Fact]:
    """What was said of the ceiling from the plan's approval to the next one's."""
    if plan.decided_at is None:
        return []
    topics = [plan.project.topic, f"p/{plan.project_id}/plan/{plan.pk}"]
    rows = Event.objects.filter(
        project_id=plan.project_id,
        topic__in=topics,
        kind__in=CEILING_KINDS,
        at__gte=plan.decided_at,
    )
    if plan.finished_at:
        rows = rows.filter(at__lte=plan.finished_at)
    if until:
        rows = rows.filter(at__lt=until)
    return list(rows.order_by("number").values_list("kind", "at", "data"))


def greatest_ceiling(events: Iterable[Fact], now: int) -> int:
    """The greatest ceiling that people allowed; `now` where the record says nothing of it."""
    found = []
    for kind, _, data in events:
        if kind == "plan.approved":
            found.append(data.get("ceiling"))
        elif kind == "project.ceiling":
            found += [data.get("before"), data.get("after")]
    return max((int(ceiling) for ceiling in found if ceiling), default=now)


def checks_of(events: Iterable[Fact]) -> int:
    said = (data.get("checks_at_once") for kind, _, data in events if kind == "plan.approved")
    return int(next((checks for checks in said if checks), settings.TUTTI_CHECKS_PER_HOST))


def ceilings_of(events: Iterable[Fact]) -> list[tuple[float, int]]:
    """When how many runs could work at once, by people's ceiling and by what else bound it."""
    found: list[tuple[float, int]] = []
    for kind, at, data in events:
        value: Any = data.get("ceiling") if kind == "plan.approved" else data.get("after")
        if isinstance(value, dict):
            value = value.get("slots")
        if isinstance(value, int) and (not found or found[-1][1] != value):
            found.append((at.timestamp(), value))
    return found


def _counts(plan: Plan, specs: Iterable[ModuleSpec], until: datetime | None) -> tuple[int, int]:
    """The plan's modules that were not cancelled, and of these the merged ones, at its end."""
    slugs = {spec.slug for spec in specs}
    rows = Module.objects.filter(project_id=plan.project_id)
    statuses = dict(rows.values_list("slug", "status"))
    if until is not None:
        said = Event.objects.filter(
            project_id=plan.project_id,
            kind__in=["module.merged", "module.cancelled", "module.waiting"],
            at__lt=until,
        )
        for kind, slug in said.order_by("number").values_list("kind", "data__slug"):
            statuses[slug] = kind.removeprefix("module.")
    kept = [slug for slug in slugs if statuses.get(slug) not in (S.CANCELLED, S.DRAFT, None)]
    return len(kept), sum(statuses[slug] == S.MERGED for slug in kept)


# --- How the figures are told --------------------------------------------------------------------


def line(facts: PlanFacts, found: Economics) -> str:
    """The last line of the demo and of every command that shows figures."""
    return (
        f"{facts.merged} of {facts.modules} modules merged in {found.wall_clock:.1f} s, "
        f"sequential {found.sequential:.1f} s, bound {found.bound_seconds:.1f} s, "
        f"speed-up {found.speed_up:.2f}"
    )


def as_json(facts: PlanFacts, found: Economics, *, with_runs: bool = True) -> dict[str, Any]:
    """Runs with start, end, role, module and tokens, the totals, tables and the curve."""
    return {
        "project": facts.project,
        "plan": facts.number,
        "ceiling": facts.ceiling,
        "replayed": found.is_replayed,
        "currency": settings.TUTTI_CURRENCY,
        **({"runs": [_run_json(run) for run in facts.runs]} if with_runs else {}),
        "totals": {
            "modules": facts.modules,
            "merged": facts.merged,
            "wall_seconds": _r(found.wall_clock),
            "sequential_seconds": _r(found.sequential),
            "bound_seconds": _r(found.bound_seconds),
            "bound_binds": found.bound.binds,
            "speed_up": _r(found.speed_up),
            "times_bound": _r(found.times_bound),
            "simulated_seconds": None if found.today is None else _r(found.today),
            "tokens": found.total.tokens if _knows(found.total) else None,
            "parallel_only_tokens": found.total.parallel_only,
        },
        "total": spent_json(found.total),
        "rework": spent_json(found.rework),
        **{
            f"by_{name}": {key: spent_json(spent) for key, spent in groups.items()}
            for name, groups in (
                ("role", found.by_role),
                ("kind", found.by_kind),
                ("purpose", found.by_purpose),
                ("module", found.by_module),
            )
        },
        "what_if": {str(ceiling): _r(seconds) for ceiling, seconds in found.what_if.items()},
        "paid": found.paid,
        "why_not": found.why_not,
        "summary": line(facts, found),
    }


def spent_json(spent: Spent) -> dict[str, Any]:
    """A group; tokens are null where no run told any, cost is null where none has a price."""
    known = _knows(spent)
    return {
        "runs": spent.runs,
        "agent_seconds": _r(spent.agent_seconds),
        "gate_seconds": _r(spent.gate_seconds),
        "input_tokens": spent.tokens_in if known else None,
        "output_tokens": spent.tokens_out if known else None,
        "parallel_only_tokens": spent.parallel_only,
        "runs_without_tokens": spent.unknown,
        "runs_with_part_of_tokens": spent.partial,
        "cost": _money(spent.cost),
        "parallel_only_cost": _money(spent.parallel_cost),
        "runs_without_price": spent.unpriced,
    }


def _knows(spent: Spent) -> bool:
    return bool(spent.tokens) or not spent.unknown


def _money(cost: Decimal | None) -> str | None:
    return None if cost is None else f"{cost:.6f}"


def _r(seconds: float) -> float:
    return round(seconds, 3)


def _run_json(run: RunFacts) -> dict[str, Any]:
    return {
        "id": run.id,
        "module": run.module or None,
        "kind": run.kind,
        "role": run.role or None,
        "model": run.model or None,
        "status": run.status,
        "start": _moment(run.started),
        "end": _moment(run.ended),
        "agent_seconds": _r(run.agent_seconds),
        "gate_seconds": _r(run.gate_seconds),
        "waited_seconds": _r(run.waited_seconds),
        "turns": len(run.laps),
        "input_tokens": run.tokens_in,
        "output_tokens": run.tokens_out,
        "usage_quality": run.quality,
        "cost": _money(run.cost),
        "parallel_only": run.parallel_only,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
