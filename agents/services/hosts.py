"""Each host reads itself, decides what it carries, and takes work back when memory is gone."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from agents import machine, meters, sandbox
from agents.capacity import Capacity, Demand, Memory, Rules, capacity, need_of
from agents.checkslots import slots_set
from agents.models import Host, HostReading, Run
from agents.services import runs
from agents.services.fleet import FRESH_SECONDS
from projects import live
from projects.services.errors import Problem, Refused

__all__ = [
    "FRESH_SECONDS",
    "host_drain",
    "host_read",
    "host_undrain",
    "relieve",
    "topic_of",
]

READING_SECONDS = 10
KEPT = timedelta(days=7)
#: The memory that a run gives back takes this long to show; only then the next one yields.
YIELD_SECONDS = 5
#: How many of the newest measured runs say what an agent needs, in all and of one profile.
MEASURED, OF_PROFILE = 200, 30


@dataclass
class _Own(threading.local):
    """CPU time at this thread's last reading, for the share between two."""

    ticks: machine.Ticks | None = None


_own = _Own()


def host_read(*, is_due: bool = False) -> Host | None:
    """Read this host and decide what it carries; None when another process just did.

    A change of its capacity is an event of the site and wakes the clock. Under hard pressure the
    youngest run at work is taken back. `is_due` reads in any case.
    """
    if not _take_turn(is_due):
        return None
    name = settings.TUTTI_HOST
    used = meters.uses()
    reading = machine.read(
        Path(settings.TUTTI_HOME),
        before=_own.ticks,
        budget_mb=settings.TUTTI_MEMORY_MB,
        used_mb=sum(use.memory_mb for use in used),
    )
    _own.ticks = reading.ticks
    demand = demand_now(name, used)
    with transaction.atomic():
        host = Host.objects.select_for_update().get(name=name)
        decided = decide(host, reading, demand, timezone.now())
        _keep(host, reading, demand, decided)
    slots_set(decided.checks)
    if decided.pressure == "hard":
        relieve(name, reading.memory_available_mb)
    return host


def _take_turn(is_due: bool) -> bool:
    """Whether this process does the reading that is due: the first to say so does."""
    name = settings.TUTTI_HOST
    pause = timedelta(seconds=0 if is_due else 0.9 * settings.TUTTI_TICK_SECONDS)
    late = Q(seen_at__isnull=True) | Q(seen_at__lte=Now() - pause)
    if Host.objects.filter(late, name=name).update(seen_at=Now()):
        return True
    if Host.objects.filter(name=name).exists():
        return False
    Host.objects.bulk_create([Host(name=name)], ignore_conflicts=True)
    return bool(Host.objects.filter(name=name, seen_at=None).update(seen_at=Now()))


def rules() -> Rules:
    return Rules(
        reserve_mb=settings.TUTTI_MEMORY_FLOOR_MB,
        most=settings.TUTTI_AGENTS_PER_HOST,
        checks=settings.TUTTI_CHECKS_PER_HOST,
        calm_seconds=settings.TUTTI_CALM_SECONDS,
    )


def decide(host: Host, reading: machine.Reading, demand: Demand, now: datetime) -> Capacity:
    """What the host carries from now on, given what it carried before."""
    memory = Memory(
        reading.memory_mb,
        reading.memory_available_mb,
        reading.pressure_some,
        reading.pressure_full,
    )
    before = None
    if host.capacity is not None and host.capacity_at is not None:
        checks = host.check_slots or 1
        before = Capacity(
            host.capacity, checks, host.capacity_reason, host.capacity_at, host.calm_since
        )
    return capacity(before, memory, demand, rules(), now)


def demand_now(name: str, used: list[meters.Use]) -> Demand:
    """What the agents on a host take now, and what one more of the hungriest profile needs."""
    rows = Run.objects.filter(host=name, status__in=["running", "stopping"], holds_slot=True)
    at_work = {pk: (backend, model) for pk, backend, model in
               rows.values_list("pk", "backend", "model")}  # fmt: skip
    taken: dict[int, float] = defaultdict(float)
    for use in used:
        if use.kind == meters.AGENT:
            taken[use.run_id] += use.memory_mb
    needs = profile_needs()
    guess = need_of([], settings.TUTTI_AGENT_MEMORY_MB)
    growth = sum(
        max(0.0, needs.get(profile, guess)[0] - taken.get(pk, 0.0))
        for pk, profile in at_work.items()
    )
    wanted = [*needs.values(), *(guess for profile in at_work.values() if profile not in needs)]
    need, basis = max(wanted, default=guess)
    return Demand(len(at_work.keys() | taken.keys()), need, growth, basis)


