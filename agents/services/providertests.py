"""Test a profile's provider: asked for by people, done by a worker, shown step by step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
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

from agents import providertest, testreport
from agents.backends.base import BackendError, Outcome, Usage
from agents.models import Profile, ProviderTest
from agents.services import secrets as accounts
from agents.services import testcharges
from agents.services.profiles import DEFAULT_MODELS, profile_for
from agents.supervision import supervisor
from projects import live
from projects.models import Project
from projects.redaction import Redactor
from projects.secrets import SecretError
from projects.services.errors import Refused
from projects.text import clean_text

logger = logging.getLogger(__name__)

WHOLE_SECONDS = 300.0
BEAT_SECONDS = 5.0
#: Without a sign of life for this long, nobody tests any more.
LOST_SECONDS = 60.0
#: An order that no worker took for this long is taken for lost, too.
UNTAKEN_SECONDS = 300.0
LOST = (
    "Its worker ended without a word, or none took it. See whether workers of runs are up, and test"
    " again."
)
NOTHING = (
    "There is nothing to test: this role is played by recorded runs, which need no provider. Choose"
    " another backend, save, and test that."
)


def status_of(test: ProviderTest, now: datetime | None = None) -> str:
    """Where a test stands: "asked", "testing", "lost", "passed" or "failed"."""
    if test.ended_at is not None:
        return "failed" if test.problem else "passed"
    limit = UNTAKEN_SECONDS if test.started_at is None else LOST_SECONDS
    seen = test.seen_at or test.started_at or test.asked_at
    if (now or timezone.now()) - seen > timedelta(seconds=limit):
        return "lost"
    return "asked" if test.started_at is None else "testing"


def is_over(test: ProviderTest) -> bool:
    """Whether nothing more is to be expected of it."""
    return status_of(test) in ("lost", "passed", "failed")


def rows_of(test: ProviderTest) -> list[testreport.Row]:
    """What is known of a test by now, step by step."""
    status = status_of(test)
    provider = test.provider
    key = provider.secret_env if provider and provider.secret else ""
    return testreport.rows(
        test.backend,
        test.facts,
        is_over=status == "passed",
        problem=LOST if status == "lost" else test.problem,
        kind=test.problem_kind,
        key_name=key,
    )


def tests_of(project: Project | None) -> dict[str, ProviderTest]:
    """Role to its newest test, of a project or of the site."""
    rows = ProviderTest.objects.filter(project=project).order_by("role", "-pk").distinct("role")
    return {row.role: row for row in rows}


def test_ask(
    project: Project | None, role: str, by: User | None, *, is_sent: bool = True
) -> ProviderTest:
    """Have the profile in force for a role tested; while one is at work, that one is returned.

    Without `is_sent` no worker is told: the caller does it itself. Raises Refused when there is
    nothing to test, or when the account or a quota lets nothing through.
    """
    profile = _profile(project, role)
    if profile.backend == "replay":
        raise Refused(NOTHING)
    wanted = ProviderTest(
        project=project,
        role=role,
        backend=profile.backend,
        model=profile.model,
        provider=profile.provider,
        settings=profile.settings,
        asked_by=by,
    )
    if why := testcharges.refusal(wanted):
        raise Refused(why)
    actor = live.Actor.person(by) if by else live.SYSTEM
    with _written(project, "provider.testing", actor, wanted) as write:
        going = _going(project, role)
        if going is not None and not is_over(going):
            return going
        if going is not None:
            _end(going, LOST, "lost")
        wanted.save(force_insert=True)
        write()
        if is_sent:
            transaction.on_commit(lambda: _send(wanted))
    return wanted


def _profile(project: Project | None, role: str) -> Profile:
    if role not in Profile.Role.values:
        raise Refused(f"There is no role {role}.")
    if project is not None:
        return profile_for(project, role)
    found = Profile.objects.filter(project=None, role=role).select_related("provider").first()
    return found or Profile(role=role, model=DEFAULT_MODELS[Profile.Role(role)])


def _going(project: Project | None, role: str) -> ProviderTest | None:
    rows = ProviderTest.objects.filter(project=project, role=role, ended_at=None)
    return rows.select_for_update().first()


class _written:
    """A write about a test in the chain it belongs to: the project's, else the site's.

    Yields what appends the event; a project stays locked from before the write.
    """

    def __init__(
        self, project: Project | None, kind: str, by: live.Actor, test: ProviderTest, **data: Any
    ) -> None:
        self.project, self.kind, self.by, self.test, self.data = project, kind, by, test, data
        self.change: live.Change | None = None
        self.around: Any = live.change(project) if project else transaction.atomic()

    def __enter__(self) -> Callable[[], None]:
        self.change = self.around.__enter__()
        return self.event

    def __exit__(self, *what: Any) -> bool | None:
        return bool(self.around.__exit__(*what))

    def event(self) -> None:
        test = self.test
        told = {"role": test.role, "backend": test.backend, "model": test.model,
                "provider": test.provider.name if test.provider else "", "test": test.pk,
                **self.data}  # fmt: skip
        if self.project is not None and self.change is not None:
            self.change.event(self.kind, self.project.topic, self.by, **told)
        else:
            live.site_event(self.kind, live.SITE, self.by, **told)


def _send(test: ProviderTest) -> None:
    """Wake a worker of runs, for agents are installed where those are."""
    message: dramatiq.Message[None] = dramatiq.Message(
        queue_name="runs", actor_name="provider_test", args=(test.pk,), kwargs={}, options={}
    )
    try:
        dramatiq.get_broker().enqueue(message)
    except (redis.RedisError, BrokerError, OSError) as error:
        logger.warning("Nobody was told to make %s: %s", test, error)


# --- Doing it ------------------------------------------------------------------------------------


def test_do(pk: int, told: Callable[[ProviderTest], None] | None = None) -> None:
    """Make a test that was asked for; a repeated message finds nothing to claim.

    `told` is called whenever something more is known.
    """
    claimed = ProviderTest.objects.filter(pk=pk, started_at=None, ended_at=None)
    if not claimed.update(started_at=Now(), seen_at=Now(), host=settings.TUTTI_HOST):
        return
    test = ProviderTest.objects.select_related("project", "provider").get(pk=pk)
    watch = _Watch(test, accounts.redactor(), told)
    error = _tried(test, watch)
    _keep(test, watch, error)
    if told is not None:
        test.refresh_from_db()
        told(test)


@dataclass
class _Watch:
    """The limits and the signs of life of one test, and what it found so far."""

    test: ProviderTest
    redactor: Redactor
    told: Callable[[ProviderTest], None] | None = None
    began: float = field(default_factory=time.monotonic)
    beaten: float = field(default_factory=time.monotonic)
    usage: Usage = field(default_factory=Usage)
    #: Why it was ended from here; empty when it was not.
    reason: str = ""

    def tell(self, facts: dict[str, Any]) -> None:
        self.test.facts |= self.redactor.data(facts)
        rows = ProviderTest.objects.filter(pk=self.test.pk, ended_at=None)
        rows.update(facts=self.test.facts, seen_at=Now())
        if self.told is not None:
            self.told(self.test)

    def stop(self) -> str | None:
        now = time.monotonic()
        if supervisor.shutting_down.is_set():
            self.reason = "Its worker was shut down; test again."
        elif now - self.began > WHOLE_SECONDS:
            self.reason = f"The {WHOLE_SECONDS / 60:.0f} minutes for it were up."
        elif now - self.beaten > BEAT_SECONDS:
            self.beaten = now
            mine = ProviderTest.objects.filter(pk=self.test.pk, ended_at=None)
            if not mine.update(seen_at=Now()):
                self.reason = "Somebody asked for another one."
        return self.reason or None


def _tried(test: ProviderTest, watch: _Watch) -> BackendError | None:
    """Try it; returns what went wrong."""
    if why := testcharges.refusal(test):
        return BackendError(why, kind="quota", owner="provider")
    try:
        secrets = accounts.environment_of(test.profile)
        for value in secrets.values():
            watch.redactor = watch.redactor.also(value)
        outcome = providertest.try_out(
            test.profile, secrets, _environment(test), watch.tell, watch.stop
        )
    except SecretError as error:
        return BackendError(str(error), kind="settings", owner="tutti")
    except BackendError as error:
        watch.usage = error.usage
        return error
    except Exception as error:
        logger.exception("Testing %s failed", test)
        said = f"{type(error).__name__}: {error}"
        return BackendError(f"Tutti itself failed: {said}", kind="tutti", owner="tutti")
    watch.usage = outcome.usage
    return _doubt(test, watch, outcome)


def _doubt(test: ProviderTest, watch: _Watch, outcome: Outcome) -> BackendError | None:
    """Why a turn without an error is no success after all."""
    if watch.reason:
        return BackendError(watch.reason, kind="stopped", owner="tutti")
    if not test.facts.get("answer"):
        return BackendError(
            "It ended without an error, but said nothing. Look whether its command prints its"
            " answer, and whether the profile's format is the one that it prints.",
            kind="answer",
        )
    return None


def _environment(test: ProviderTest) -> Path | None:
    named = test.project.environment if test.project else ""
    return Path(named) if named else None


def _keep(test: ProviderTest, watch: _Watch, error: BackendError | None) -> None:
    """Keep how it ended and count what it used, once; a test that was given up counts, too."""
    problem = clean_text(watch.redactor.text(str(error)), 2_000) if error else ""
    kind = error.kind if error else ""
    if money := testcharges.said(testcharges.money_of(test, watch.usage)):
        watch.tell({"money": money})
    data = {"passed": error is None, "problem": problem}
    refused = error is not None and (error.owner == "provider" or "first_at" not in test.facts)
    with _written(test.project, "provider.tested", live.SYSTEM, test, **data) as write:
        testcharges.charge(test, watch.usage, is_refused=refused)
        if _end(test, problem, kind):
            write()
    if error is not None:
        testcharges.tell_breaker(test, error)


def _end(test: ProviderTest, problem: str, kind: str) -> bool:
    """End a test unless somebody did; whether it was ended here."""
    rows = ProviderTest.objects.filter(pk=test.pk, ended_at=None)
    return bool(rows.update(ended_at=Now(), problem=problem, problem_kind=kind[:30]))
