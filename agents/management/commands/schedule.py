from __future__ import annotations

import logging
import signal
import threading
import time
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import Error, close_old_connections, connection

from agents import scheduler
from agents.services import hosts
from projects.live import DOORBELL, SITE

logger = logging.getLogger(__name__)

#: Shortest time from pass to pass: rings come in swarms, and workers hand over by themselves.
PAUSE_SECONDS = 0.1


class Command(BaseCommand):
    help = "The clock: starts what can start, sends again what was lost, ends what gave no sign."

    def handle(self, *args: Any, **options: Any) -> None:
        stopping = threading.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda *_: stopping.set())
        while not stopping.is_set():
            try:
                with listen() as bell:
                    serve(bell, stopping)
            except (psycopg.Error, Error) as error:
                logger.warning("The clock lost the database and tries again: %s", error)
                close_old_connections()
                stopping.wait(1)


def listen() -> psycopg.Connection[Any]:
    """A connection of the clock's own that hears the doorbell and holds the clock's lock."""
    values = connection.get_connection_params()
    names = ("dbname", "user", "password", "host", "port")
    found = psycopg.connect(
        **{name: values[name] for name in names if values.get(name)}, autocommit=True
    )
    found.execute(f"LISTEN {DOORBELL}")
    return found


def serve(bell: psycopg.Connection[Any], stopping: threading.Event) -> None:
    """Tick on the doorbell and every few seconds, sweep now and then, until told to stop."""
    is_clock = False
    swept = read = 0.0
    rung: set[str] = set()
    while not stopping.is_set():
        if not is_clock:
            row = bell.execute("SELECT pg_try_advisory_lock(%s)", [scheduler.CLOCK_LOCK]).fetchone()
            is_clock = bool(row and row[0])
            if not is_clock:
                stopping.wait(1)
                continue
        now = time.monotonic()
        is_due = now - read >= settings.TUTTI_TICK_SECONDS
        if is_due:
            read = now
            hosts.host_read()
        if now - swept >= settings.TUTTI_SWEEP_SECONDS:
            swept = now
            scheduler.sweep()
        if is_due or SITE in rung:
            scheduler.tick()
        else:
            scheduler.start_all(but=_settled(rung))
        close_old_connections()
        rung = _wait(bell, stopping, until=now + PAUSE_SECONDS)


def _settled(rung: set[str]) -> int | None:
    """The project whose own changes alone rang, and have started what can start in it."""
    only = next(iter(rung)) if len(rung) == 1 else ""
    return int(only[1:]) if only.startswith("-") else None


def _wait(bell: psycopg.Connection[Any], stopping: threading.Event, *, until: float) -> set[str]:
    """Wait for the doorbell, at most one tick; returns what rang until then, each once."""
    deadline = time.monotonic() + settings.TUTTI_TICK_SECONDS
    rung: set[str] = set()
    while not stopping.is_set() and time.monotonic() < deadline:
        rung |= {ring.payload for ring in bell.notifies(timeout=0.1, stop_after=1)}
        if rung:
            stopping.wait(max(0.0, until - time.monotonic()))
            return rung | {ring.payload for ring in bell.notifies(timeout=0)}
    return rung
