"""The API of what plans cost and how near they came to the best possible time."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from django.http import Http404
from ninja import Query, Router, Schema

from agents import economicspage, figures
from agents.economics import economics as economics_of
from projects import access
from projects.access import HtmxRequest

router = Router(tags=["economics"])

Number = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


class SpentOut(Schema):
    """A group of runs. Tokens and cost are null where nobody told them, never 0 for it."""

    runs: int
    agent_seconds: float
    gate_seconds: float
    input_tokens: int | None
    output_tokens: int | None
    parallel_only_tokens: int
    runs_without_tokens: int
    #: Their agents told less than they used.
    runs_with_part_of_tokens: int
    cost: str | None
    parallel_only_cost: str | None
    runs_without_price: int


class TotalsOut(Schema):
    """The figures of a plan, in seconds; `bound_binds` says which reason of the bound counts."""

    modules: int
    merged: int
    wall_seconds: float
    sequential_seconds: float
    bound_seconds: float
    bound_binds: str
    speed_up: float
    times_bound: float
    #: The what-if curve at the ceiling that the plan had.
    simulated_seconds: float | None
    tokens: int | None
    parallel_only_tokens: int


class EconomicsOut(Schema):
    """A plan's economics; a replay says nothing about tokens and money."""

    project: str
    plan: int
    ceiling: int
    replayed: bool
    currency: str
    totals: TotalsOut
    total: SpentOut
    rework: SpentOut
    by_role: dict[str, SpentOut]
    by_kind: dict[str, SpentOut]
    by_purpose: dict[str, SpentOut]
    by_module: dict[str, SpentOut]
    #: Ceiling to simulated wall-clock in seconds.
    what_if: dict[str, float]
    paid: bool
    why_not: list[str]
    summary: str


class PlanEconomicsOut(Schema):
    """A plan in the list over time; wall_seconds is null while it is not finished."""

    number: int
    decided_at: datetime | None
    modules: int
    runs: int
    wall_seconds: float | None
    sequential_seconds: float
    speed_up: float | None
    tokens: int | None
    #: Whether agents told only a part of these tokens.
    tokens_are_part: bool
    cost: str | None
    runs_without_price: int
    replayed: bool


@router.get("/{slug}/economics", response=EconomicsOut)
def economics(request: HtmxRequest, slug: str, plan: Number = None) -> EconomicsOut:
    """The figures of a plan, by default of the last approved one; its runs are at /runs."""
    project = access.project_for(request.user, slug)
    shown = figures.plan_shown(project, plan)
    if shown is None:
        raise Http404("There is no approved plan of this number.")
    facts = figures.facts(shown)
    found = economicspage.with_curve(shown, facts, economics_of(facts, with_curve=False))
    told = figures.as_json(facts, found, with_runs=False)
    return EconomicsOut.model_validate(told)


@router.get("/{slug}/economics/plans", response=list[PlanEconomicsOut])
def economics_plans(request: HtmxRequest, slug: str) -> list[PlanEconomicsOut]:
    """The approved plans over time, the newest first."""
    project = access.project_for(request.user, slug)
    return [
        PlanEconomicsOut(
            number=row.number,
            decided_at=row.decided_at,
            modules=row.modules,
            runs=row.runs,
            wall_seconds=row.wall_seconds,
            sequential_seconds=row.sequential_seconds,
            speed_up=row.speed_up,
            tokens=row.tokens,
            tokens_are_part=row.is_part,
            cost=None if row.cost is None else f"{row.cost:.6f}",
            runs_without_price=row.unpriced,
            replayed=row.is_replayed,
        )
        for row in economicspage.plan_rows(project)
    ]
