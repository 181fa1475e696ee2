"""A draft as its forms see it: one module's fields, and what is wrong while people type."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from projects import graph, planfile
from projects.models import Contract, Event, Plan
from projects.plancontent import (
    contracts_of,
    module_dict,
    needs_of,
    plan_specs,
    tracked_files,
)
from projects.services.errors import Problem, problems_of


def draft_module(plan: Plan, slug: str) -> dict[str, Any] | None:
    """The plan file's fields of a module of the draft; None when it is not in it."""
    for contract in contracts_of(plan):
        if contract.module.slug == slug:
            return module_fields(contract)
    return None


def module_fields(contract: Contract) -> dict[str, Any]:
    fields = module_dict(contract, needs_of([contract])[contract.pk])
    return {
        **fields,
        "lane": contract.lane,
        "tests": {"paths": contract.tests, "given": contract.tests_given},
    }


def fingerprint(fields: Mapping[str, Any] | None) -> str:
    """What tells whether somebody saved a module, or settings, since a form was opened."""
    text = json.dumps(fields, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def typed_problems(plan: Plan, slug: str, values: Mapping[str, Any]) -> list[Problem]:
    """What would be wrong with a module, and with the plan around it, if it were saved so."""
    try:
        part = planfile.ModulePart.model_validate({**values, "slug": slug})
    except ValidationError as error:
        return problems_of(error, slug)
    mine = planfile.module_spec(part)
    others = [spec for spec in plan_specs(plan) if spec.slug != slug]
    found = graph.validate([*others, mine], tracked_files(plan), _commands(plan))
    return [Problem(p.module or "", p.field, p.message) for p in found if _concerns(p, slug)]


def _commands(plan: Plan) -> list[str]:
    return [check["run"] for check in plan.checks]


def _concerns(problem: graph.Problem, slug: str) -> bool:
    return problem.module == slug or slug in problem.offer


def by_module(problems: Iterable[Any]) -> list[tuple[str, list[Any]]]:
    """Problems grouped by module, those of the plan as a whole first."""
    groups: dict[str, list[Any]] = {}
    for problem in sorted(problems, key=lambda p: p.module or ""):
        groups.setdefault(problem.module or "", []).append(problem)
    return list(groups.items())


def edits_since(plan: Plan, number: int) -> list[Event]:
    """Who did what to a plan after event `number`, oldest first."""
    topic = f"p/{plan.project_id}/plan/{plan.pk}"
    return list(Event.objects.filter(topic=topic, number__gt=number).order_by("number")[:50])
