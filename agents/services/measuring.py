"""Run a plan's checks before any code is written: how long they take, and whether they prove."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dramatiq
import redis
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from dramatiq.errors import BrokerError

from agents import sandbox
from agents.checkouts import clean_checkout
from agents.checkslots import check_slot
from agents.models import Measurement
from agents.services.coupling import coupling_found
from agents.supervision import supervisor
from projects import live, plancontent
from projects.git import GitError
from projects.hub import Hub, integration_ref
from projects.models import Contract, Plan, Project
from projects.planpage import plan_shown
from projects.services import sourcekeys
from projects.services.errors import Refused
from projects.services.plans import topic_of
from reviews.checks import run_checks
from reviews.interface import skeleton

logger = logging.getLogger(__name__)

#: A check that is not done by then is slow enough to say so.
CHECK_SECONDS = 120.0
WHOLE_SECONDS = 900.0
BEAT_SECONDS = 5.0
#: Without a sign of life for this long, nobody measures any more.
LOST_SECONDS = 60.0
#: An order that no worker took for this long is given anew by the next who asks.
UNTAKEN_SECONDS = 600.0


def status_of(measurement: Measurement, now: datetime) -> str:
    """Where a measuring stands: "asked", "measuring", "lost" or "ended"."""
    if measurement.ended_at is not None:
        return "ended"
    limit = UNTAKEN_SECONDS if measurement.started_at is None else LOST_SECONDS
    seen = measurement.seen_at or measurement.started_at or measurement.asked_at
    if now - seen > timedelta(seconds=limit):
        return "lost"
    return "asked" if measurement.started_at is None else "measuring"


def start_commit(plan: Plan, head: str) -> str:
    """The commit that a plan's modules start from: its own once it is prepared, else `head`."""
    return plan.base_commit or head


def measurement_ask(project: Project, by: User) -> Measurement:
    """Have the plan's checks measured by a worker; asking again while one does changes nothing.

    Raises Refused when there is nothing to measure.
    """
    plan = plan_shown(project)
    contracts = plancontent.contracts_of(plan) if plan else []
    if plan is None or not commands_of(contracts):
        raise Refused("There are no checks to measure yet: write the plan's modules first.")
    head = _head(project)
    with live.change(project) as change:
        going = Measurement.objects.filter(project=project, ended_at__isnull=True).first()
        if going is not None and status_of(going, timezone.now()) != "lost":
            _send(going)
            return going
        if going is not None:
            _end(change, going, problem="It ended without a word.")
        made = Measurement.objects.create(
            project=project, plan=plan, commit=start_commit(plan, head), asked_by=by
        )
        change.event("checks.measuring", topic_of(plan), live.Actor.person(by), commit=made.commit)
        transaction.on_commit(lambda: _send(made))
    return made


def commands_of(contracts: Sequence[Contract]) -> list[str]:
    """Each different check of a plan once, in the plan's order."""
    checks = (check for contract in contracts for check in contract.checks)
    return list(dict.fromkeys(check for check in checks if check.strip()))


def _head(project: Project) -> str:
    try:
        head = Hub(project.hub_path).head(integration_ref())
    except GitError as error:
        raise Refused(str(error)) from error
    if head is None:
        raise Refused("The project's hub has no commit yet, so there is nothing to measure on.")
    return head


def _send(measurement: Measurement) -> None:
    """Wake a worker of short work; a lost message costs only another press of the button."""
    message: dramatiq.Message[None] = dramatiq.Message(
        queue_name="short",
        actor_name="checks_measure",
        args=(measurement.pk,),
        kwargs={},
        options={},
    )
    try:
        dramatiq.get_broker().enqueue(message)
    except (redis.RedisError, BrokerError, OSError) as error:
        logger.warning("Nobody was told to measure %s: %s", measurement.pk, error)


def measurement_do(pk: int) -> None:
    """Measure what was asked for; a repeated message finds nothing to claim."""
    claimed = Measurement.objects.filter(pk=pk, started_at__isnull=True, ended_at__isnull=True)
    if not claimed.update(started_at=Now(), seen_at=Now()):
        return
    found = Measurement.objects.select_related("project", "plan", "plan__project").get(pk=pk)
    watch = _Watch(found)
    try:
        problem = _measure(found, watch)
    except GitError as error:
        problem = str(error)
    except Exception as error:
        logger.exception("Measuring %s failed", pk)
        problem = f"{type(error).__name__}: {error}"[:500]
    with live.change(found.project_id) as change:
        _end(change, found, problem=problem, rows=watch.rows, source=watch.source)


