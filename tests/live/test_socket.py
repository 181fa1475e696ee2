"""The socket of a page: hints, heartbeats, and who may listen. Real Valkey, real rows."""

from __future__ import annotations

import asyncio
import json

import pytest
import redis.asyncio
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.test import Client

from config.asgi import application
from projects import feed as feeds
from projects import live
from projects.consumers import LARGEST_FRAME, TOO_MUCH, LiveConsumer
from projects.models import Membership, Project, Role

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shop(transactional_db) -> Project:
    alice, bob = (User.objects.create(username=name) for name in ("alice", "bob"))
    made = Project.objects.create(slug="shop", name="Shop", source="/nowhere")
    Membership.objects.create(project=made, user=alice, role=Role.OWNER)
    Membership.objects.create(project=made, user=bob, role=Role.MEMBER)
    return made


class Socket:
    """A page's socket as a browser has it."""

    def __init__(self, user) -> None:
        self.wire = WebsocketCommunicator(LiveConsumer.as_asgi(), "/ws/live/")
        self.wire.scope["user"] = user

    async def __aenter__(self):
        connected, _ = await self.wire.connect()
        assert connected
        return self

    async def __aexit__(self, *_):
        await self.wire.disconnect()

    async def say(self, frame) -> None:
        await self.wire.send_to(text_data=frame if isinstance(frame, str) else json.dumps(frame))

    async def subscribe(self, *topics: str) -> dict[str, int]:
        """Ask for topics and return the versions that the answer names."""
        await self.say({"sub": dict.fromkeys(topics, 0)})
        async with asyncio.timeout(5):
            while not (frame := await self.heard()).get("beat"):
                pass
        return dict(frame["v"])

    async def heard(self, seconds: float = 5):
        return json.loads(await self.wire.receive_from(seconds))

    async def until(self, topic: str, version: int, seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            while (await self.heard(seconds))["v"].get(topic) != version:
                pass

    async def close_code(self, seconds: float) -> int:
        async with asyncio.timeout(seconds):
            while (message := await self.wire.receive_output(seconds))["type"] != "websocket.close":
                pass
        return int(message["code"])


@sync_to_async
def person(name: str) -> User:
    return User.objects.get(username=name)


@sync_to_async
def change(project: Project, *topics: str) -> int:
    """One event in the project, as a service writes it."""
    with live.change(project) as opened:
        event = opened.event("test.happened", topics[0], live.SYSTEM)
        opened.topics.update(topics)
    return event.number


async def test_subscription_answers_current_versions(shop):
    number = await change(shop, f"{shop.topic}/board")
    async with Socket(await person("alice")) as page:
        assert await page.subscribe(f"{shop.topic}/board") == {f"{shop.topic}/board": number}


async def test_change_is_heard(shop):
    topic = f"{shop.topic}/module/5"
    async with Socket(await person("bob")) as page:
        await page.subscribe(topic)
        await page.until(topic, await change(shop, topic))


async def test_only_wanted_topics_are_heard(shop):
    async with Socket(await person("bob")) as page:
        await page.subscribe(f"{shop.topic}/run/1")
        await change(shop, f"{shop.topic}/run/2")
        number = await change(shop, f"{shop.topic}/run/1")
        assert (await page.heard())["v"] == {f"{shop.topic}/run/1": number}


async def test_topic_of_all_plans_hears_of_each_plan(shop):
    async with Socket(await person("bob")) as page:
        await page.subscribe(f"{shop.topic}/plan")
        await page.until(f"{shop.topic}/plan", await change(shop, f"{shop.topic}/plan/3"))


@sync_to_async
def site_change() -> int:
    with transaction.atomic():
        return live.site_event("test.happened", "site/host/1", live.SYSTEM).number


@sync_to_async
def make_admin(name: str, is_admin: bool = True) -> None:
    User.objects.filter(username=name).update(is_superuser=is_admin)


async def test_admins_hear_of_the_site(shop):
    await make_admin("alice")
    number = await site_change()
    async with Socket(await person("alice")) as page:
        assert await page.subscribe("site") == {"site": number}
        await page.until("site", await site_change())


async def test_site_is_not_for_others(shop):
    async with Socket(await person("bob")) as page:
        await page.say({"sub": {"site": 0}})
        assert await page.close_code(5) == feeds.NO_ACCESS


async def test_who_is_no_longer_admin_hears_no_more_of_the_site(shop, monkeypatch):
    monkeypatch.setattr(feeds, "ACCESS_SECONDS", 0.2)
    await make_admin("alice")
    async with Socket(await person("alice")) as page:
        await page.subscribe("site")
        await make_admin("alice", False)
        assert await page.close_code(5) == feeds.NO_ACCESS


async def test_two_pages_hear_the_same(shop):
    topic = f"{shop.topic}/board"
    async with Socket(await person("alice")) as one, Socket(await person("bob")) as two:
        for page in (one, two):
            await page.subscribe(topic)
        number = await change(shop, topic)
        await one.until(topic, number)
        await two.until(topic, number)


async def feed_hears() -> None:
    """Wait until Valkey counts this loop's subscription: a hint before that is lost."""
    async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as client:
        async with asyncio.timeout(30):
            while (await client.pubsub_numsub(live.HINTS))[0][1] < 1:
                await asyncio.sleep(0.01)


async def test_many_hints_become_few_frames(shop):
    topic = f"{shop.topic}/board"
    async with Socket(await person("alice")) as page:
        await page.subscribe(topic)
        await feed_hears()
        for _ in range(200):
            live.hint({topic: 1})
        live.hint({topic: 777})
        frames = 0
        async with asyncio.timeout(5):
            while (await page.heard())["v"][topic] != 777:
                frames += 1
        assert frames <= 5


async def test_lost_hint_is_healed_by_the_heartbeat(shop, monkeypatch):
    monkeypatch.setattr(feeds, "HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr(live, "hint", lambda versions: None)
    topic = f"{shop.topic}/board"
    async with Socket(await person("alice")) as page:
        await page.subscribe(topic)
        await page.until(topic, await change(shop, topic))


async def test_log_hint_carries_its_own_numbers(shop):
    topic = f"{shop.topic}/run/9/log"
    async with Socket(await person("alice")) as page:
        assert await page.subscribe(topic) == {}
        await feed_hears()
        live.hint({topic: 41})
        assert (await page.heard())["v"] == {topic: 41}


async def test_anonymous_is_told_to_sign_in(shop):
    async with Socket(AnonymousUser()) as page:
        assert await page.close_code(2) == 4401


async def test_stranger_is_refused(shop):
    charlie = await sync_to_async(User.objects.create)(username="charlie")
    async with Socket(charlie) as page:
        await page.say({"sub": {f"{shop.topic}/board": 0}})
        assert await page.close_code(2) == 4403


async def test_stranger_cannot_tell_a_project_from_none(shop):
    charlie = await sync_to_async(User.objects.create)(username="charlie")
    async with Socket(charlie) as page:
        await page.say({"sub": {"p/999999/board": 0}})
        assert await page.close_code(2) == 4403


async def test_removed_member_is_closed_out_within_five_seconds(shop):
    bob = await person("bob")
    async with Socket(bob) as page:
        await page.subscribe(f"{shop.topic}/board")
        await sync_to_async(Membership.objects.filter(user=bob).delete)()
        assert await page.close_code(5) == 4403


async def test_deactivated_person_is_signed_out(shop):
    bob = await person("bob")
    async with Socket(bob) as page:
        await page.subscribe(f"{shop.topic}/board")
        await sync_to_async(User.objects.filter(pk=bob.pk).update)(is_active=False)
        assert await page.close_code(5) == 4401


async def test_sign_out_closes_the_socket(shop):
    client = Client()
    await sync_to_async(client.force_login)(await person("bob"))
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    wire = WebsocketCommunicator(
        application,
        "/ws/live/",
        headers=[
            (b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie}".encode()),
            (b"origin", b"http://localhost"),
            (b"host", b"localhost"),
        ],
    )
    page = Socket(None)
    page.wire = wire
    async with page:
        await page.subscribe(f"{shop.topic}/board")
        await sync_to_async(client.logout)()
        assert await page.close_code(5) == 4401


async def test_another_sites_page_is_not_let_in(shop):
    headers = [(b"origin", b"https://evil.example"), (b"host", b"localhost")]
    wire = WebsocketCommunicator(application, "/ws/live/", headers=headers)
    assert (await wire.connect())[0] is False


@pytest.mark.parametrize(
    "frame",
    [
        "no json",
        "[]",
        "null",
        '{"sub": ["p/1/board"]}',
        '{"sub": {"q/1/board": 0}}',
        '{"sub": {"p/x/board": 0}}',
        '{"sub": {"p/²/board": 0}}',
        '{"sub": {"p/1' + "0" * 40 + '/board": 0}}',
        "[" * 10_000,
    ],
)
async def test_malformed_frame_changes_nothing(shop, frame):
    topic = f"{shop.topic}/board"
    async with Socket(await person("alice")) as page:
        await page.subscribe(topic)
        await page.say(frame)
        await page.until(topic, await change(shop, topic))


async def test_page_of_a_thousand_projects_is_live(shop):
    await make_admin("alice")
    topic = f"{shop.topic}/board"
    async with Socket(await person("alice")) as page:
        await page.subscribe(topic, *(f"p/{n}/board" for n in range(100_000, 101_000)))
        await page.until(topic, await change(shop, topic))


async def test_page_that_shows_too_much_is_told_so(shop):
    async with Socket(await person("alice")) as page:
        await page.say('{"sub": {"' + "x" * LARGEST_FRAME + '": 0}}')
        assert await page.close_code(5) == TOO_MUCH


async def test_feed_ends_with_its_last_page(shop):
    async with Socket(await person("alice")) as page:
        await page.subscribe(f"{shop.topic}/board")
        tasks = list(feeds.feed().tasks)
        assert len(tasks) == 3
    done, _ = await asyncio.wait(tasks, timeout=5)
    assert len(done) == 3


async def test_cut_subscription_is_taken_up_again(shop):
    topic = f"{shop.topic}/board"
    async with Socket(await person("alice")) as page:
        await page.subscribe(topic)
        await sync_to_async(live._redis().execute_command)("CLIENT", "KILL", "TYPE", "pubsub")
        await page.until(topic, await change(shop, topic))
