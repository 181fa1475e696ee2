"""Read this machine: memory, CPU, pressure and disk. The rules take readings as values.

Every reader takes the root of the file system, so that tests hand in a folder of files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

MB = 1024 * 1024
ROOT = Path("/")
#: What version 1 of control groups says for "no limit", rounded down to a page of any size.
UNLIMITED = 1 << 60
#: A group may be over its limit by a little while the kernel takes memory back.
SLACK = 1.1


@dataclass(frozen=True, slots=True)
class Ticks:
    """CPU time since the machine began, in the kernel's units: at work, and in all."""

    busy: int
    total: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the machine. Sizes are in MB of 1,048,576 bytes, pressure and CPU in percent.

    `source` is "cgroup", "proc" or "budget"; `doubt` says in a sentence what was odd. What the
    kernel does not tell is None.
    """

    memory_mb: int
    memory_available_mb: int
    disk_free_mb: int | None
    cores: int
    cpu_percent: float | None = None
    pressure_some: float | None = None
    pressure_full: float | None = None
    source: str = "proc"
    doubt: str = ""
    ticks: Ticks | None = None


def read(
    home: Path,
    *,
    before: Ticks | None = None,
    budget_mb: int = 0,
    used_mb: float = 0.0,
    root: Path = ROOT,
) -> Reading:
    """A reading of now; `home` is the folder whose disk counts, `before` an earlier reading's.

    With `budget_mb` only so much of the memory is for agents and checks, who use `used_mb` now.
    """
    total, available = _meminfo(root)
    groups = _Groups(root, total)
    source = "proc"
    for limit, used in groups.limits():
        total, source = min(total, limit), "cgroup"
        available = min(available, max(0, limit - used))
    doubts = list(groups.doubts)
    if budget_mb > total // MB:
        doubts.append(
            f"TUTTI_MEMORY_MB is {budget_mb} MB, but there are only {total // MB} MB: ignored."
        )
    elif budget_mb:
        total, source = budget_mb * MB, "budget"
        available = min(available, max(0, total - round(used_mb * MB)))
    disk = _disk(home)
    if disk is None:
        doubts.append(f"The disk of {home} cannot be read.")
    ticks = _ticks(root)
    some, full = pressure(root)
    return Reading(
        memory_mb=total // MB,
        memory_available_mb=min(available, total) // MB,
        disk_free_mb=disk,
        cores=os.cpu_count() or 1,
        cpu_percent=_percent(before, ticks),
        pressure_some=some,
        pressure_full=full,
        source=source,
        doubt=" ".join(doubts)[:300],
        ticks=ticks,
    )


def pressure(root: Path = ROOT) -> tuple[float | None, float | None]:
    """Share of the last 10 s in which some, or all, work waited for memory (PSI), in percent."""
    own = [folder / "memory.pressure" for folder in _v2_folders(root)][:1]
    for path in (*own, root / "proc/pressure/memory"):
        found = {
            words[0]: _float(words[1].removeprefix("avg10="))
            for line in (_text(path) or "").splitlines()
            if len(words := line.split()) > 1
        }
        if found.get("some") is not None:
            return found.get("some"), found.get("full")
    return None, None


def oom_kills(root: Path = ROOT) -> int | None:
    """How many processes the kernel ended for want of memory since it began."""
    for line in (_text(root / "proc/vmstat") or "").splitlines():
        if line.startswith("oom_kill "):
            return _int(line.split()[1])
    return None


class _Groups:
    """The control groups above this process that limit memory; `doubts` says which of them lie."""

    def __init__(self, root: Path, machine: int) -> None:
        self.root, self.machine = root, machine
        self.doubts: list[str] = []

    def limits(self) -> Iterator[tuple[int, int]]:
        """Limit and use of each believable group, in bytes; files that can go are no use."""
        for folder in _v2_folders(self.root):
            yield from self._limit(folder, "memory.max", "memory.current", "inactive_file ")
        for folder in _v1_folders(self.root):
            yield from self._limit(
                folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "
            )

    def _limit(self, folder: Path, limit: str, used: str, files: str) -> Iterator[tuple[int, int]]:
        text = _text(folder / limit)
        if text is None or text == "max":
            return
        most, now = _int(text), _int(_text(folder / used) or "")
        if most is not None and most >= UNLIMITED:
            return
        if most is None or now is None:
            return self._doubt(folder, "cannot be read")
        if most <= 0:
            return self._doubt(folder, f"is {most}")
        if most > self.machine:
            what = f"({most // MB} MB) is larger than the machine ({self.machine // MB} MB)"
            return self._doubt(folder, what)
        now -= min(now, _stat(folder / "memory.stat", files))
        if now > most * SLACK:
            what = f"({most // MB} MB) is less than what is in use ({now // MB} MB)"
            return self._doubt(folder, what)
        yield most, now

    def _doubt(self, folder: Path, what: str) -> None:
        name = "/" + str(folder.relative_to(self.root))
        self.doubts.append(f"The memory limit of {name} {what}: ignored.")


def _v2_folders(root: Path) -> list[Path]:
    """This process' group of version 2 and those above it, the nearest first."""
    mount = root / "sys/fs/cgroup"
    if not (mount / "cgroup.controllers").exists():
        return []
    return _upwards(mount, _own_group(root, ""))


def _v1_folders(root: Path) -> list[Path]:
    mount = root / "sys/fs/cgroup/memory"
    if not (mount / "memory.limit_in_bytes").exists():
        return []
    return _upwards(mount, _own_group(root, "memory"))


def _own_group(root: Path, controller: str) -> str:
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(",") and (controller or number == "0"):
            return path.strip("/")
    return ""


def _upwards(mount: Path, group: str) -> list[Path]:
    # Inside a container the path may be the host's; then only the mount itself is ours to see.
    parts = [part for part in group.split("/") if part not in ("", ".", "..")]
    folders = [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return [folder for folder in folders if folder.is_dir()]


def _meminfo(root: Path) -> tuple[int, int]:
    """Whole and available memory of the machine in bytes."""
    found: dict[str, int] = {}
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        number = _int(rest.split()[0]) if rest.split() else None
        if number is not None:
            found[name] = number * 1024
    if not found.get("MemTotal"):
        memory = psutil.virtual_memory()
        return memory.total, memory.available
    rough = found.get("MemFree", 0) + found.get("Cached", 0)
    return found["MemTotal"], found.get("MemAvailable", rough)


def _ticks(root: Path) -> Ticks | None:
    first = (_text(root / "proc/stat") or "").partition("\n")[0].split()
    numbers = [_int(word) for word in first[1:9]]
    if len(numbers) < 5 or None in numbers:
        return None
    values = [number or 0 for number in numbers]
    total = sum(values)
    return Ticks(total - values[3] - values[4], total)


def _percent(before: Ticks | None, now: Ticks | None) -> float | None:
    """Share of the cores at work between two readings; None where time did not go on."""
    if before is None or now is None or now.total <= before.total:
        return None
    share = (now.busy - before.busy) / (now.total - before.total)
    return round(100 * min(1.0, max(0.0, share)), 1)


def _disk(home: Path) -> int | None:
    try:
        return shutil.disk_usage(home).free // MB
    except OSError:
        return None


def _stat(path: Path, name: str) -> int:
    for line in (_text(path) or "").splitlines():
        if line.startswith(name):
            return _int(line.split()[1]) or 0
    return 0


def _text(path: Path) -> str | None:
    """A small file of the kernel's; None where there is none or it may not be read."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _int(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
