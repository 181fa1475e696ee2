"""Facts about modules at work, in words."""

from __future__ import annotations

from agents.models import Run
from projects.models import Dependency, Module, Project

S = Module.Status


def active_runs(project: Project) -> list[Run]:
    rows = Run.objects.filter(project=project, status__in=Run.ACTIVE)
    return list(rows.select_related("module").order_by("pk"))


def why_waiting(module: Module) -> str:
    """Which of needs, lane, pause, time and slot a module waits for; empty when for none."""
    if module.paused_at:
        return "Paused. Resume it to go on."
    if module.status == S.NEEDS_PERSON:
        return module.reason or "A person has to decide."
    if module.status == S.BUILT:
        return _needs(module, "finish") if module.needs_to_finish else "About to be checked again."
    if module.status == S.MERGING:
        return "In the merge queue."
    if module.status != S.WAITING:
        return ""
    if module.needs_to_start:
        return _needs(module, "start")
    if holder := lane_holder(module):
        return f"Coupled: lane {module.lane} is taken by {holder.slug} ({holder.status})."
    if module.plan.prepared_at is None:
        return "The plan's skeleton is being committed."
    return module.project.binding.get("sentence") or "Waits for a free slot."


def lane_holder(module: Module) -> Module | None:
    if not module.lane:
        return None
    mates = Module.objects.filter(
        project_id=module.project_id, lane=module.lane, status__in=Module.IN_LANE
    )
    return mates.exclude(pk=module.pk).first()


def _needs(module: Module, gate: str) -> str:
    rows = Dependency.objects.filter(
        contract_id=module.contract_id, gates=gate, satisfied_at__isnull=True
    ).select_related("needs")
    waits = [f"{row.needs.slug} ({row.needs.status})" for row in rows]
    if gate == "finish":
        children = module.children.exclude(status=S.MERGED)
        waits += [f"{child.slug} ({child.status})" for child in children]
    verb = "to be merged before it starts" if gate == "start" else "to be merged before it finishes"
    return f"Waits for {', '.join(waits)} {verb}."
