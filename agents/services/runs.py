"""The life of a run: queued with its slot, claimed by fence, checked, ended; and its log."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Max, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from agents.facts import facts_of
from agents.models import Profile, Run, RunLog
from agents.services import budgets, fleet
from agents.services.profiles import ROLE_OF, profile_for
from projects import live
from projects.models import Module, Plan, Project
from projects.services.modules import module_pause
from projects.services.proposals import proposal_end

S = Run.Status
#: Reason of a run that gave way because its machine ran short of memory.
MEMORY = "memory"
#: Why Tutti itself ends a run that another one goes on for, and whose fault that is.
PAUSES = {"provider": Run.Owner.PROVIDER}


class Fenced(Exception):
    """The run belongs to somebody else by now, or has ended; nothing more may be written."""


def worker_name() -> str:
    """Host, process and thread: who holds a run."""
    return f"{settings.TUTTI_HOST or socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"


def run_queue(
    change: live.Change,
    *,
    kind: str,
    module: Module | None,
    plan: Plan,
    needs_slot: bool,
    slots: int | None = None,
) -> Run | None:
    """Make a queued run, with its slot when it needs one; None when there is no slot.

    The slot is taken by a conditional update on the project row, which no isolation level and
    no race lets above `slots` (the ceiling right now); quotas are reserved alike, all or none.
    """
    role = ROLE_OF.get(kind, "")
    profile = profile_for(change.project, role) if role else None
    held = _hold(change, plan, profile, kind, slots) if needs_slot else None
    if needs_slot and held is None:
        return None
    earlier = Run.objects.filter(module=module, kind=kind)
    if module is None:
        earlier = earlier.filter(plan=plan)
    number = (earlier.aggregate(n=Max("number"))["n"] or 0) + 1
    run = Run.objects.create(
        project=change.project,
        plan=plan,
        module=module,
        kind=kind,
        role=role,
        number=number,
        needs_slot=needs_slot,
        holds_slot=needs_slot,
        backend=profile.backend if profile and needs_slot else "",
        model=profile.model if profile and needs_slot else "",
        provider_id=held.provider_id if held else None,
        estimate_tokens=held.estimate.tokens if held else None,
        sent_at=timezone.now(),
    )
    if held:
        budgets.enter(run, held)
    change.event(
        "run.queued",
        run.topic,
        live.SYSTEM,
        run=run.pk,
        what=kind,
        module=module.slug if module else None,
        number=number,
    )
    if module:
        change.topics.add(module.topic)
    return run


def _hold(
    change: live.Change, plan: Plan, profile: Profile | None, kind: str, slots: int | None
) -> budgets.Hold | None:
    """Take a slot and reserve of every quota; None, with nothing taken, when one refuses."""
    assert profile is not None, f"Nobody plays the role for {kind}."
    try:
        with transaction.atomic():
            if not slot_claim(change.project, slots):
                return None
            return budgets.hold(change.project, plan, profile, kind)
    except budgets.Full:
        return None


def slot_claim(project: Project, slots: int | None = None) -> bool:
    """Take one slot below the ceiling, and below what all hosts carry; False when there is none.

    Hosts are shared by all projects: their lock is held until the transaction ends.
    """
    fleet.lock()
    if not fleet.has_room():
        return False
    free = Project.objects.filter(pk=project.pk, active_runs__lt=F("ceiling"))
    if slots is not None:
        free = free.filter(active_runs__lt=slots)
    return bool(free.update(active_runs=F("active_runs") + 1))


def _slot_free(run: Run) -> None:
    Project.objects.filter(pk=run.project_id).update(active_runs=F("active_runs") - 1)
    budgets.slot_free(run)


def run_claim(run_id: int, fence: int) -> Run | None:
    """Take a queued run; None when the message is old, repeated or somebody was first.

    None too while this host may not take it: it stays queued, and the sweep sends it again.
    """
    worker = worker_name()
    if not fleet.host_admits(run_id):
        return None
    with transaction.atomic():
        claimed = Run.objects.filter(pk=run_id, status=S.QUEUED, fence=fence).update(
            status=S.RUNNING,
            fence=F("fence") + 1,
            worker=worker,
            host=settings.TUTTI_HOST,
            started_at=Now(),
            heartbeat_at=Now(),
        )
    if not claimed:
        return None
    run = Run.objects.select_related(
        "project", "plan", "module__contract__plan", "module__parent", "plan__decided_by"
    ).get(pk=run_id)
    if run.fence != fence + 1 or run.worker != worker:
        return None
    with live.change(run.project_id) as change:
        change.rings = False
        change.event("run.started", run.topic, live.Actor.run(run.pk), run=run.pk, host=run.host)
        if run.module:
            change.topics.add(run.module.topic)
    return run


def own(run: Run) -> QuerySet[Run]:
    """The run's row while this worker may still write to it."""
    return Run.objects.filter(pk=run.pk, fence=run.fence, status__in=Run.ACTIVE)


