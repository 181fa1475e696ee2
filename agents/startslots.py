"""How many agents start at once on this machine: a start is CPU-bound, what follows is not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from agents.filelocks import try_lock

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
            taken = next((lock for path in paths if (lock := try_lock(path)) is not None), None)
            if taken is None:
                time.sleep(POLL_SECONDS)
        yield
    finally:
        if taken is not None:
            os.close(taken)
