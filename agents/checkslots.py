"""How many checks run at once on this machine: one locked file for each."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from agents.filelocks import try_lock

POLL_SECONDS = 0.02


@contextmanager
def check_slot(stop: Callable[[], str | None], *, is_merge: bool = False) -> Iterator[float]:
    """Wait for one of the machine's check slots and yield the seconds that it took.

    A merge holds up everything behind it, so one more slot is for merges alone. Waiting ends
    early when `stop` says so.
    """
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor: int | None = None
    began = time.monotonic()
    try:
        while descriptor is None and stop() is None:
            for name in _names(is_merge):
                descriptor = try_lock(folder / f"{name}.lock")
                if descriptor is not None:
                    break
            else:
                time.sleep(POLL_SECONDS)
        yield time.monotonic() - began
    finally:
        if descriptor is not None:
            os.close(descriptor)


def slots_now() -> int:
    """Checks that may begin now: fewer than the setting while the machine is short of memory."""
    most: int = settings.TUTTI_CHECKS_PER_HOST
    try:
        return max(1, min(most, int(_file().read_text())))
    except (OSError, ValueError):
        return most


def slots_set(count: int) -> None:
    """Tell every worker of this machine; checks at work are not undone."""
    path = _file()
    with contextlib.suppress(OSError):
        if not path.exists() and count >= settings.TUTTI_CHECKS_PER_HOST:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(str(count))
        draft.replace(path)


def _names(is_merge: bool) -> list[str]:
    names = [f"check-{number}" for number in range(slots_now())]
    return [*names, "check-merge"] if is_merge else names


def _folder() -> Path:
    return Path(settings.TUTTI_HOME) / "run"


def _file() -> Path:
    return _folder() / "check-slots"
