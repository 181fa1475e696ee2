"""What all hosts together carry: shared by every project, and claimed under one lock."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.db.models import BooleanField, Count, ExpressionWrapper, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, Now

from agents.capacity import HostRoom, Limit, machine_limits
from agents.models import Host, Run
from projects.models import Project

#: A host whose newest reading is older than this is not counted on.
FRESH_SECONDS = 60


def limits_of(project: Project) -> list[Limit]:
    """What memory and disk of all hosts leave to a project right now."""
    rooms = host_rooms()
    return machine_limits(
        rooms,
        active=project.active_runs,
        working=working(rooms),
        disk_floor_mb=settings.TUTTI_DISK_FLOOR_MB,
    )


def host_rooms() -> list[HostRoom]:
    """Every host as it was last seen, by the database's clock."""
    fresh = Q(seen_at__gte=Now() - timedelta(seconds=FRESH_SECONDS))
    rows = Host.objects.annotate(fresh=ExpressionWrapper(fresh, output_field=BooleanField()))
    return [
        HostRoom(
            host.name,
            host.capacity,
            host.capacity_reason,
            host.disk_free_mb,
            is_fresh=bool(host.fresh),
            is_draining=host.draining,
        )
        for host in rows.order_by("name")
    ]


def working(rooms: list[HostRoom]) -> int:
    """Runs of all projects that are at work, or about to be, on hosts that take new ones.

    What still runs on a host that drains or went away takes no room on the others.
    """
    closed = [room.name for room in rooms if room.is_draining or not room.is_fresh]
    holding = Run.objects.filter(status__in=Run.HOLDING, holds_slot=True)
    return (holding.exclude(host__in=closed) if closed else holding).count()


def lock() -> None:
    """Let one transaction at a time claim; taken after the project's row and before quotas.

    Under READ COMMITTED whoever waited counts again; the stricter levels refuse to go on with an
    old picture, since the row was written meanwhile.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO agents_fleet (id, claims) VALUES (1, 1) "
            "ON CONFLICT (id) DO UPDATE SET claims = agents_fleet.claims + 1"
        )


def has_room() -> bool:
    """Whether the hosts carry one run more than are at work; only true while the lock is held."""
    rooms = host_rooms()
    open_rooms = [room for room in rooms if room.is_fresh and not room.is_draining]
    if not rooms or any(room.capacity is None for room in open_rooms):
        return True
    return sum(room.capacity or 0 for room in open_rooms) > working(rooms)


def host_admits(run_id: int) -> bool:
    """Whether this host may take a queued run: not while it drains, nor an agent beyond its room.

    Nor one while its disk is below the floor. Whoever else has room takes it, or the same host
    once it has: the message comes again.
    """
    at_work = (
        Run.objects.filter(host=OuterRef("name"), holds_slot=True)
        .filter(status__in=["running", "stopping"])
        .order_by()
        .values("host")
        .annotate(n=Count("pk"))
        .values("n")
    )
    rows = Host.objects.filter(name=settings.TUTTI_HOST)
    names = ("draining", "capacity", "disk_free_mb")
    row = rows.values_list(*names, Coalesce(Subquery(at_work), 0)).first()
    if row is None:
        return True
    is_draining, capacity, disk_free_mb, now = row
    has_room = capacity is None or (now < capacity and disk_free_mb >= settings.TUTTI_DISK_FLOOR_MB)
    if is_draining or has_room:
        return not is_draining
    return not Run.objects.filter(pk=run_id, needs_slot=True).exists()