def profile_needs() -> dict[tuple[str, str], tuple[float, str]]:
    """Backend and model to the MB that a run of it needs, for those measured lately."""
    rows = Run.objects.filter(needs_slot=True, memory_peak_mb__isnull=False).order_by("-pk")
    peaks: dict[tuple[str, str], list[float]] = defaultdict(list)
    for backend, model, peak in rows.values_list("backend", "model", "memory_peak_mb")[:MEASURED]:
        if len(peaks[backend, model]) < OF_PROFILE:
            peaks[backend, model].append(float(peak or 0))
    found = {}
    for (backend, model), values in peaks.items():
        need, basis = need_of(values, settings.TUTTI_AGENT_MEMORY_MB)
        found[backend, model] = need, f"{basis} of {model or backend} took no more"
    return found


def _keep(host: Host, reading: machine.Reading, demand: Demand, decided: Capacity) -> None:
    before = host.capacity
    host.cores, host.memory_mb = reading.cores, reading.memory_mb
    host.memory_available_mb = reading.memory_available_mb
    if reading.disk_free_mb is not None:
        host.disk_free_mb = reading.disk_free_mb
    host.cpu_percent = reading.cpu_percent
    host.pressure_some, host.pressure_full = reading.pressure_some, reading.pressure_full
    host.source, host.doubt = reading.source, reading.doubt
    host.alive, host.sandbox = demand.alive, sandbox.level()
    host.capacity, host.check_slots = decided.slots, decided.checks
    host.capacity_reason = decided.reason[:300]
    host.capacity_at, host.calm_since = decided.changed_at, decided.calm_since
    host.save()
    is_changed = before != decided.slots
    _history(host, host.capacity_reason if is_changed else "")
    if is_changed:
        live.site_event(
            "host.capacity",
            topic_of(host.name),
            live.SYSTEM,
            host=host.name,
            before=before,
            after=decided.slots,
            reason=decided.reason,
        )


def _history(host: Host, reason: str) -> None:
    """A point of the host's history every ten seconds, and wherever its capacity changed."""
    now = timezone.now()
    recent = HostReading.objects.filter(host=host, at__gt=now - timedelta(seconds=READING_SECONDS))
    if not reason and recent.exists():
        return
    made = HostReading.objects.create(
        host=host,
        at=now,
        memory_mb=host.memory_mb,
        memory_available_mb=host.memory_available_mb,
        cpu_percent=host.cpu_percent,
        pressure_some=host.pressure_some,
        pressure_full=host.pressure_full,
        alive=host.alive,
        capacity=host.capacity,
        reason=reason,
    )
    if made.pk % 50 == 0:
        HostReading.objects.filter(at__lt=now - KEPT).delete()


def relieve(name: str, available_mb: float) -> Run | None:
    """Take the youngest run at work on a host back, if several work and none was just taken.

    Better one agent waits than all crash. Returns the run that was told to stop.
    """
    yielded = Run.objects.filter(host=name, reason_kind=runs.MEMORY)
    since = timezone.now() - timedelta(seconds=YIELD_SECONDS)
    if yielded.filter(Q(status=Run.Status.STOPPING) | Q(ended_at__gt=since)).exists():
        return None
    at_work = Run.objects.filter(host=name, status=Run.Status.RUNNING, holds_slot=True)
    youngest = list(at_work.order_by("-started_at", "-pk")[:2])
    if len(youngest) < 2:
        return None
    reason = (
        f"Memory of {name} ran short ({available_mb:.0f} MB were free), so its youngest run gave"
        " way. It starts again when there is room; nothing counts as failed."
    )
    return youngest[0] if runs.run_yield(youngest[0], reason) else None


def host_drain(name: str, by: User) -> Host:
    """Let a host take nothing new; what runs there goes on. Raises Refused for an unknown one."""
    return _draining(name, by, draining=True)


def host_undrain(name: str, by: User) -> Host:
    """Let a host take work again. Raises Refused for an unknown one."""
    return _draining(name, by, draining=False)


def _draining(name: str, by: User, *, draining: bool) -> Host:
    with transaction.atomic():
        changed = Host.objects.filter(name=name, draining=not draining).update(draining=draining)
        host = Host.objects.filter(name=name).first()
        if host is None:
            message = f"There is no host {name}."
            raise Refused(message, [Problem("", "host", message)])
        if changed:
            kind = "host.drained" if draining else "host.undrained"
            live.site_event(kind, topic_of(name), live.Actor.person(by), host=name)
    return host


def topic_of(name: str) -> str:
    return f"host/{name}"[:120]
