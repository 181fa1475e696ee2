"""What people do with a module while its plan runs, and what a run's answer does to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from projects import live
from projects.lifecycle import CANCELLABLE, OPEN, fresh_start, open_needs, transition
from projects.models import Contract, Dependency, Module, Plan, Role
from projects.services.attention import attention_close, attention_open
from projects.services.errors import Refused
from projects.services.plans import contract_row, module_give_up
from projects.services.waiting import lanes_order, waited_for, waits

S = Module.Status


def module_pause(module: Module, by: live.Actor) -> None:
    """Start no further run of the module; the one that works goes on to its end."""
    _mark(module, by, "module.paused", paused_at=timezone.now())


def module_resume(module: Module, by: live.Actor) -> None:
    _mark(module, by, "module.resumed", paused_at=None)


def module_priority_set(module: Module, priority: int, by: live.Actor) -> None:
    """Higher starts first; 0 is normal."""
    if not -1000 <= priority <= 1000:
        raise Refused("A priority is a number from -1000 to 1000.")
    _mark(module, by, "module.priority", priority=priority)


def module_lane_leave(module: Module, by: live.Actor) -> None:
    """Take a module out of its lane, so that the next one of the lane may start."""
    _mark(module, by, "module.left_lane", lane="")


def _mark(module: Module, by: live.Actor, kind: str, **values: Any) -> None:
    with live.change(module.project_id) as change:
        before = {name: getattr(module, name) for name in values}
        Module.objects.filter(pk=module.pk).update(version=F("version") + 1, **values)
        for name, value in values.items():
            setattr(module, name, value)
        change.event(kind, module.topic, by, slug=module.slug, before=before, after=values)


def module_cancel(module: Module, by: live.Actor, reason: str = "") -> None:
    """Give a module up; what needs it never starts, and its parent asks a person."""
    with live.change(module.project_id):
        module.refresh_from_db()
        if module.status not in CANCELLABLE:
            raise Refused(f"{module.slug} is {module.status} and can't be cancelled.")
        module_give_up(module, by, reason)
        if module.parent_id:
            _ask_about(module)


def _ask_about(part: Module) -> None:
    assert part.parent is not None
    module_ask(part.parent, _asked_about(part, part.parent), live.SYSTEM)


def _cancelled_part(parent: Module) -> Module | None:
    """A part that the parent waits for in vain."""
    return parent.children.filter(status=S.CANCELLED, contract__isnull=False).first()


def _asked_about(part: Module, parent: Module) -> str:
    return f"Its part {part.slug} was cancelled. Cancel {parent.slug} too, or retry the part."


def module_ask(module: Module, reason: str, by: live.Actor, **fields: Any) -> bool:
    """Hand a module to a person, saying exactly what is asked."""
    with live.change(module.project_id):
        module.refresh_from_db()
        if module.status == S.NEEDS_PERSON or module.status not in OPEN - {S.WAITING}:
            return False
        moved = transition(module, S.NEEDS_PERSON, by=by, reason=reason, **fields)
        if moved:
            attention_open(
                module.project,
                topic=module.topic,
                kind="needs_person",
                title=f"{module.slug} needs a person",
                detail=reason,
                url=reverse("agents:module", args=[module.project.slug, module.slug]),
                role=Role.MEMBER,
            )
        return moved


def module_retry(module: Module, by: live.Actor) -> str:
    """Go on from the module's last checkpoint, with its counts of failures set back.

    Returns the sentence that says from where.
    """
    with live.change(module.project_id):
        module.refresh_from_db()
        if module.status == S.NEEDS_PERSON:
            gone = _cancelled_part(module)
            if gone and module.resume_to == S.BUILT:
                raise Refused(_asked_about(gone, module))
            _module_resume_to(module, by)
        elif module.status == S.CANCELLED:
            _module_start_over(module, by)
            return f"{module.slug} starts over."
        elif module.status in OPEN:
            _mark(module, by, "module.retried", failures=0, not_before=None)
        else:
            raise Refused(f"{module.slug} is {module.status}; there is nothing to retry.")
    return retried_from(module)


def retried_from(module: Module) -> str:
    """Where the next run of a module goes on, as a sentence."""
    then = " It is paused: resume it, or nothing starts." if module.paused_at else ""
    if not module.head_commit:
        return f"{module.slug} begins: nothing of it was kept yet.{then}"
    return f"{module.slug} goes on from its last checkpoint, {module.head_commit[:10]}.{then}"


def _module_resume_to(module: Module, by: live.Actor) -> None:
    to = module.resume_to or S.BUILDING
    transition(module, to, by=by, reason="", failures=0, fixes=0, resume_to="", not_before=None)
    attention_close(module.project, topic=module.topic, by=by)


def _module_start_over(module: Module, by: live.Actor) -> None:
    parent = Module.objects.filter(pk=module.parent_id).first() if module.parent_id else None
    if parent and parent.status == S.CANCELLED:
        raise Refused(f"{module.slug} is a part of {parent.slug}, which is cancelled; retry that.")
    if module.contract_id is None and parent:
        raise Refused(f"{module.slug} is no part any more: its module was begun again without it.")
    if module.contract_id is None:
        raise Refused(f"{module.slug} was never approved; put it into the next plan.")
    transition(module, S.WAITING, by=by, **open_needs(module.contract_id), **fresh_start())
    # The checks at the end of the plan in force have to say again whether all is done.
    Plan.objects.filter(project=module.project_id, status=Plan.Status.APPROVED).update(
        finished_at=None
    )
    if parent and parent.status == S.NEEDS_PERSON and parent.resume_to == S.BUILT:
        _module_resume_to(parent, by)
        if other := _cancelled_part(parent):
            _ask_about(other)


def module_set_back(module: Module, by: live.Actor, reason: str) -> None:
    """Let a module wait again, with the tests and code that it has."""
    transition(module, S.WAITING, by=by, reason=reason)


def module_split(
    parent: Module, children: Sequence[dict[str, Any]], by: live.Actor
) -> list[Module]:
    """Make the parts of a module; it is `built` and waits for them.

    `children` are modules of a plan file, checked before by graph.check_split.
    """
    assert parent.contract is not None
    with live.change(parent.project_id) as change:
        made: dict[str, Module] = {}
        contracts: dict[str, Contract] = {}
        for values in children:
            slug = values["slug"]
            made[slug] = Module.objects.create(
                project_id=parent.project_id,
                plan_id=parent.plan_id,
                slug=slug,
                title=values.get("title") or slug,
                parent=parent,
                status=S.DRAFT,
                path_length=parent.path_length,
                priority=parent.priority,
            )
            contracts[slug] = contract_row(parent.plan, made[slug], values)
        for values in children:
            _child_starts(values, made, contracts, by)
        transition(
            parent,
            S.BUILT,
            by=by,
            reason=f"Split into {', '.join(made)}.",
            needs_to_finish=F("needs_to_finish") + len(made),
        )
        parent.refresh_from_db()
        change.event(
            "module.split",
            parent.topic,
            by,
            slug=parent.slug,
            children=sorted(made),
            modules=[
                {
                    "slug": values["slug"],
                    "needs": [[need["module"], need["kind"]] for need in values.get("needs") or []],
                    "lane": values.get("lane") or "",
                    "priority": values.get("priority") or 0,
                    "parent": parent.slug,
                    "estimate_seconds": values.get("estimate_seconds"),
                }
                for values in children
            ],
        )
    return list(made.values())


def _child_starts(
    values: dict[str, Any],
    made: dict[str, Module],
    contracts: dict[str, Contract],
    by: live.Actor,
) -> None:
    counts = {"start": 0, "finish": 0}
    for need in values.get("needs") or []:
        gate = "finish" if need["kind"] == Dependency.Kind.CONTRACT else "start"
        Dependency.objects.create(
            contract=contracts[values["slug"]],
            needs=made[need["module"]],
            kind=need["kind"],
            gates=gate,
        )
        counts[gate] += 1
    transition(
        made[values["slug"]],
        S.WAITING,
        by=by,
        contract_id=contracts[values["slug"]].pk,
        needs_to_start=counts["start"],
        needs_to_finish=counts["finish"],
    )


def contract_amend(module: Module, paths: Sequence[str], by: live.Actor, reason: str) -> Contract:
    """Grant a module further paths: its next contract version, in force at once.

    When another module owns such a path and is not merged yet, this one merges after it.
    """
    with live.change(module.project_id) as change:
        module.refresh_from_db()
        old = module.contract
        assert old is not None
        needs = list(old.needs.all())
        new = Contract.objects.get(pk=old.pk)
        new.pk = None
        new.version = (
            Contract.objects.filter(module=module).order_by("-version").values_list(
                "version", flat=True
            )[0]
            + 1
        )  # fmt: skip
        new.exceptions = sorted({*old.exceptions, *paths})
        new.save(force_insert=True)
        for need in needs:
            need.pk = None
            need.contract = new
            need.save(force_insert=True)
        Module.objects.filter(pk=module.pk).update(contract=new, version=F("version") + 1)
        module.contract = new
        change.event(
            "contract.amended",
            module.topic,
            by,
            slug=module.slug,
            paths=sorted(paths),
            reason=reason,
            version=new.version,
        )
    return new


def merge_after(module: Module, owners: Sequence[Module]) -> None:
    """Let a module finish only after these, whose paths it may change by an exception.

    One that waits for this module itself merges later, and takes the change in then.
    """
    assert module.contract is not None
    with live.change(module.project_id):
        edges = waits(module.project_id)
        for owner in owners:
            if owner.status in (S.MERGED, S.CANCELLED) or module.pk in waited_for(owner, edges):
                continue
            edges.setdefault(module.pk, set()).add(owner.pk)
            _, created = Dependency.objects.get_or_create(
                contract=module.contract,
                needs=owner,
                defaults={
                    "kind": Dependency.Kind.CONTRACT,
                    "gates": Dependency.Gates.FINISH,
                    "declared": False,
                },
            )
            if created:
                Module.objects.filter(pk=module.pk).update(needs_to_finish=F("needs_to_finish") + 1)
        lanes_order(module.project_id)


def lane_join(modules: Sequence[Module], lane: str, by: live.Actor, reason: str) -> None:
    """Put modules that are not merged yet into one lane, so that they never run together."""
    for module in modules:
        if module.status not in (S.MERGED, S.CANCELLED) and module.lane != lane:
            _mark(module, by, "module.joined_lane", lane=lane, reason=reason)
    if modules:
        lanes_order(modules[0].project_id)