def run_update(run: Run, **values: Any) -> None:
    """Write values of a run that is ours. Raises Fenced when it is not."""
    if not own(run).update(**values):
        raise Fenced(f"Run {run.pk} is no longer ours.")
    for name, value in values.items():
        setattr(run, name, value)


def run_checking(run: Run, start_next: Callable[[live.Change], Sequence[Run]]) -> None:
    """The agent's turn ended: give the slot back while gates run, and let others start.

    A run that was told to end meanwhile keeps both, and ends as soon as it looks.
    """
    if not run.holds_slot:
        return
    with live.change(run.project_id) as change:
        fleet.lock()
        if own(run).filter(status=S.STOPPING).exists():
            return
        run_update(run, status=S.CHECKING, holds_slot=False)
        _slot_free(run)
        change.project.refresh_from_db(fields=["active_runs"])
        change.event("run.checking", run.topic, live.Actor.run(run.pk), run=run.pk)
        start_next(change)


def run_slot_want(run: Run) -> None:
    run_update(run, slot_wanted_at=timezone.now())


def run_slot_take(run: Run, slots: Callable[[Project], int]) -> bool:
    """Take a slot again for the next prompt; those who wait longer go first.

    False, too, for a run that was told to end while it waited, and in an archived project.
    """
    with live.change(run.project_id) as change:
        if change.project.archived_at or own(run).filter(status=S.STOPPING).exists():
            return False
        ahead = Run.objects.filter(
            project=run.project_id, slot_wanted_at__lt=run.slot_wanted_at, status=S.CHECKING
        ).count()
        free = slots(change.project) - change.project.active_runs
        if free <= ahead or not _slot_retake(change, run):
            return False
        run_update(run, status=S.RUNNING, holds_slot=True, slot_wanted_at=None)
        change.event("run.resumed", run.topic, live.Actor.run(run.pk), run=run.pk)
    return True


def _slot_retake(change: live.Change, run: Run) -> bool:
    try:
        with transaction.atomic():
            if not slot_claim(change.project):
                return False
            budgets.slot_take(run)
    except budgets.Full:
        return False
    return True


def run_end(
    run: Run,
    status: str,
    *,
    reason: str = "",
    reason_kind: str = "",
    reason_owner: str = "",
    then: Callable[[live.Change], None] | None = None,
    start_next: Callable[[live.Change], Sequence[Run]] | None = None,
) -> list[Run]:
    """End a run, give its slot back, move its module and start what can start: one transaction.

    Returns the runs that were started. Raises Fenced, with nothing written, when the run is no
    longer ours.
    """
    with live.change(run.project_id) as change:
        if start_next:
            # Before any quota is locked, as claims do: one order of locks for all.
            fleet.lock()
        # What the row says, for a change that failed may have left the object ahead of it.
        held = own(run).filter(holds_slot=True).exists()
        run_update(
            run,
            status=status,
            holds_slot=False,
            slot_wanted_at=None,
            ended_at=timezone.now(),
            reason=reason,
            reason_kind=reason_kind,
            reason_owner=reason_owner,
        )
        if held:
            _slot_free(run)
        budgets.close(run)
        change.event(
            f"run.{status}",
            run.topic,
            live.Actor.run(run.pk),
            run=run.pk,
            what=run.kind,
            module=run.module.slug if run.module else None,
            reason=reason,
            reason_kind=reason_kind,
            reason_owner=reason_owner,
            facts=facts_of(run),
        )
        if run.module:
            change.topics.add(run.module.topic)
        if then:
            then(change)
        change.project.refresh_from_db(fields=["active_runs"])
        return list(start_next(change)) if start_next else []


def _cut_off(run: Run, status: str, said: dict[str, str], *, was_at_work: bool = False) -> bool:
    """End a run whose worker does not, inside an open change; a higher fence shuts that one out.

    False, with nothing written, when a worker claimed or ended it since it was read.
    """
    ended = Run.objects.filter(pk=run.pk, fence=run.fence, status__in=Run.ACTIVE).update(
        status=status,
        fence=F("fence") + 1,
        holds_slot=False,
        slot_wanted_at=None,
        ended_at=timezone.now(),
        **said,
    )
    if not ended:
        return False
    if run.holds_slot:
        _slot_free(run)
    budgets.close(run, is_cut_off=was_at_work)
    return True


def run_lost(run: Run, status: str, reason: str, kind: str) -> bool:
    """End somebody else's run whose worker gave no sign of life; a higher fence shuts it out."""
    with live.change(run.project_id) as change:
        # Whether it holds its slot may have changed since it was read.
        run.refresh_from_db(fields=["status", "holds_slot", "assignments"])
        said = {"reason": reason, "reason_kind": kind, "reason_owner": Run.Owner.TUTTI}
        if not _cut_off(run, status, said, was_at_work=True):
            return False
        change.event(
            f"run.{status}",
            run.topic,
            live.SYSTEM,
            run=run.pk,
            what=run.kind,
            module=run.module.slug if run.module else None,
            facts=facts_of(run),
            **said,
        )
        if run.module:
            change.topics.add(run.module.topic)
    return True


