"""A claimed run at work: its rows, its branch, its log and the orders that reach it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from django.conf import settings

from agents import meters, sandbox
from agents.backends.base import Kept
from agents.checkslots import check_slot
from agents.models import Run
from agents.services import runs
from agents.services import secrets as accounts
from agents.supervision import FENCED, INTERRUPTED, Watch
from projects.hub import Hub, integration_ref, module_ref
from projects.models import Contract, Module, Plan
from projects.redaction import Redactor, RowRedactor
from reviews.checks import CheckOutcome, run_checks

LOG_SECONDS = 0.1
LOG_ROWS = 200


class Ended(Exception):
    """The run was told to end: interrupted by a shutdown, or stopped by a person."""

    def __init__(self, order: str) -> None:
        super().__init__(order)
        self.order = order


@dataclass
class Log:
    """A run's events in batches: every tenth of a second, or every 200; without secrets."""

    run: Run
    sequence: int = 0
    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    flushed: float = field(default_factory=time.monotonic)
    redactor: Redactor = field(default_factory=accounts.redactor)

    def __post_init__(self) -> None:
        self.redacting = RowRedactor(self.redactor)

    def hide(self, secret: str) -> None:
        """Keep a secret of this run's own out of all that is stored of it."""
        if self.redactor.knows(secret):
            return
        self.rows += self.redacting.close()
        self.redactor = self.redactor.also(secret)
        self.redacting = RowRedactor(self.redactor)

    def add(self, kind: str, data: dict[str, Any]) -> None:
        self.rows += self.redacting.add(kind, data)
        if len(self.rows) >= LOG_ROWS:
            self._write()

    def flush_if_due(self) -> None:
        self.rows += self.redacting.late()
        if self.rows and time.monotonic() - self.flushed >= LOG_SECONDS:
            self._write()

    def flush(self) -> None:
        self.rows += self.redacting.close()
        self._write()

    def _write(self) -> None:
        rows, self.rows = self.rows, []
        self.flushed = time.monotonic()
        self.sequence = runs.log_append(self.run, rows, self.sequence)


@dataclass
class Work:
    """One run of a module while this worker has it."""

    run: Run
    hub: Hub
    watch: Watch
    log: Log
    #: Seconds spent waiting for the machine's check slots; they are nobody's work.
    waited: float = 0.0
    #: The run's agent, where it lives on between two turns.
    kept: Kept = field(default_factory=Kept)
    #: The run's back-channel, once its first turn began; see agents/services/channels.py.
    line: object | None = None
    #: Paths of the last turn that held a secret, and that its commit therefore lacks.
    leaks: list[str] = field(default_factory=list)

    @property
    def module(self) -> Module:
        assert self.run.module is not None
        return self.run.module

    @property
    def name(self) -> str:
        """The module's slug; what recordings call a run that belongs to the whole project."""
        return self.run.module.slug if self.run.module else "project"

    @property
    def plan(self) -> Plan:
        assert self.run.plan is not None
        return self.run.plan

    @property
    def contract(self) -> Contract:
        assert self.module.contract is not None
        return self.module.contract

    @property
    def branch(self) -> str:
        return branch_of(self.module)

    @property
    def above(self) -> str:
        """The branch that this module merges into."""
        parent = self.module.parent
        return branch_of(parent) if parent else integration_ref()

    @property
    def environment(self) -> Path | None:
        folder = self.run.project.environment
        return Path(folder) if folder else None

    def stop(self) -> str | None:
        """Polled by everything that waits; also lets the log out in time."""
        self.log.flush_if_due()
        return self.watch.stop()

    def obey(self) -> None:
        """Raise when the run has to end. Raises runs.Fenced when it is somebody else's."""
        order = self.watch.stop()
        if order == FENCED:
            raise runs.Fenced(f"Run {self.run.pk} is no longer ours.")
        if order is not None:
            raise Ended(order)

    def reload(self) -> None:
        """Read the module again: its contract, lane and counters may have changed meanwhile."""
        self.run.module = Module.objects.select_related(
            "contract__plan", "plan", "parent__contract__plan", "project"
        ).get(pk=self.module.pk)


def branch_of(module: Module) -> str:
    """A module's branch, named by the plan whose contract it works under.

    A plan that is approved meanwhile takes the module over, and must not rename the branch that
    its parts merge into.
    """
    assert module.contract is not None
    return module_ref(module.contract.plan.number, module.slug)


@contextmanager
def slot(work: Work) -> Iterator[None]:
    """One of the machine's check slots; the wait for it is not counted as the gate's time."""
    with check_slot(work.stop, is_merge=work.run.kind == Run.Kind.MERGE) as waited:
        work.waited += waited
        work.obey()
        yield


def check(work: Work, commands: Sequence[str], tree: Path) -> list[CheckOutcome]:
    """Run check commands in the sandbox, under the machine's limit for checks."""
    outcomes: list[CheckOutcome] = []
    for command in commands:
        with slot(work), meters.metering(work.run.pk, meters.CHECK) as meter:
            found = run_checks(
                [command],
                tree,
                sandbox.Runner(),
                environment=work.environment,
                stop=work.stop,
                timeout_seconds=settings.TUTTI_CHECK_SECONDS,
            )
        if not work.run.needs_slot:
            # Where no agent took part, the run's figures are those of its checks.
            Run.objects.filter(pk=work.run.pk, fence=work.run.fence).update(**meter.columns())
        work.obey()
        found = [replace(one, output=work.log.redactor.text(one.output)) for one in found]
        outcomes += found
        for one in found:
            work.log.add(
                "check",
                {"command": one.command, "ok": one.ok, "kind": str(one.kind),
                 "seconds": round(one.seconds, 2)},
            )  # fmt: skip
        work.log.flush()
    return outcomes


__all__ = ["INTERRUPTED", "Ended", "Log", "Work", "check", "slot"]
