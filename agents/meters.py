"""What the processes of each run use, kept while they live where every process of the host sees it.

A meter is a small file in TUTTI_HOME/run/trees whose name begins with its worker's process id: what
a killed worker left is known by that, and removed by the next look.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.db.models import F
from django.db.models.functions import Coalesce, Greatest

MB = 1024 * 1024
AGENT, CHECK = "agent", "check"
#: Ends the name of the file of an agent that waits for its next turn.
IDLE = "-idle"


@dataclass(frozen=True, slots=True)
class Use:
    """Memory that the processes of a run use now."""

    run_id: int
    kind: str
    memory_mb: float


class Meter:
    """Most memory and CPU time of what one run started while the meter ran."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.file = _open(path) if path else None
        self.peak_bytes = 0
        self.cpu_seconds = 0.0
        self.written = -1

    @property
    def peak_mb(self) -> int | None:
        """None while nothing was seen."""
        return -(-self.peak_bytes // MB) if self.peak_bytes else None

    def see(self, memory_bytes: int) -> None:
        self.peak_bytes = max(self.peak_bytes, memory_bytes)
        megabytes = memory_bytes // MB
        if self.file is not None and megabytes != self.written:
            self.written = megabytes
            with contextlib.suppress(OSError):
                # Always as long, so that whoever reads meanwhile never sees half of it.
                os.pwrite(self.file, b"%12d" % megabytes, 0)

    def end(self, cpu_seconds: float) -> None:
        """One command of the run ended."""
        self.cpu_seconds += cpu_seconds
        self.see(0)

    def columns(self) -> dict[str, Any]:
        """What to write to the run's row: the highest peak so far and all CPU time so far."""
        if self.peak_mb is None:
            return {}
        cpu = Coalesce(F("cpu_seconds"), 0.0) + self.cpu_seconds
        peak = Greatest(Coalesce(F("memory_peak_mb"), 0), self.peak_mb)
        return {"cpu_seconds": cpu, "memory_peak_mb": peak}

    def close(self) -> None:
        if self.file is not None:
            os.close(self.file)
            self.file = None


class Relay(Meter):
    """Hands what is measured on to the meter of the turn at hand.

    Between two turns the agent's memory is still its run's: it is kept in a file of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.to: Meter | None = None
        self.idle: Meter | None = None
        self.newest = 0

    def point_to(self, meter: Meter | None) -> None:
        with self.lock:
            before, self.to = self.to, meter
            self._forget_idle()
            if meter is None and before is not None and before.path is not None:
                self.idle = Meter(before.path.with_name(f"{before.path.name}{IDLE}"))
                self.idle.see(self.newest)

    def see(self, memory_bytes: int) -> None:
        with self.lock:
            self.newest = memory_bytes
            if (meter := self.to or self.idle) is not None:
                meter.see(memory_bytes)

    def end(self, cpu_seconds: float) -> None:
        """Each turn counts its own share."""

    def close(self) -> None:
        with self.lock:
            self.to = None
            self._forget_idle()

    def _forget_idle(self) -> None:
        idle, self.idle = self.idle, None
        if idle is not None and idle.path is not None:
            idle.close()
            with contextlib.suppress(OSError):
                idle.path.unlink(missing_ok=True)


_current: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def metering(run_id: int, kind: str) -> Iterator[Meter]:
    """Measure what the sandbox starts inside the block."""
    folder = _folder()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{os.getpid()}-{run_id}-{kind}"
    meter = Meter(path)
    token = _current.set(meter)
    try:
        meter.see(0)
        yield meter
    finally:
        _current.reset(token)
        meter.close()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def current() -> Meter:
    """The meter of the run at work in this thread; one that nobody reads where there is none."""
    return _current.get() or Meter()


def uses() -> list[Use]:
    """Everything that runs on this host for a run right now."""
    found = []
    with contextlib.suppress(OSError):
        for path in _folder().iterdir():
            pid, _, rest = path.name.partition("-")
            run_id, _, kind = rest.partition("-")
            if not (pid.isdigit() and run_id.isdigit()):
                continue
            if not psutil.pid_exists(int(pid)):
                path.unlink(missing_ok=True)
                continue
            with contextlib.suppress(OSError, ValueError):
                memory = float(path.read_text() or 0)
                found.append(Use(int(run_id), kind.removesuffix(IDLE), memory))
    return found


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError:
        return None


def _folder() -> Path:
    return Path(settings.TUTTI_HOME) / "run" / "trees"
