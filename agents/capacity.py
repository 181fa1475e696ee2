"""How many runs may work right now, and what binds, in words. Pure: readings in, a value out."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

PER_RUN_MB = 0.0
"""Memory to count for each further run while nothing was measured yet."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """`slots` counts the runs at work too. `binds` is project, site, provider, memory or disk."""

    slots: int
    binds: str
    sentence: str


def ceiling_now(
    *,
    project_ceiling: int,
    memory_available_mb: float | None,
    memory_floor_mb: float,
    disk_free_mb: float | None,
    disk_floor_mb: float,
    active_runs: int = 0,
    site_left: int | None = None,
    provider_left: int | None = None,
    per_run_mb: float = PER_RUN_MB,
) -> Ceiling:
    """The smallest of what people set and what is possible now; runs at work are never undone.

    `site_left` and `provider_left` are runs that may start beside those at work; `per_run_mb` is
    what a run of this kind needs. A reading that is None says nothing and binds nothing.
    """
    limits = [_project(project_ceiling)]
    if site_left is not None:
        limits.append(_left(active_runs, site_left, "site", "The site's quota"))
    if provider_left is not None:
        limits.append(_left(active_runs, provider_left, "provider", "The model provider's limit"))
    if memory_available_mb is not None:
        limits.append(_memory(active_runs, memory_available_mb, memory_floor_mb, per_run_mb))
    if disk_free_mb is not None and disk_free_mb < disk_floor_mb:
        limits.append(_disk(active_runs, disk_free_mb, disk_floor_mb))
    # The first of equals wins: people's own limit is named before the machine's.
    slots, binds, sentence = min(limits, key=lambda limit: limit[0])
    return Ceiling(int(slots), binds, sentence)


_Limit = tuple[float, str, str]


def _project(ceiling: int) -> _Limit:
    if ceiling <= 0:
        return 0, "project", "The project's ceiling is 0: raise it to let runs start."
    return ceiling, "project", f"The project's ceiling allows {_runs(ceiling)} at once."


def _left(active: int, left: int, binds: str, what: str) -> _Limit:
    more = max(0, left)
    rest = f"{_runs(more)} more" if more else "no more runs; the next starts when one ends"
    return active + more, binds, f"{what} allows {rest}."


def _memory(active: int, available: float, floor: float, per_run: float) -> _Limit:
    spare = available - floor
    room = min(spare // per_run, 10_000) if per_run > 0 else inf
    more = room if spare >= 0 else 0.0
    sentence = (
        f"{available:.0f} MB of memory are free and {floor:.0f} MB stay reserved:"
        f" {f'room for {_runs(int(more))} more' if 0 < more < inf else 'no further run starts'}."
    )
    return active + more, "memory", sentence


def _disk(active: int, free: float, floor: float) -> _Limit:
    return active, "disk", (
        f"Only {free:.0f} MB of disk are free, below the floor of {floor:.0f} MB: no further run"
        " starts. Free some space."
    )  # fmt: skip


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
