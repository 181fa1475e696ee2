"""What the plan's page shows: contracts, problems, the difference, why not more parallel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from projects import graph, plancontent
from projects.drafts import by_module
from projects.git import GitError
from projects.models import Contract, Dependency, Event, Plan, Project
from projects.services.proposals import can_ask, proposal_of
from projects.specs import Problem
from projects.yamltext import dump_yaml

#: Statuses in which a plan is still being decided on.
OPEN = (Plan.Status.DRAFT, Plan.Status.SUBMITTED)


def plan_shown(project: Project, number: int | None = None) -> Plan | None:
    """The plan of a number, else the one people work on: the open one, else the newest."""
    plans = Plan.objects.filter(project=project).select_related(
        "project", "created_by", "submitted_by", "decided_by"
    )
    if number is not None:
        return plans.filter(number=number).first()
    return plans.filter(status__in=OPEN).first() or plans.order_by("-number").first()


@dataclass(frozen=True)
class Difference:
    """One changed field of a plan, with both sides as text."""

    module: str
    field: str
    old: str
    new: str


def plan_context(plan: Plan) -> dict[str, Any]:
    """Everything that `projects/plan.html#live` shows of a plan."""
    contracts = [c for c in plancontent.contracts_of(plan) if c.module.parent_id is None]
    needs = plancontent.needs_of(contracts)
    return {
        "plan": plan,
        "modules": [_module(contract, needs[contract.pk]) for contract in contracts],
        "problems": by_module(problems_of(plan)) if plan.status in OPEN else [],
        "report": report_of(plan),
        "before": plancontent.plan_before(plan),
        "differences": differences_of(plan),
        "rejected": rejected_last(plan),
        "proposal": proposal_of(plan) if plan.status in OPEN else None,
        "can_ask": can_ask(plan.project) if plan.status == Plan.Status.DRAFT else False,
        "numbers": list(
            Plan.objects.filter(project_id=plan.project_id)
            .order_by("-number")
            .values_list("number", "status")
        ),
    }


def _module(contract: Contract, needs: list[Dependency]) -> dict[str, Any]:
    return {"contract": contract, "module": contract.module, "needs": needs}


def problems_of(plan: Plan) -> list[Problem]:
    """What keeps a plan from being submitted; a repository that can't be read is one of it."""
    try:
        return plancontent.plan_problems(plan)
    except GitError as error:
        return [Problem(None, "source", str(error))]


def report_of(plan: Plan) -> graph.Report | None:
    """Why not more parallel; None while needs go round in a circle or name nobody."""
    try:
        return plancontent.plan_report(plan)
    except (ValueError, KeyError):
        return None


def differences_of(plan: Plan) -> list[Difference]:
    """What changed since the last approved plan; empty for a first one, where all is new."""
    if plancontent.plan_before(plan) is None:
        return []
    try:
        changes = plancontent.plan_difference(plan)
    except ValidationError:
        return []
    return [
        Difference(change.module or "", change.field, as_text(change.old), as_text(change.new))
        for change in changes
    ]


def as_text(value: Any) -> str:
    """A field of a plan file as people read it: YAML of lists and mappings, text as it is."""
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return dump_yaml(value).rstrip("\n")


def rejected_last(plan: Plan) -> Event | None:
    """The rejection that made this plan a draft again, until it is submitted anew."""
    if plan.status != Plan.Status.DRAFT:
        return None
    kinds = ["plan.rejected", "plan.submitted", "plan.withdrawn"]
    topic = f"p/{plan.project_id}/plan/{plan.pk}"
    last = Event.objects.filter(topic=topic, kind__in=kinds).order_by("-number").first()
    return last if last and last.kind == "plan.rejected" else None


def slugs_of(plan: Plan) -> Iterable[str]:
    return [contract.module.slug for contract in plancontent.contracts_of(plan)]
