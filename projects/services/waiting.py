"""Who waits for whom right now, so that nothing is made to wait for what waits for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from django.db.models import F

from projects.lifecycle import OPEN, open_needs
from projects.models import Dependency, Module

S = Module.Status
START = Dependency.Gates.START
COUPLED = Dependency.Kind.COUPLED


def waits(project_id: int) -> dict[int, set[int]]:
    """Each open module to those that must be merged before it: needs, parts, its lane's holder."""
    found: dict[int, set[int]] = defaultdict(set)
    needs = Dependency.objects.filter(
        contract__module__project=project_id,
        contract=F("contract__module__contract"),
        satisfied_at__isnull=True,
    ).exclude(gates="")
    for waiter, needed in needs.values_list("contract__module", "needs"):
        found[waiter].add(needed)
    rows = Module.objects.filter(project=project_id, status__in=list(OPEN))
    modules = list(rows.values_list("pk", "parent", "status", "lane"))
    holders = {lane: pk for pk, _, status, lane in modules if lane and status in Module.IN_LANE}
    for pk, parent, status, lane in modules:
        if parent:
            found[parent].add(pk)
        if status == S.WAITING and lane in holders:
            found[pk].add(holders[lane])
    return found


def waited_for(waiter: Module, edges: Mapping[int, set[int]]) -> set[int]:
    """The keys of all modules that a module waits for, directly or through others."""
    seen: set[int] = set()
    left = [waiter.pk]
    while left:
        for needed in edges.get(left.pop(), ()):
            if needed not in seen:
                seen.add(needed)
                left.append(needed)
    return seen


def lanes_order(project_id: int) -> None:
    """Let what waits in a lane start only after whatever of the lane it waits for, by any way.

    A lane stays taken until its module is merged. The order of a plan has seen to that for what
    the plan says; exceptions, grants and what is at work under another plan come on top of it.
    """
    edges = waits(project_id)
    rows = Module.objects.filter(project=project_id, status=S.WAITING).exclude(lane="")
    mates: dict[str, set[int]] = defaultdict(set)
    for module in rows:
        mates[module.lane].add(module.pk)
    starts = Dependency.objects.filter(contract__in=rows.values("contract"), gates=START)
    known = set(starts.values_list("contract", "needs"))
    for module in rows:
        assert module.contract_id is not None
        needed = waited_for(module, edges) & mates[module.lane] - {module.pk}
        new = [pk for pk in needed if (module.contract_id, pk) not in known]
        for pk in new:
            Dependency.objects.update_or_create(
                contract_id=module.contract_id,
                needs_id=pk,
                defaults={"gates": START},
                create_defaults={"gates": START, "kind": COUPLED, "declared": False},
            )
        if new:
            Module.objects.filter(pk=module.pk).update(**open_needs(module.contract_id))