def _end(
    change: live.Change,
    measurement: Measurement,
    *,
    problem: str = "",
    rows: Sequence[dict[str, Any]] = (),
    source: str = "",
) -> None:
    """Keep what was found; nothing is written when somebody else ended it meanwhile."""
    ended = Measurement.objects.filter(pk=measurement.pk, ended_at__isnull=True).update(
        ended_at=Now(), rows=list(rows), problem=problem, source_problem=source
    )
    if ended:
        change.event(
            "checks.measured",
            topic_of(measurement.plan),
            live.SYSTEM,
            commit=measurement.commit,
            commands=len(rows),
            green=sum(bool(row["ok"]) for row in rows),
            problem=problem,
        )


@dataclass
class _Watch:
    """The limits and the signs of life of one measuring, and what it found so far."""

    measurement: Measurement
    began: float = field(default_factory=time.monotonic)
    beaten: float = field(default_factory=time.monotonic)
    rows: list[dict[str, Any]] = field(default_factory=list)
    source: str = ""

    def stop(self) -> str | None:
        now = time.monotonic()
        if supervisor.shutting_down.is_set():
            return "Its worker was shut down; measure again."
        if now - self.began > WHOLE_SECONDS:
            return f"The {WHOLE_SECONDS / 60:.0f} minutes for it were up."
        if now - self.beaten > BEAT_SECONDS:
            self.beaten = now
            live_ones = Measurement.objects.filter(pk=self.measurement.pk, ended_at__isnull=True)
            if not live_ones.update(seen_at=Now()):
                return "Somebody asked for another one."
        return None


def _measure(found: Measurement, watch: _Watch) -> str:
    """Run all commands, ask the source, look for coupling; returns why something is missing."""
    project, plan = found.project, found.plan
    hub = Hub(project.hub_path)
    watch.source = _source_problem(project, hub)
    contracts = plancontent.contracts_of(plan)
    commands = commands_of(contracts)
    environment = Path(project.environment) if project.environment else None
    with _tree(hub, found.commit, contracts) as tree:
        for command in commands:
            with check_slot(watch.stop):
                outcomes = run_checks(
                    [command],
                    tree,
                    sandbox.Runner(),
                    environment=environment,
                    stop=watch.stop,
                    timeout_seconds=min(CHECK_SECONDS, settings.TUTTI_CHECK_SECONDS),
                )
            if (why := watch.stop()) is not None:
                left = len(commands) - len(watch.rows)
                return f"{why} {left} of {len(commands)} checks were not measured."
            watch.rows += [
                {"command": one.command, "kind": str(one.kind), "ok": one.ok,
                 "seconds": round(one.seconds, 2)}
                for one in outcomes
            ]  # fmt: skip
    # Kept by itself for a day, so that the list can say it without looking.
    coupling_found(plan)
    return ""


def _source_problem(project: Project, hub: Hub) -> str:
    try:
        with sourcekeys.at_hand(project):
            head = hub.source_head(
                project.source, project.default_branch, roots=settings.TUTTI_SOURCE_ROOTS
            )
    except GitError as error:
        return str(error)
    return "" if head else f"{project.source} has no branch {project.default_branch}."


@contextmanager
def _tree(hub: Hub, commit: str, contracts: Sequence[Contract]) -> Iterator[Path]:
    """A clean checkout with the declared interfaces in it, as the modules will find it."""
    with clean_checkout(hub, commit, "measure") as tree:
        clauses = [clause for contract in contracts for clause in contract.provides]
        owns = [glob for contract in contracts for glob in contract.owns]
        for path, source in skeleton(clauses, hub.files(commit), owns).items():
            file = tree / path
            # A link in the repository must not lead the server's own writing out of the tree.
            if file.parent.resolve().is_relative_to(tree.resolve()):
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("x", encoding="utf-8") as stream:
                    stream.write(source)
        yield tree
