"""What the economics page shows: figures with the runs behind them, tables, pictures, plans."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import redis
from django.core.cache import cache
from django.db.models import Count, F, Q, Sum
from django.urls import reverse

from agents import charts, figures, simulation, telling, timeline
from agents.bounds import BOUNDS
from agents.economics import BEFORE, Economics, PlanFacts, Spent, economics, history
from agents.models import Run
from projects.forecast import say_seconds
from projects.models import Plan, Project

logger = logging.getLogger(__name__)

#: Rows of the table of modules on one page.
MODULES = 25
#: Plans of the table over time.
PLANS = 100
#: While more runs than these have ended, a running plan's page is loaded anew by hand.
LIVE_RUNS = 500
#: A simulated curve of so many seconds is kept for those who open the page next.
KEPT = 24 * 3600

ROLE_WORDS = {"none": "Tutti itself"}
PURPOSE_WORDS = {
    "plan": "planning the whole",
    "test": "writing tests",
    "code": "coding",
    "review": "reviewing",
    "fix": "small fixes of the reviewer",
    "rework": "rework: later turns and attempts after findings",
    "coordination": "coordination: skeleton, merges, rechecks, checks at the end",
}


@dataclass(frozen=True)
class Row:
    """A row of a table: who or what, the words for it, where its runs are, and what it took."""

    name: str
    words: str
    url: str
    spent: Spent

    @property
    def seconds(self) -> str:
        return say_seconds(self.spent.seconds)

    @property
    def tokens(self) -> str:
        return telling.tokens(self.spent)

    @property
    def parallel(self) -> str:
        return f"{self.spent.parallel_only:,}" if self.spent.parallel_only else ""

    @property
    def money(self) -> str:
        return telling.money(self.spent)


@dataclass(frozen=True)
class PlanRow:
    """A plan of the table over time; seconds, tokens and money as far as they are known."""

    number: int
    decided_at: Any
    modules: int
    runs: int
    wall_seconds: float | None
    sequential_seconds: float
    tokens: int | None
    cost: Decimal | None
    unpriced: int
    is_replayed: bool
    #: Whether agents told only a part of these tokens.
    is_part: bool

    @property
    def speed_up(self) -> float | None:
        return self.sequential_seconds / self.wall_seconds if self.wall_seconds else None

    @property
    def money(self) -> str:
        return telling.money(Spent(cost=self.cost, unpriced=self.unpriced))


def context(project: Project, plan: Plan | None, page: int, sort: str) -> dict[str, Any]:
    """Everything that `agents/economics.html` shows of a plan; figures are None without one."""
    plans = plan_rows(project)
    if plan is None:
        return {"plan": None, "plans": plans, "over_time": None}
    facts = figures.facts(plan)
    found = economics(facts, with_curve=False)
    found = with_curve(plan, facts, found)
    return {
        "plan": plan,
        "facts": facts,
        "found": found,
        "is_running": plan.finished_at is None and plan.status == Plan.Status.APPROVED,
        "runs_url": runs_url(project, plan),
        "bound_words": BOUNDS[found.bound.binds],
        "bound_url": _bound_url(project, plan, found),
        "bounds": [(BOUNDS[name], getattr(found.bound, name)) for name in BOUNDS],
        "parallel": telling.parallel(found),
        "parallel_url": runs_url(project, plan, parallel="1"),
        "parallel_money": found.total.parallel_cost,
        "rework_url": runs_url(project, plan, purpose="rework"),
        "fix_url": runs_url(project, plan, purpose="fix"),
        "total": Row("", "all runs", runs_url(project, plan), found.total),
        "rework": Row("", "rework", runs_url(project, plan, purpose="rework"), found.rework),
        "tables": _tables(project, plan, found),
        **_modules(project, plan, found, page, sort),
        "agents_chart": timeline.agents_chart(facts),
        "bars_chart": timeline.bars_chart(
            facts,
            lambda run: reverse("agents:run", args=[project.slug, run.id]),
        ),
        "curve_chart": curve_chart(found),
        "plans": plans,
        "over_time": plans_chart(plans),
        "line": figures.line(facts, found),
    }


def runs_url(project: Project, plan: Plan, **filters: str) -> str:
    """The list of the runs behind a figure."""
    page = reverse("agents:runs", args=[project.slug])
    return f"{page}?{urlencode({'plan': plan.number, **filters})}"


def with_curve(plan: Plan, facts: PlanFacts, found: Economics) -> Economics:
    """The figures with their what-if curve; the simulation of the same runs is done once."""
    key = f"economics.curve.{plan.pk}.{len(facts.runs)}.{plan.finished_at}".replace(" ", "_")
    try:
        kept = cache.get(key)
        if not isinstance(kept, dict):
            kept = simulation.curve(history(facts))
            cache.set(key, kept, KEPT)
    except redis.RedisError as error:
        logger.warning("Curves are simulated anew each time: %s", error)
        kept = simulation.curve(history(facts))
    return found.having(kept)


def curve_chart(found: Economics) -> charts.Chart:
    today = found.today
    return charts.line_chart(
        "What if: wall-clock by ceiling, simulated from the recorded durations",
        [charts.Series("wall-clock", [(float(c), s) for c, s in found.what_if.items()])],
        x_label="ceiling (runs at once)",
        y_label="seconds",
        marks=[charts.Mark(float(min(20, found.ceiling)), f"today: {found.ceiling}")],
        point=(float(min(20, found.ceiling)), today) if today is not None else None,
    )


def _bound_url(project: Project, plan: Plan, found: Economics) -> str:
    if found.bound.binds == "merge_queue":
        return runs_url(project, plan, kind="merge")
    return runs_url(project, plan)


def _tables(project: Project, plan: Plan, found: Economics) -> list[tuple[str, str, list[Row]]]:
    def rows(name: str, groups: Mapping[str, Spent], words: Mapping[str, str]) -> list[Row]:
        return [
            Row(key, words.get(key, key), runs_url(project, plan, **{name: key}), spent)
            for key, spent in groups.items()
        ]

    return [
        ("By role", "role", rows("role", found.by_role, ROLE_WORDS)),
        ("By purpose", "purpose", rows("purpose", found.by_purpose, PURPOSE_WORDS)),
        ("By kind of run", "kind", rows("kind", found.by_kind, {})),
    ]


SORTS: dict[str, Callable[[Spent], Any]] = {
    "seconds": lambda spent: spent.seconds,
    "tokens": lambda spent: spent.tokens,
    "money": lambda spent: spent.cost or Decimal(-1),
    "runs": lambda spent: spent.runs,
}


def _modules(
    project: Project, plan: Plan, found: Economics, page: int, sort: str
) -> dict[str, Any]:
    """One page of the table of modules, the largest first."""
    by = SORTS.get(sort, SORTS["seconds"])
    ordered = sorted(found.by_module.items(), key=lambda item: (-by(item[1]), item[0]))
    pages = max(1, -(-len(ordered) // MODULES))
    page = min(max(1, page), pages)
    rows = [
        Row(name, name or "the plan itself", runs_url(project, plan, module=name or "-"), spent)
        for name, spent in ordered[(page - 1) * MODULES : page * MODULES]
    ]
    return {
        "modules": rows,
        "module_count": len(ordered),
        "page": page,
        "pages": pages,
        "sort": sort if sort in SORTS else "seconds",
        "sorts": list(SORTS),
    }


def plan_rows(project: Project) -> list[PlanRow]:
    """The approved plans, the newest first, in two queries."""
    plans = Plan.objects.filter(
        project=project, status__in=[Plan.Status.APPROVED, Plan.Status.SUPERSEDED]
    ).order_by("-number")[:PLANS]
    rows = list(plans.values("pk", "number", "decided_at", "finished_at"))
    agents = Q(needs_slot=True) & ~Q(role="")
    sums = Run.objects.filter(
        plan__in=[row["pk"] for row in rows], started_at__isnull=False, ended_at__isnull=False
    )
    totals = {
        row["plan"]: row
        for row in sums.values("plan")
        .order_by("plan")
        .annotate(
            runs=Count("pk"),
            modules=Count("module", distinct=True),
            seconds=Sum(F("agent_seconds") + F("gate_seconds"), filter=~Q(kind=BEFORE)),
            tokens_in=Sum("input_tokens"),
            tokens_out=Sum("output_tokens"),
            money=Sum("cost"),
            unpriced=Count("pk", filter=agents & Q(cost__isnull=True)),
            replayed=Count("pk", filter=Q(backend="replay")),
            part=Count("pk", filter=Q(usage_quality="last_step", input_tokens__isnull=False)),
        )
    }
    return [_plan_row(row, totals.get(row["pk"], {})) for row in rows]


def _plan_row(plan: Mapping[str, Any], total: Mapping[str, Any]) -> PlanRow:
    decided, finished = plan["decided_at"], plan["finished_at"]
    known = [total.get("tokens_in"), total.get("tokens_out")]
    return PlanRow(
        number=plan["number"],
        decided_at=decided,
        modules=total.get("modules", 0),
        runs=total.get("runs", 0),
        wall_seconds=(finished - decided).total_seconds() if decided and finished else None,
        sequential_seconds=total.get("seconds") or 0.0,
        tokens=sum(n or 0 for n in known) if any(n is not None for n in known) else None,
        cost=total.get("money"),
        unpriced=total.get("unpriced", 0),
        is_replayed=bool(total.get("replayed")),
        is_part=bool(total.get("part")),
    )


def plans_chart(rows: list[PlanRow]) -> charts.Chart | None:
    """Wall-clock beside sequential of each finished plan; None while there is none."""
    done = [row for row in reversed(rows) if row.wall_seconds is not None]
    if not done:
        return None
    return charts.line_chart(
        "Finished plans over time",
        [
            charts.Series("wall-clock", [(float(r.number), r.wall_seconds or 0.0) for r in done]),
            charts.Series("sequential", [(float(r.number), r.sequential_seconds) for r in done]),
        ],
        x_label="plan",
        y_label="seconds",
    )
