"""How many runs may work right now, and what binds, in words. Pure: readings in, a value out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import floor

#: Part of an agent's need that has to be free beside it before one more is allowed, so that what
#: is just lowered is not raised at once again.
MARGIN = 0.25
#: No agent needs less than this, whatever was measured.
LEAST_NEED_MB = 16.0


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


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a host in MB, and the share of time that something waited for it, in percent."""

    total_mb: float
    available_mb: float
    some: float | None = None
    full: float | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What agents take: those alive, what one more needs, and what those alive will still take.

    `basis` says where the need comes from.
    """

    alive: int
    need_mb: float
    growth_mb: float = 0.0
    basis: str = "a first guess"


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds of a host: memory that stays free, most agents, most checks, and what pressure is.

    `some`, `full` and `hard_full` are percent of the last ten seconds (PSI avg10).
    """

    reserve_mb: float
    most: int = 32
    checks: int = 1
    calm_seconds: float = 10.0
    some: float = 20.0
    full: float = 5.0
    hard_full: float = 20.0


@dataclass(frozen=True, slots=True)
class Capacity:
    """Agents that may be alive on a host and checks that may run there, why, and since when.

    `calm_since` is when pressure ended, None while there is some. `pressure` is "", "some" or
    "hard"; under hard pressure the youngest of several runs has to yield.
    """

    slots: int
    checks: int
    reason: str
    changed_at: datetime
    calm_since: datetime | None
    pressure: str = ""


def capacity(
    before: Capacity | None, memory: Memory, demand: Demand, rules: Rules, now: datetime
) -> Capacity:
    """What a host can carry: lowered at once, raised one at a time after calm (as TCP does)."""
    pressure = pressure_of(memory, rules)
    if pressure:
        return _pressed(before, memory, demand, rules, now, pressure)
    fits = (memory.available_mb - rules.reserve_mb - demand.growth_mb) / _need(demand)
    # An agent that needs more than there is may still be tried alone, or nothing would ever end.
    possible = min(rules.most, max(1, demand.alive + floor(fits)))
    why = (
        f"{memory.available_mb:.0f} of {memory.total_mb:.0f} MB are free, {rules.reserve_mb:.0f} MB"
        f" stay reserved, and an agent needs {_need(demand):.0f} MB ({demand.basis})."
    )
    if before is None:
        return Capacity(possible, rules.checks, why, now, now)
    calm = before.calm_since
    if calm is None or calm > now:
        calm = now
    rest = timedelta(seconds=rules.calm_seconds)
    is_calm = now - calm >= rest
    checks = min(rules.checks, before.checks + is_calm)
    after = replace(before, checks=checks, calm_since=calm, pressure="")
    if possible < before.slots:
        return replace(after, slots=possible, reason=why, changed_at=now)
    raised = demand.alive + floor(fits - MARGIN)
    # A clock that was set back must not keep it low until it has caught up.
    is_due = now < before.changed_at or now - before.changed_at >= rest
    if is_calm and is_due and before.slots < min(rules.most, max(1, raised)):
        why = f"One more after {rules.calm_seconds:.0f} s of calm: {why}"
        return replace(after, slots=before.slots + 1, reason=why, changed_at=now)
    return after


def pressure_of(memory: Memory, rules: Rules) -> str:
    """Whether work waits for memory, or so little is left that it soon will: "some" or "hard"."""
    some, full = memory.some or 0.0, memory.full or 0.0
    if memory.available_mb < rules.reserve_mb / 2 or full >= rules.hard_full:
        return "hard"
    if memory.available_mb < rules.reserve_mb or some >= rules.some or full >= rules.full:
        return "some"
    return ""


def _pressed(
    before: Capacity | None,
    memory: Memory,
    demand: Demand,
    rules: Rules,
    now: datetime,
    pressure: str,
) -> Capacity:
    """No more than are alive, one less under hard pressure; one goes on unless memory is gone."""
    least = 0 if memory.available_mb < rules.reserve_mb else 1
    most = demand.alive - (pressure == "hard" and demand.alive > 1)
    slots = min(rules.most, max(least, most))
    if before is not None and slots >= before.slots:
        return replace(before, checks=1, calm_since=None, pressure=pressure)
    if memory.available_mb < rules.reserve_mb:
        why = (
            f"Only {memory.available_mb:.0f} MB of memory are free, below the floor of"
            f" {rules.reserve_mb:.0f} MB."
        )
    else:
        why = (
            f"Work waited for memory in {memory.some or 0:.0f} % of the last 10 s, all of it in"
            f" {memory.full or 0:.0f} %."
        )
    return Capacity(slots, 1, why, now, None, pressure)


def need_of(peaks: Sequence[float], guess_mb: float) -> tuple[float, str]:
    """The 90th percentile (nearest rank) of what such runs took, or the guess; and what it is."""
    if not peaks:
        return max(LEAST_NEED_MB, guess_mb), "a first guess"
    ordered = sorted(peaks)
    rank = -(-9 * len(ordered) // 10)
    return max(LEAST_NEED_MB, ordered[rank - 1]), f"nine of ten of {_runs(len(ordered))}"


def _need(demand: Demand) -> float:
    return max(LEAST_NEED_MB, demand.need_mb)


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
