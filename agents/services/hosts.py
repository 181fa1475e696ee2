"""Machines that carry agents: what the newest readings of them allow."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

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
    fresh = timezone.now() - timedelta(seconds=FRESH_SECONDS)
    return [
        HostRoom(
            host.name,
            host.capacity,
            host.capacity_reason,
            host.disk_free_mb,
            is_fresh=host.seen_at is not None and host.seen_at >= fresh,
            is_draining=host.draining,
        )
        for host in Host.objects.order_by("name")
    ]


def working(rooms: list[HostRoom]) -> int:
    """Runs of all projects that are at work, or about to be, on hosts that take new ones.

    What still runs on a host that drains or went away takes no room on the others.
    """
    closed = [room.name for room in rooms if room.is_draining or not room.is_fresh]
    return (
        Run.objects.filter(status__in=Run.HOLDING, holds_slot=True).exclude(host__in=closed).count()
    )
