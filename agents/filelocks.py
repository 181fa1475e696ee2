"""Locked files that count what a machine does at once; a lock dies with its process."""

from __future__ import annotations

import fcntl
import os


def try_lock(path: os.PathLike[str]) -> int | None:
    """Lock a file, made when it is missing; its descriptor to close, or None while it is held."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
