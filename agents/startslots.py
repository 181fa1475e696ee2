"""How many agents start at once on this machine: a start is CPU-bound, what follows is not.

One locked file for each; a file lock dies with its process.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

POLL_SECONDS = 0.05


@contextmanager
def start_slot(stop: Callable[[], str | None]) -> Iterator[None]:
    """Wait until an agent may start; ends early, without a slot, when `stop` says so."""
    folder = Path(settings.TUTTI_HOME) / "run"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"start-{number}.lock" for number in range(settings.TUTTI_STARTS_PER_HOST)]
    taken: int | None = None
    try:
        while taken is None and stop() is None:
            taken = next((lock for path in paths if (lock := _lock(path)) is not None), None)
            if taken is None:
                time.sleep(POLL_SECONDS)
        yield
    finally:
        if taken is not None:
            os.close(taken)


def _lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
