"""The life of a module: which status may follow which, and the one function that moves it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from django.db.models import F, QuerySet
from django.utils import timezone

from projects import graph, live, plancontent
from projects.models import Contract, Dependency, Module

S = Module.Status

#: Status to the statuses that may follow it. Cancelling is legal from everywhere but merged.
TABLE: dict[str, frozenset[str]] = {
    S.DRAFT: frozenset({S.WAITING}),
    S.WAITING: frozenset({S.PLANNING, S.BUILDING}),
    S.PLANNING: frozenset({S.BUILDING, S.WAITING, S.NEEDS_PERSON}),
    S.BUILDING: frozenset({S.BUILT, S.REVIEWING, S.WAITING, S.NEEDS_PERSON}),
    S.BUILT: frozenset({S.REVIEWING, S.BUILDING, S.NEEDS_PERSON}),
    S.REVIEWING: frozenset({S.FIXING, S.BUILDING, S.MERGING, S.NEEDS_PERSON}),
    S.FIXING: frozenset({S.REVIEWING, S.BUILDING, S.BUILT, S.MERGING, S.NEEDS_PERSON}),
    S.MERGING: frozenset({S.MERGED, S.FIXING, S.BUILDING, S.NEEDS_PERSON}),
    S.MERGED: frozenset({S.WAITING}),
    S.NEEDS_PERSON: frozenset({S.PLANNING, S.BUILDING, S.BUILT, S.REVIEWING, S.FIXING, S.MERGING}),
    S.CANCELLED: frozenset({S.WAITING}),
}
CANCELLABLE = frozenset(S) - {S.MERGED, S.CANCELLED}

#: Statuses in which work is still to be done.
OPEN = frozenset(S) - {S.DRAFT, S.MERGED, S.CANCELLED}


class IllegalTransition(ValueError):
    """A status that may not follow the one the module has."""


def may_follow(status: str, to: str) -> bool:
    return to in TABLE[status] or (to == S.CANCELLED and status in CANCELLABLE)


def transition(module: Module, to: str, *, by: live.Actor, reason: str = "", **fields: Any) -> bool:
    """Move a module to a status, with its event, its dependents' counters and the doorbell.

    False when somebody else moved it first, which is no error. Further `fields` of the module
    are written in the same update. Raises IllegalTransition for a move the table does not know.
    """
    if not may_follow(module.status, to):
        raise IllegalTransition(f"{module.slug} can't go from {module.status} to {to}.")
    came_from = module.status
    if to == S.NEEDS_PERSON:
        fields.setdefault("resume_to", came_from)
    values = {"status": to, "reason": reason, "status_at": timezone.now(), **fields}
    with live.change(module.project_id) as change:
        updated = Module.objects.filter(pk=module.pk, status=came_from).update(
            version=F("version") + 1, **values
        )
        if not updated:
            return False
        for name, value in values.items():
            setattr(module, name, value)
        change.event(
            f"module.{to}",
            module.topic,
            by,
            slug=module.slug,
            came_from=came_from,
            to=to,
            reason=reason,
        )
        # The page of the plan shows each module's status, too.
        change.topics.add(f"{change.project.topic}/plan")
        if came_from == S.CANCELLED:
            _give_up_parts(module, change, by)
        if to == S.CANCELLED:
            # To merge after a module by an exception is an order, and needs nothing of it.
            order = Dependency.objects.filter(declared=False, kind=Dependency.Kind.CONTRACT)
            _release_dependents(module, order)
        if to == S.MERGED:
            _release_dependents(module, Dependency.objects.all())
            if module.parent_id:
                Module.objects.filter(pk=module.parent_id, needs_to_finish__gt=0).update(
                    needs_to_finish=F("needs_to_finish") - 1
                )
            _take_next_contract(module, by)
    return True


def _give_up_parts(module: Module, change: live.Change, by: live.Actor) -> None:
    """A module that begins again has a new branch, which lacks its parts, the merged ones too.

    Without a contract they are its parts no more.
    """
    for part in module.children.exclude(contract=None):
        said = {"slug": part.slug, "came_from": part.status, "to": S.CANCELLED,
                "reason": f"{module.slug} begins again without it."}  # fmt: skip
        Module.objects.filter(pk=part.pk).update(
            status=S.CANCELLED,
            status_at=timezone.now(),
            reason=said["reason"],
            merged_commit="",
            contract=None,
            version=F("version") + 1,
        )
        change.event("module.cancelled", part.topic, by, **said)
        _give_up_parts(part, change, by)


def _release_dependents(module: Module, needs: QuerySet[Dependency]) -> None:
    """Count down what waited for this module by any of these needs."""
    waiting = needs.filter(
        needs=module, satisfied_at__isnull=True, contract=F("contract__module__contract")
    )
    for gate, counter in (("start", "needs_to_start"), ("finish", "needs_to_finish")):
        dependents = waiting.filter(gates=gate).values("contract__module")
        Module.objects.filter(pk__in=dependents, **{f"{counter}__gt": 0}).update(
            **{counter: F(counter) - 1}
        )
    waiting.update(satisfied_at=timezone.now())


def _take_next_contract(module: Module, by: live.Actor) -> None:
    """Start over under the contract that was approved while the module ran."""
    if module.next_contract_id:
        contract = Contract.objects.select_related("plan").get(pk=module.next_contract_id)
        lanes = graph.lanes(plancontent.plan_specs(contract.plan))
        transition(
            module,
            S.WAITING,
            by=by,
            reason="A newer contract was approved while it ran.",
            contract_id=module.next_contract_id,
            next_contract_id=None,
            lane=lanes.get(module.slug) or module.lane,
            **open_needs(contract.pk),
            **fresh_start(),
        )


def open_needs(contract_id: int) -> dict[str, Any]:
    """Both counters of a module under a contract; what was merged since its approval is no need."""
    return needs_left([contract_id])[contract_id]


def needs_left(contract_ids: Collection[int]) -> dict[int, dict[str, Any]]:
    """What `open_needs` gives, for many contracts at once."""
    rows = Dependency.objects.filter(contract__in=contract_ids, satisfied_at__isnull=True)
    rows.filter(needs__status=S.MERGED).update(satisfied_at=timezone.now())
    left = Counter(rows.values_list("contract", "gates"))
    return {
        pk: {"needs_to_start": left[pk, "start"], "needs_to_finish": left[pk, "finish"]}
        for pk in contract_ids
    }


def fresh_start() -> dict[str, Any]:
    """Values of a module that begins a new life under a contract."""
    return {
        "failures": 0,
        "fixes": 0,
        "open_findings": 0,
        "head_commit": "",
        "tests_commit": "",
        "locked_tests": {},
        "outline": "",
        "resume_to": "",
        "not_before": None,
    }
