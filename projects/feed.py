"""One Redis subscription for all sockets of a web process, and their heartbeat."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Iterable, Mapping
from typing import Protocol
from weakref import WeakKeyDictionary

import redis.asyncio
from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.models import Session
from django.db import DatabaseError
from django.utils import timezone

from projects import live
from projects.models import Membership, Project, SiteEvent

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
#: Losing access closes the socket within 5 s: one look every 3 s, and time for the look.
ACCESS_SECONDS = 3.0

#: Close codes after which a page does not come back by itself.
SIGNED_OUT = 4401
NO_ACCESS = 4403

#: Stands for the site where a project's id is asked for; its topic is for site admins alone.
WHOLE_SITE = 0


class Watcher(Protocol):
    """A socket, as the feed sees it."""

    user_id: int
    session: SessionBase | None
    topics: set[str]

    def tell(self, versions: Mapping[str, int], *, beat: bool = False) -> None: ...
    async def dismiss(self, code: int) -> None: ...


def is_topic(topic: str) -> bool:
    """Whether a text names something of a project, as "p/7/board" does, or the site."""
    if topic == live.SITE:
        return True
    parts = topic.split("/")
    digits = parts[1] if len(parts) > 1 and len(topic) <= 120 else ""
    return parts[0] == "p" and digits.isascii() and digits.isdigit() and len(digits) < 16


def project_of(topic: str) -> int:
    """The project that a topic belongs to: 7 of "p/7/board", WHOLE_SITE of "site"."""
    return WHOLE_SITE if topic == live.SITE else int(topic.split("/")[1])


def with_parents(versions: Mapping[str, int]) -> dict[str, int]:
    """Add what a topic is part of: who watches "p/7/plan" hears of each plan, "p/7/plan/3" too."""
    found: dict[str, int] = {}
    for topic, version in versions.items():
        names = {topic}
        if not is_log(topic):
            names.add(topic.rsplit("/", 1)[0])
        for name in names:
            found[name] = max(version, found.get(name, 0))
    return found


def is_log(topic: str) -> bool:
    """Whether the topic counts the rows of a run's log instead of the project's events."""
    return topic.endswith("/log")


class Feed:
    """Watchers of this process. Runs while there are any; one for each event loop."""

    def __init__(self) -> None:
        self.watchers: set[Watcher] = set()
        self.tasks: list[asyncio.Task[None]] = []

    def join(self, watcher: Watcher) -> None:
        self.watchers.add(watcher)
        if not self.tasks:
            self.tasks = [
                asyncio.create_task(step()) for step in (self.listen, self.beat, self.guard)
            ]

    def leave(self, watcher: Watcher) -> None:
        self.watchers.discard(watcher)
        if not self.watchers:
            for task in self.tasks:
                task.cancel()
            self.tasks = []

    async def listen(self) -> None:
        """Pass hints on, for ever: a Redis that went away is awaited."""
        wait = 0.1
        while True:
            # redis-py closes a silent socket after 5 s unless told not to.
            client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_timeout=None)
            try:
                async with client.pubsub() as subscription:
                    await subscription.subscribe(live.HINTS)
                    wait = 0.1
                    await self.send_versions()  # What was said while nobody listened.
                    async for message in subscription.listen():
                        if message["type"] == "message":
                            self.pass_on(message["data"])
            except (redis.RedisError, OSError) as error:
                logger.warning("Hints come late until Redis is back: %s", error)
            finally:
                await client.aclose()
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(wait * 2, 2.0)

    def pass_on(self, data: bytes) -> None:
        try:
            hints = json.loads(data)
            versions = {str(topic): int(number) for topic, number in hints.items()}
            versions = with_parents(versions)
        except (ValueError, AttributeError, TypeError):
            logger.warning("A hint that is none was dropped: %.100r", data)
            return
        for watcher in list(self.watchers):
            if mine := watcher.topics & versions.keys():
                watcher.tell({topic: versions[topic] for topic in mine})

    async def beat(self) -> None:
        """Send the true versions now and then: a lost hint then is only a late one."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await self.send_versions(beat=True)

    async def send_versions(self, *, beat: bool = False) -> None:
        watchers = list(self.watchers)
        try:
            counts = await versions_of(topic for w in watchers for topic in w.topics)
        except DatabaseError as error:
            logger.warning("A heartbeat was left out: %s", error)
            return
        for watcher in watchers:
            watcher.tell(pick(watcher.topics, counts), beat=beat)

    async def guard(self) -> None:
        """Dismiss who lost access, was deactivated or signed out."""
        while True:
            await asyncio.sleep(ACCESS_SECONDS)
            watchers = list(self.watchers)
            try:
                codes = await refusals(watchers)
            except DatabaseError as error:
                logger.warning("Access could not be checked: %s", error)
                continue
            for watcher, code in zip(watchers, codes, strict=True):
                if code:
                    await watcher.dismiss(code)


_feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, Feed] = WeakKeyDictionary()


def feed() -> Feed:
    """The feed of the running event loop."""
    return _feeds.setdefault(asyncio.get_running_loop(), Feed())


def pick(topics: Iterable[str], counts: Mapping[int, int]) -> dict[str, int]:
    """Topic to version, for those whose project exists; logs have numbers of their own."""
    found = {}
    for topic in topics:
        project = project_of(topic)
        if project in counts and not is_log(topic):
            found[topic] = counts[project]
    return found


@database_sync_to_async
def versions_of(topics: Iterable[str]) -> dict[int, int]:
    """Project to its number of events, for the projects of these topics; the site likewise."""
    ids = {project_of(topic) for topic in topics}
    found = dict(Project.objects.filter(pk__in=ids).values_list("pk", "event_count"))
    if WHOLE_SITE in ids:
        found[WHOLE_SITE] = site_version()
    return found


def site_version() -> int:
    """How many events the site's own chain has."""
    return SiteEvent.objects.order_by("-number").values_list("number", flat=True).first() or 0


@database_sync_to_async
def refusals(watchers: list[Watcher]) -> list[int]:
    """For each watcher 0, or the close code: 4401 signed out, 4403 no longer a member."""
    users = User.objects.filter(pk__in={w.user_id for w in watchers}, is_active=True)
    admins = dict(users.values_list("pk", "is_superuser"))
    held = set(
        Membership.objects.filter(
            user_id__in=admins, project__archived_at__isnull=True
        ).values_list("user_id", "project_id")
    )
    keys = {w: w.session.session_key for w in watchers if w.session is not None}
    alive = set(
        Session.objects.filter(
            session_key__in=filter(None, keys.values()), expire_date__gt=timezone.now()
        ).values_list("session_key", flat=True)
    )
    return [
        SIGNED_OUT
        if watcher.user_id not in admins or (watcher in keys and keys[watcher] not in alive)
        else 0
        if admins[watcher.user_id] or _is_member(watcher, held)
        else NO_ACCESS
        for watcher in watchers
    ]


def _is_member(watcher: Watcher, held: set[tuple[int, int]]) -> bool:
    projects = {project_of(topic) for topic in watcher.topics}
    return all((watcher.user_id, project) in held for project in projects)