def run_stop(run: Run, by: live.Actor, reason: str = "") -> None:
    """Ask a run to end; its worker notices within a second. A queued one ends at once.

    Its module is paused, or the next tick would start the same work again.
    """
    sentence = reason or f"Stopped by {by.name.split(':', 1)[-1]}."
    with live.change(run.project_id) as change:
        run.refresh_from_db()
        said = {"reason": sentence, "reason_kind": "stopped"}
        is_over = run.status == S.QUEUED and _cut_off(
            run, S.CANCELLED, {**said, "reason_owner": Run.Owner.PERSON}
        )
        # A worker may have claimed it since it was read.
        at_work = Run.objects.filter(pk=run.pk, status__in=(S.RUNNING, S.CHECKING))
        if not is_over and not at_work.update(status=S.STOPPING, **said):
            return
        change.event("run.stop", run.topic, by, run=run.pk, reason=sentence)
        if run.module:
            module_pause(run.module, by)
        elif run.plan and run.kind == Run.Kind.DECOMPOSE:
            proposal_end(run.plan, by, sentence)


def run_yield(run: Run, reason: str) -> bool:
    """Tell a run at work to make room: it ends as interrupted and its module is wanted again.

    Nobody failed, the workspace stays, and the module is not paused. False when the run is not
    at work any more.
    """
    with live.change(run.project_id) as change:
        told = Run.objects.filter(pk=run.pk, fence=run.fence, status=S.RUNNING).update(
            status=S.STOPPING, reason=reason, reason_kind=MEMORY
        )
        if not told:
            return False
        change.event("run.yield", run.topic, live.SYSTEM, run=run.pk, reason=reason)
    return True


def run_pause(run: Run, kind: str, reason: str) -> bool:
    """End a run so that its work goes on by itself later: as no failure, with its workspace kept.

    `kind` is one of PAUSES. A queued run ends at once, one at work is asked to; one whose gates
    run goes on, unless it waits for its next prompt.
    """
    with live.change(run.project_id) as change:
        run.refresh_from_db()
        said = {"reason": reason, "reason_kind": kind, "reason_owner": PAUSES[kind]}
        at_work = Run.objects.filter(
            Q(status=S.RUNNING) | Q(status=S.CHECKING, slot_wanted_at__isnull=False), pk=run.pk
        )
        if run.status == S.QUEUED and _cut_off(run, S.INTERRUPTED, said):
            facts = {"what": run.kind, "module": run.module.slug if run.module else None}
            change.event("run.interrupted", run.topic, live.SYSTEM, run=run.pk, **facts, **said)
        elif at_work.update(status=S.STOPPING, slot_wanted_at=None, **said):
            change.event("run.stop", run.topic, live.SYSTEM, run=run.pk, reason=reason)
        else:
            return False
        if run.module:
            change.topics.add(run.module.topic)
    return True


def log_append(run: Run, rows: Sequence[tuple[str, dict[str, Any]]], after: int) -> int:
    """Append events to a run's log after a sequence number; returns the newest number.

    Raises Fenced when the run is no longer ours, so that a late worker writes nothing.
    """
    if not rows:
        return after
    now = timezone.now()
    with transaction.atomic():
        if not own(run).exists():
            raise Fenced(f"Run {run.pk} is no longer ours.")
        RunLog.objects.bulk_create(
            RunLog(run=run, sequence=after + place, at=now, kind=kind, data=data)
            for place, (kind, data) in enumerate(rows, start=1)
        )
    newest = after + len(rows)
    live.hint({f"{run.topic}/log": newest})
    return newest


def heartbeat(run_fences: dict[int, int]) -> None:
    """One sign of life for all runs of a process, at the database's clock."""
    if not run_fences:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE agents_run SET heartbeat_at = clock_timestamp() FROM unnest(%s, %s) AS "
            "mine(id, fence) WHERE agents_run.id = mine.id AND agents_run.fence = mine.fence",
            [list(run_fences), list(run_fences.values())],
        )


def orders(run_ids: Sequence[int]) -> dict[int, tuple[str, int, str, str]]:
    """Run to status, fence, reason and its kind, as the database has them now.

    A run whose module was cancelled meanwhile, or its project archived, is told to stop.
    """
    rows = Run.objects.filter(pk__in=run_ids).values_list(
        "pk", "status", "fence", "reason", "reason_kind", "module__status", "project__archived_at"
    )
    found = {}
    for pk, status, fence, reason, kind, module, archived_at in rows:
        gone = "module was cancelled" if module == Module.Status.CANCELLED else ""
        # Gates and merges hold no slot, so a project is archived while they run.
        gone = "project was archived" if archived_at else gone
        if gone and status in (S.RUNNING, S.CHECKING):
            status, reason, kind = S.STOPPING, f"Its {gone}.", "stopped"
        found[pk] = (status, fence, reason, kind)
    return found


def profile_of(run: Run) -> Profile:
    return profile_for(run.project, run.role)
