"""Write to a project so that its record, the clock and open pages all learn of it."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import redis
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.utils import timezone

from projects.models import Event, Project, SiteChain, SiteEvent

logger = logging.getLogger(__name__)

#: PostgreSQL channel that wakes the clock, and Redis channel that carries hints to web processes.
DOORBELL = "tutti"
HINTS = "tutti.hints"
#: Topic of what concerns every project: quotas, providers, hosts.
SITE = "site"
SITE_LOCK = 0x7475_7369


@dataclass(frozen=True)
class Actor:
    """Who did something: a person, a run or Tutti itself."""

    name: str
    user_id: int | None = None

    @staticmethod
    def person(user: AbstractBaseUser) -> Actor:
        return Actor(f"person:{user.get_username()}", user.pk)

    @staticmethod
    def run(run_id: int) -> Actor:
        return Actor(f"run:{run_id}")


SYSTEM = Actor("system:tutti")


@dataclass
class Change:
    """The write in progress on one project; the project row is locked while it lasts."""

    project: Project
    topics: set[str] = field(default_factory=set)
    #: Whether the scheduler looked at this project after the last event, so the clock need not.
    is_scheduled: bool = False
    #: Whether anything may start now, here or elsewhere.
    rings: bool = True

    def event(self, kind: str, topic: str, by: Actor, /, **data: Any) -> Event:
        """Append a numbered event to the project's chain."""
        event = Event(
            project=self.project,
            number=self.project.event_count + 1,
            at=timezone.now(),
            actor=by.name,
            user_id=by.user_id,
            kind=kind,
            topic=topic,
            data=json.loads(json.dumps(data, cls=DjangoJSONEncoder)),
            previous_hash=self.project.event_hash,
        )
        event.hash = event_hash(event)
        event.save(force_insert=True)
        self.project.event_count = event.number
        self.project.event_hash = event.hash
        self.topics.add(topic)
        self.is_scheduled = False
        return event

    def close(self) -> None:
        if not self.topics:
            return
        Project.objects.filter(pk=self.project.pk).update(
            event_count=self.project.event_count, event_hash=self.project.event_hash
        )
        if self.rings:
            ring = f"{'-' if self.is_scheduled else ''}{self.project.pk}"
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, %s)", [DOORBELL, ring])
        topics, number = sorted(self.topics), self.project.event_count
        topics.append(f"{self.project.topic}/board")
        transaction.on_commit(lambda: hint(dict.fromkeys(topics, number)))


class _Open(threading.local):
    def __init__(self) -> None:
        self.changes: dict[int, Change] = {}


_open = _Open()


@contextmanager
def change(project: Project | int) -> Iterator[Change]:
    """Lock a project, write, and tell everybody after commit.

    Inside an open change of the same project it joins that one, so services can call services.
    Locks are taken in one order: the project first, modules after, the event last.
    """
    pk = project if isinstance(project, int) else project.pk
    if current := _open.changes.get(pk):
        yield current
        return
    with transaction.atomic():
        opened = Change(Project.objects.select_for_update().get(pk=pk))
        _open.changes[pk] = opened
        try:
            yield opened
            opened.close()
        finally:
            del _open.changes[pk]


def site_lock() -> None:
    """Let nobody else change what is the whole site's until this transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SITE_LOCK])


def site_event(kind: str, topic: str, by: Actor, /, **data: Any) -> SiteEvent:
    """Append a numbered event to the site's own chain; must run in a transaction.

    Inside a project's change it comes last, so that locks keep one order. The doorbell rings.
    """
    site_lock()
    chain = SiteChain.head()
    event = SiteEvent(
        number=chain.event_count + 1,
        at=timezone.now(),
        actor=by.name,
        user_id=by.user_id,
        kind=kind,
        topic=topic,
        data=json.loads(json.dumps(data, cls=DjangoJSONEncoder)),
        previous_hash=chain.event_hash,
    )
    event.hash = event_hash(event)
    event.save(force_insert=True)
    chain.event_count, chain.event_hash = event.number, event.hash
    chain.save()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [DOORBELL, SITE])
    transaction.on_commit(lambda: hint({SITE: event.number}))
    return event


def event_hash(event: Event | SiteEvent) -> str:
    """SHA-256 over the previous hash and everything the event says."""
    return sha256_of(
        [
            event.previous_hash,
            event.project_id if isinstance(event, Event) else None,
            event.number,
            instant(event.at),
            event.actor,
            event.user_id,
            event.kind,
            event.topic,
            event.data,
        ]
    )


def sha256_of(values: list[Any]) -> str:
    """SHA-256 over canonical JSON."""
    body = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def instant(at: datetime) -> int:
    """Microseconds since 1970, in whatever time zone it is told."""
    return round(at.timestamp() * 1_000_000)


@cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1)


def hint(versions: dict[str, int]) -> None:
    """Tell open pages which topics changed; losing it only delays them, so errors are logged."""
    try:
        _redis().publish(HINTS, json.dumps(versions))
    except redis.RedisError as error:
        logger.warning("Pages will learn of %s late: %s", sorted(versions), error)
