"""Recognise that a disk is full, and say what to do."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

from django.conf import settings

_SIGNS = re.compile(r"no space left on device|disk quota exceeded|\bENOSPC\b|\bEDQUOT\b", re.I)
_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
MB = 1024 * 1024
#: What a host whose disk has room always has left.
ROOM_MB = 50


def is_meant(error: BaseException) -> bool:
    """Whether an error of the server's own, or of its git, came of a full disk."""
    if isinstance(error, OSError):
        return error.errno in _NUMBERS
    return bool(_SIGNS.search(f"{error} {getattr(error, 'stderr', '')}"))


def is_told(said: str) -> bool:
    """Whether an agent says so and the disk bears it out: it may lie, or its own /tmp be full."""
    return bool(_SIGNS.search(said)) and (_free_mb() or 0) < ROOM_MB


def sentence() -> str:
    free = _free_mb()
    left = "" if free is None else f" ({free} MB left)"
    return (
        f"The disk that holds {settings.TUTTI_HOME} is full{left}, so the work of this turn could "
        "not be kept. Free some space there, e.g. by removing the workspaces of finished projects; "
        "the run is tried again by itself a few times, and counts as nobody's failed attempt."
    )


def _free_mb() -> int | None:
    try:
        return shutil.disk_usage(Path(settings.TUTTI_HOME)).free // MB
    except OSError:
        return None
