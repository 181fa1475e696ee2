"""The API of what agents would do for a plan, and of plans made from the repository itself."""

from __future__ import annotations

from decimal import Decimal

from django.shortcuts import get_object_or_404
from ninja import Router, Schema

from agents import estimates
from agents.estimate_facts import PlanEstimate, estimate_of
from agents.services.cutting import plan_cut
from projects import access, plancontent
from projects.access import HtmxRequest
from projects.models import Plan, Role
from projects.schemas import Done

router = Router(tags=["plans"])


@router.post("/{slug}/plans/cut", response=Done)
def plan_cut_by_packages(request: HtmxRequest, slug: str) -> Done:
    """Cut the repository by packages and imports, without any model, into an open draft."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    plan = plan_cut(project, request.user)
    count = len(plancontent.plan_specs(plan))
    return Done(message=f"Plan {plan.number} is a draft with {count} modules, cut by packages.")


# --- What a plan would take ----------------------------------------------------------------------


class PlayerOut(Schema):
    """Who plays a role; `chosen_by` is project, site or empty, `network` null without a sandbox."""

    role: str
    backend: str
    agent: str
    model: str
    provider: str
    chosen_by: str
    network: bool | None


class TotalOut(Schema):
    """A sum; `cost` is that of the priced steps, null where none is, and decimal as text."""

    tokens: int
    cost: str | None
    steps: int
    unpriced: int
    replayed: int
    guessed: int


class StepOut(Schema):
    """All runs of one kind for a module; `price` is priced, told, unpriced or replayed."""

    kind: str
    role: str
    tokens: int
    cost: str | None
    price: str
    basis: str
    is_guess: bool


class ModuleEstimateOut(Schema):
    slug: str
    note: str
    steps: list[StepOut]
    total: TotalOut


class EstimateOut(Schema):
    """What a plan would still take; `warnings` says which quotas would not suffice."""

    plan: int
    currency: str
    sentence: str
    roles: list[PlayerOut]
    modules: list[ModuleEstimateOut]
    total: TotalOut
    warnings: list[str]


@router.get("/{slug}/plans/{int:number}/estimate", response=EstimateOut)
def plan_estimate(request: HtmxRequest, slug: str, number: int) -> EstimateOut:
    """Who would do what, and the tokens and money that similar runs let one expect."""
    project = access.project_for(request.user, slug)
    rows = Plan.objects.select_related("project")
    return _estimate(estimate_of(get_object_or_404(rows, project=project, number=number)))


def _estimate(found: PlanEstimate) -> EstimateOut:
    return EstimateOut(
        plan=found.plan.number,
        currency=found.currency,
        sentence=found.sentence,
        roles=[
            PlayerOut(**{name: getattr(one, name) for name in PlayerOut.model_fields})
            for one in found.players
        ],
        modules=[
            ModuleEstimateOut(
                slug=row.wanted.slug,
                note=row.wanted.note,
                steps=[_step(step) for step in row.steps.values()],
                total=_total(row.total),
            )
            for row in found.rows
        ],
        total=_total(found.total),
        warnings=list(found.warnings),
    )


def _step(step: estimates.Step) -> StepOut:
    names = ("kind", "role", "tokens", "price", "basis", "is_guess")
    values = {name: getattr(step, name) for name in names}
    return StepOut(**values, cost=_money(step.money))


def _total(total: estimates.Total) -> TotalOut:
    names = ("tokens", "steps", "unpriced", "replayed", "guessed")
    return TotalOut(**{name: getattr(total, name) for name in names}, cost=_money(total.money))


def _money(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:.6f}"
