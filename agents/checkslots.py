"""How many checks run at once on this machine: one locked file for each.

A file lock dies with its process, so a killed worker never keeps a slot.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings

POLL_SECONDS = 0.02


@contextmanager
def check_slot(stop: Callable[[], str | None], *, is_merge: bool = False) -> Iterator[float]:
    """Wait for one of the machine's check slots and yield the seconds that it took.

    A merge holds up everything behind it, so one more slot is for merges alone. Waiting ends
    early when `stop` says so.
    """
    folder = settings.TUTTI_HOME / "run"
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"check-{number}" for number in range(settings.TUTTI_CHECKS_PER_HOST)]
    if is_merge:
        names.append("check-merge")
    descriptor: int | None = None
    began = time.monotonic()
    try:
        while descriptor is None and stop() is None:
            for name in names:
                descriptor = _try(folder / f"{name}.lock")
                if descriptor is not None:
                    break
            else:
                time.sleep(POLL_SECONDS)
        yield time.monotonic() - began
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _try(path: os.PathLike[str]) -> int | None:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
