"""Signs of life for the runs of this process, and the orders that reach them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.conf import settings
from django.db import Error, close_old_connections

from agents.models import Run
from agents.services import hosts, runs

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
INTERRUPTED = "interrupted"
FENCED = "fenced"
#: Orders that carry a sentence: from a person, and from a machine that ran short of memory.
STOPPED, YIELDED = "stopped: ", "yielded: "


@dataclass
class Watch:
    """One run of this process: why it has to end, once somebody said so."""

    run_id: int
    fence: int
    seen: float
    order: str | None = None

    def stop(self) -> str | None:
        return self.order or (INTERRUPTED if supervisor.shutting_down.is_set() else None)


class Supervisor:
    """One thread a process: heartbeats in one batch, orders in one query."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.watches: dict[int, Watch] = {}
        self.thread: threading.Thread | None = None
        self.shutting_down = threading.Event()
        #: Set in workers: a process that does runs only now and then leaves its host to them.
        self.reads_host = False

    @contextmanager
    def watch(self, run: Run) -> Iterator[Watch]:
        """Keep a run alive while the block lasts."""
        watch = Watch(run.pk, run.fence, time.monotonic())
        with self.lock:
            self.watches[run.pk] = watch
        self.begin()
        try:
            yield watch
        finally:
            with self.lock:
                self.watches.pop(run.pk, None)

    def begin(self) -> None:
        """Have the thread at work; a worker without a run reads its host all the same."""
        with self.lock:
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self._live, name="supervisor", daemon=True)
                self.thread.start()

    def _live(self) -> None:
        beaten = read = 0.0
        while True:
            with self.lock:
                watches = list(self.watches.values())
            try:
                if time.monotonic() - beaten >= settings.TUTTI_HEARTBEAT_SECONDS:
                    runs.heartbeat({watch.run_id: watch.fence for watch in watches})
                    beaten = time.monotonic()
                self._obey(watches)
                if self.reads_host and time.monotonic() - read >= settings.TUTTI_TICK_SECONDS:
                    read = time.monotonic()
                    hosts.host_read()
            except Error as error:
                logger.warning("No sign of life could be given: %s", error)
                self._give_up(watches)
            finally:
                close_old_connections()
            time.sleep(POLL_SECONDS)

    def _obey(self, watches: list[Watch]) -> None:
        now = time.monotonic()
        orders = runs.orders([watch.run_id for watch in watches])
        for watch in watches:
            watch.seen = now
            status, fence, reason, kind = orders.get(watch.run_id, ("", -1, "", ""))
            if fence != watch.fence or status not in Run.ACTIVE:
                watch.order = FENCED
            elif status == Run.Status.STOPPING:
                watch.order = f"{YIELDED if kind == runs.MEMORY else STOPPED}{reason}"

    def _give_up(self, watches: list[Watch]) -> None:
        """Without the database for a whole lease, somebody else owns these runs by now."""
        for watch in watches:
            if time.monotonic() - watch.seen > settings.TUTTI_LEASE_SECONDS:
                watch.order = FENCED


supervisor = Supervisor()
