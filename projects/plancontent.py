"""Read a plan's rows as the values that planning works on."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from projects import graph, hub, planfile
from projects.models import Contract, Dependency, Module, Plan
from projects.specs import ModuleSpec, Need, Problem


def contracts_of(plan: Plan) -> list[Contract]:
    """The plan's newest contract of each module that it keeps, in the plan's order."""
    rows = Contract.objects.filter(plan=plan).select_related("module", "module__parent")
    newest: dict[int, Contract] = {}
    for contract in rows.order_by("version"):
        newest[contract.module_id] = contract
    kept = [contract for contract in newest.values() if not contract.removed]
    return sorted(kept, key=lambda contract: (contract.position, contract.pk))


def needs_of(contracts: list[Contract]) -> dict[int, list[Dependency]]:
    """Contract to what it needs, as people declared it."""
    rows = Dependency.objects.filter(contract__in=contracts, declared=True)
    found: dict[int, list[Dependency]] = defaultdict(list)
    for row in rows.select_related("needs").order_by("pk"):
        found[row.contract_id].append(row)
    return found


def plan_specs(plan: Plan, *, with_children: bool = False) -> list[ModuleSpec]:
    """The plan as planning sees it; children of a split are left out unless asked for."""
    contracts = [c for c in contracts_of(plan) if with_children or c.module.parent_id is None]
    needs = needs_of(contracts)
    return [spec_of(contract, needs[contract.pk]) for contract in contracts]


def outline_of(plan: Plan) -> list[dict[str, Any]]:
    """Modules with what they need, their lanes and priorities, as the record of approval keeps."""
    return [
        {
            "slug": spec.slug,
            "needs": [[need.module, need.kind] for need in spec.needs],
            "lane": spec.lane,
            "priority": spec.priority,
            "parent": spec.parent,
            "estimate_seconds": spec.estimate_seconds,
        }
        for spec in plan_specs(plan)
    ]


def spec_of(contract: Contract, needs: list[Dependency]) -> ModuleSpec:
    module = contract.module
    return ModuleSpec(
        slug=module.slug,
        title=contract.title,
        owns=tuple(contract.owns),
        tests=tuple(contract.tests),
        needs=tuple(Need(need.needs.slug, need.kind) for need in needs),
        checks=tuple(contract.checks),
        lane=contract.lane,
        priority=contract.priority,
        estimate_seconds=contract.estimate_seconds,
        parent=module.parent.slug if module.parent else "",
        provides=tuple(contract.provides),
        tests_given=contract.tests_given,
    )


def module_dict(contract: Contract, needs: list[Dependency]) -> dict[str, Any]:
    """A contract as the plan file writes it."""
    tests: Any = contract.tests
    if contract.tests_given:
        tests = {"paths": contract.tests, "given": True}
    return {
        "slug": contract.module.slug,
        "title": contract.title,
        "brief": contract.brief,
        "owns": contract.owns,
        "tests": tests,
        "provides": contract.provides,
        "needs": [{"module": need.needs.slug, "kind": need.kind} for need in needs],
        "checks": contract.checks,
        "lane": contract.lane,
        "priority": contract.priority,
        "estimate_seconds": contract.estimate_seconds,
    }


def plan_dict(plan: Plan) -> dict[str, Any]:
    contracts = [c for c in contracts_of(plan) if c.module.parent_id is None]
    needs = needs_of(contracts)
    return {
        "version": 1,
        "project": {
            "name": plan.project.name,
            "goal": plan.goal,
            "checks": plan.checks,
            "instructions": plan.instructions,
            "ceiling": plan.project.ceiling,
            "policies": plan.policies,
            "replay": plan.replay,
        },
        "modules": [module_dict(contract, needs[contract.pk]) for contract in contracts],
    }


def plan_file(plan: Plan) -> planfile.PlanFile:
    """The plan as a file; raises pydantic's ValidationError while a draft is not a valid file."""
    return planfile.PlanFile.model_validate(plan_dict(plan))


def plan_digest(plan: Plan) -> str:
    """SHA-256 of the canonical plan, its policies and the commit that it was made for.

    The ceiling is left out: it is the project's, and changing it changes no plan.
    """
    values = plan_dict(plan)
    values["project"].pop("ceiling")
    values["project"].pop("name")
    file = planfile.PlanFile.model_validate({**values, "project": {
        **values["project"], "name": plan.project.slug}})  # fmt: skip
    return planfile.digest(file, policies=plan.policies, source_commit=plan.source_commit)


def tracked_files(plan: Plan) -> list[str]:
    """Files of the integration branch, which the plan's globs speak of."""
    repository = hub.Hub(plan.project.hub_path)
    head = repository.head(hub.integration_ref())
    return repository.files(head) if head else []


def plan_problems(plan: Plan) -> list[Problem]:
    """What keeps the plan from being submitted, each with module and field."""
    specs = plan_specs(plan)
    if not specs:
        return [Problem(None, "modules", "The plan has no modules yet; add one.")]
    return graph.validate(specs, tracked_files(plan), [check["run"] for check in plan.checks])


def plan_before(plan: Plan) -> Plan | None:
    """The plan that was approved before this one."""
    approved = Plan.objects.filter(
        project_id=plan.project_id,
        number__lt=plan.number,
        status__in=[Plan.Status.APPROVED, Plan.Status.SUPERSEDED],
    )
    return approved.order_by("-number").first()


def plan_difference(plan: Plan) -> list[planfile.Change]:
    """Field by field, what differs from the last approved plan; all of it for the first one."""
    before = plan_before(plan)
    return planfile.difference(plan_file(before) if before else None, plan_file(plan))


def plan_report(plan: Plan) -> graph.Report:
    """Why not more parallel; ValueError for a plan with a cycle."""
    return graph.why_not_more_parallel(plan_specs(plan), plan.project.ceiling)


def modules_of(plan: Plan) -> list[Module]:
    return list(Module.objects.filter(project_id=plan.project_id).order_by("pk"))
