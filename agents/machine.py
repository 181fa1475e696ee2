"""Read this machine: memory and disk. The rules take readings as values."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

MB = 1024 * 1024


@dataclass(frozen=True)
class Reading:
    """Free and whole memory and free disk in MB, and the number of cores."""

    memory_mb: int
    memory_available_mb: int
    disk_free_mb: int
    cores: int


def read(home: Path) -> Reading:
    """A reading of now; `home` is the folder whose disk counts."""
    memory = psutil.virtual_memory()
    total, available = memory.total, memory.available
    limit, used = _cgroup()
    if limit is not None and used is not None and limit < total:
        total, available = limit, max(0, min(available, limit - used))
    return Reading(
        memory_mb=total // MB,
        memory_available_mb=available // MB,
        disk_free_mb=shutil.disk_usage(home).free // MB,
        cores=os.cpu_count() or 1,
    )


def _cgroup() -> tuple[int | None, int | None]:
    """Limit and use of cgroup v2 in bytes; None where there is none or it makes no sense."""
    root = Path("/sys/fs/cgroup")
    try:
        limit = int((root / "memory.max").read_text())
        used = int((root / "memory.current").read_text())
    except (OSError, ValueError):
        return None, None
    return (limit, used) if limit > 0 else (None, None)
