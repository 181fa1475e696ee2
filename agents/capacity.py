"""How many runs may work right now, and what binds, in words. Pure: readings in, a value out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Limit:
    """One bound on a project's runs. `slots` counts its runs that are at work too.

    `binds` is project, machine, disk, provider, site, user, people or paused; `numbers` are the
    figures in the sentence, and `until` is when the bound ends by itself, if that is known.
    """

    binds: str
    slots: int
    sentence: str
    numbers: dict[str, float] = field(default_factory=dict)
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class HostRoom:
    """What a host can carry: agents that may be alive there (None: unknown yet), and why."""

    name: str
    capacity: int | None
    reason: str = ""
    disk_free_mb: float = 0.0
    is_fresh: bool = True
    is_draining: bool = False


def ceiling_now(limits: Iterable[Limit]) -> Limit:
    """The smallest of all limits, the first of equals; there has to be one."""
    return min(limits, key=lambda limit: limit.slots)


def project_limit(ceiling: int) -> Limit:
    """What the project's people allow."""
    numbers = {"ceiling": float(ceiling)}
    if ceiling <= 0:
        sentence = "The project's ceiling is 0: raise it to let runs start."
        return Limit("project", 0, sentence, numbers)
    return Limit(
        "project", ceiling, f"The project's ceiling allows {_runs(ceiling)} at once.", numbers
    )


def paused_limit() -> Limit:
    """Nothing starts in a project that people paused."""
    return Limit("paused", 0, "The project is paused: what runs goes on, nothing new starts.")


def machine_limits(
    hosts: Sequence[HostRoom], *, active: int, working: int, disk_floor_mb: float
) -> list[Limit]:
    """What the hosts' memory and disk allow; no host at all says nothing and binds nothing.

    `active` runs of this project and `working` runs of all projects are at work or about to be.
    """
    if not hosts:
        return []
    fresh = [host for host in hosts if host.is_fresh]
    if not fresh:
        sentence = (
            "No machine gave a sign of life for a while: start a worker (`manage.py dev`, or the"
            " workers of your installation)."
        )
        return [Limit("machine", active, sentence, {"hosts": 0.0})]
    open_hosts = [host for host in fresh if not host.is_draining]
    if not open_hosts:
        named = ", ".join(host.name for host in fresh)
        sentence = (
            f"Every machine ({named}) is being drained: what runs goes on, nothing new starts"
            " until an admin takes one back."
        )
        return [Limit("machine", active, sentence, {"hosts": float(len(fresh))})]
    return [*_memory(open_hosts, active, working), *_disk(open_hosts, active, disk_floor_mb)]


def _memory(hosts: Sequence[HostRoom], active: int, working: int) -> list[Limit]:
    if any(host.capacity is None for host in hosts):
        return []
    total = sum(host.capacity or 0 for host in hosts)
    room = max(0, total - working)
    where = hosts[0].name if len(hosts) == 1 else f"{len(hosts)} machines"
    why = next((host.reason for host in hosts if host.reason), "")
    sentence = f"Memory of {where} carries {_agents(total)} at once, {working} at work. {why}"
    numbers = {"capacity": float(total), "working": float(working), "hosts": float(len(hosts))}
    return [Limit("machine", active + room, sentence.strip(), numbers)]


def _disk(hosts: Sequence[HostRoom], active: int, floor: float) -> list[Limit]:
    free = max(host.disk_free_mb for host in hosts)
    if free >= floor:
        return []
    sentence = (
        f"Only {free:.0f} MB of disk are free, below the floor of {floor:.0f} MB: no further run"
        " starts. Free some space."
    )
    return [Limit("disk", active, sentence, {"free_mb": free, "floor_mb": floor})]


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _agents(count: int) -> str:
    return "1 agent" if count == 1 else f"{count} agents"
