"""The life of a run: queued with its slot, claimed by fence, checked, ended; and its log."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Max, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from agents.facts import facts_of
from agents.models import Profile, Run, RunLog
from agents.services.profiles import ROLE_OF, profile_for
from projects import live
from projects.models import Module, Plan, Project
from projects.services.modules import module_pause

S = Run.Status


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
    no race lets above `slots` (the ceiling right now).
    """
    if needs_slot and not slot_claim(change.project, slots):
        return None
    role = ROLE_OF.get(kind, "")
    profile = profile_for(change.project, role) if role else None
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
        sent_at=timezone.now(),
    )
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


def slot_claim(project: Project, slots: int | None = None) -> bool:
    """Take one slot below the ceiling; False when there is none."""
    free = Project.objects.filter(pk=project.pk, active_runs__lt=F("ceiling"))
    if slots is not None:
        free = free.filter(active_runs__lt=slots)
    return bool(free.update(active_runs=F("active_runs") + 1))


def _slot_free(run: Run) -> None:
    Project.objects.filter(pk=run.project_id).update(active_runs=F("active_runs") - 1)


def run_claim(run_id: int, fence: int) -> Run | None:
    """Take a queued run; None when the message is old, repeated or somebody was first."""
    worker = worker_name()
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
        "project", "plan", "module", "module__contract", "module__parent", "plan__decided_by"
    ).get(pk=run_id)
    if run.fence != fence + 1 or run.worker != worker:
        return None
    with live.change(run.project_id) as change:
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
    """The agent's turn ended: give the slot back while gates run, and let others start."""
    if not run.holds_slot:
        return
    with live.change(run.project_id) as change:
        run_update(run, status=S.CHECKING, holds_slot=False)
        _slot_free(run)
        change.event("run.checking", run.topic, live.Actor.run(run.pk), run=run.pk)
        start_next(change)


def run_slot_want(run: Run) -> None:
    run_update(run, slot_wanted_at=timezone.now())


def run_slot_take(run: Run, slots: Callable[[Project], int]) -> bool:
    """Take a slot again for the next prompt; those who wait longer go first."""
    with live.change(run.project_id) as change:
        ahead = Run.objects.filter(
            project=run.project_id, slot_wanted_at__lt=run.slot_wanted_at, status=S.CHECKING
        ).count()
        free = slots(change.project) - change.project.active_runs
        if free <= ahead or not slot_claim(change.project):
            return False
        run_update(run, status=S.RUNNING, holds_slot=True, slot_wanted_at=None)
        change.event("run.resumed", run.topic, live.Actor.run(run.pk), run=run.pk)
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
        held = run.holds_slot
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


def run_lost(run: Run, status: str, reason: str, kind: str) -> bool:
    """End somebody else's run whose worker gave no sign of life; a higher fence shuts it out."""
    with live.change(run.project_id) as change:
        ended = Run.objects.filter(pk=run.pk, fence=run.fence, status__in=Run.ACTIVE).update(
            status=status,
            fence=F("fence") + 1,
            holds_slot=False,
            slot_wanted_at=None,
            ended_at=timezone.now(),
            reason=reason,
            reason_kind=kind,
            reason_owner=Run.Owner.TUTTI,
        )
        if not ended:
            return False
        if run.holds_slot:
            _slot_free(run)
        change.event(
            f"run.{status}",
            run.topic,
            live.SYSTEM,
            run=run.pk,
            what=run.kind,
            module=run.module.slug if run.module else None,
            reason=reason,
            reason_kind=kind,
            reason_owner=Run.Owner.TUTTI,
            facts=facts_of(run),
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
        if run.status == S.QUEUED:
            Run.objects.filter(pk=run.pk).update(
                status=S.CANCELLED,
                fence=F("fence") + 1,
                holds_slot=False,
                ended_at=timezone.now(),
                reason=sentence,
                reason_kind="stopped",
                reason_owner=Run.Owner.PERSON,
            )
            if run.holds_slot:
                _slot_free(run)
        elif run.status in (S.RUNNING, S.CHECKING):
            held = run.holds_slot
            Run.objects.filter(pk=run.pk).update(
                status=S.STOPPING, holds_slot=held, reason=sentence, reason_kind="stopped"
            )
        else:
            return
        change.event("run.stop", run.topic, by, run=run.pk, reason=sentence)
        if run.module:
            module_pause(run.module, by)


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


def orders(run_ids: Sequence[int]) -> dict[int, tuple[str, int, str]]:
    """Run to status, fence and reason, as the database has them now.

    A run whose module was cancelled meanwhile is told to stop.
    """
    rows = Run.objects.filter(pk__in=run_ids).values_list(
        "pk", "status", "fence", "reason", "module__status"
    )
    found = {}
    for pk, status, fence, reason, module in rows:
        if module == Module.Status.CANCELLED and status in (S.RUNNING, S.CHECKING):
            status, reason = S.STOPPING, "Its module was cancelled."
        found[pk] = (status, fence, reason)
    return found


def profile_of(run: Run) -> Profile:
    return profile_for(run.project, run.role)
