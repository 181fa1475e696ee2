"""One sentence: page as loaded + events = page as reloaded."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import Client

from projects import live, planfile
from projects.consumers import LiveConsumer
from projects.models import Membership, Project, Role
from projects.services import plans
from projects.services import projects as services
from projects.services.attention import attention_close, attention_open
from tests import factories
from tests.projects.pages import LIVE, PLAN, draft

pytestmark = pytest.mark.django_db(transaction=True)

REGION = re.compile(
    r'<(?P<tag>\w+) id="(?P<id>[\w-]+)"[^>]*? data-topic="(?P<topic>[^"]+)" data-v="(?P<v>\d+)"'
    r' data-src="(?P<src>[^"]+)"[^>]*>'
)


@dataclass
class Region:
    topic: str
    version: int
    source: str
    html: str


def regions(html: str) -> dict[str, Region]:
    """The live regions of a page, by id."""
    found = {}
    for start in REGION.finditer(html):
        depth, place = 1, start.end()
        for tag in re.finditer(rf"<(/?){start['tag']}\b[^>]*>", html[start.end() :]):
            depth += -1 if tag.group(1) else 1
            place = start.end() + tag.start()
            if depth == 0:
                break
        inner = html[start.end() : place]
        source = start["src"].replace("&amp;", "&")
        found[start["id"]] = Region(start["topic"], int(start["v"]), source, plain(inner))
    return found


def plain(html: str) -> str:
    # The number of the newest event that a form saw is a fact of the render, not of the state.
    html = re.sub(r'name="seen" value="\d+"', "", html)
    return re.sub(r"\s+", " ", html).strip()


class Browser:
    """What live.js does, without a browser: hints in, fragments fetched, regions replaced."""

    def __init__(self, user: User, url: str) -> None:
        self.user, self.url = user, url
        self.client = Client()
        self.fetched = 0

    async def __aenter__(self):
        await self.sign_in()
        self.regions = regions(await self.get(self.url))
        assert self.regions, f"{self.url} has no live region."
        self.wire = WebsocketCommunicator(LiveConsumer.as_asgi(), "/ws/live/")
        self.wire.scope["user"] = self.user
        assert (await self.wire.connect())[0]
        await self.ask()
        return self

    async def ask(self) -> None:
        sub = {region.topic: region.version for region in self.regions.values()}
        await self.wire.send_to(text_data=json.dumps({"sub": sub}))

    async def __aexit__(self, *_):
        await self.wire.disconnect()

    async def sign_in(self):
        await sync_to_async(self.client.force_login)(self.user)
        return self

    async def get(self, url: str, **headers) -> str:
        answer = await sync_to_async(self.client.get)(url, **headers)
        assert answer.status_code == 200, (url, answer.status_code)
        self.version = answer.headers.get("X-Version")
        return answer.content.decode()

    async def catch_up(self, version: int) -> None:
        """Follow hints until every topic that changed is shown as of `version`."""
        async with asyncio.timeout(5):
            while min(region.version for region in self.regions.values()) < version:
                frame = json.loads(await self.wire.receive_from(5))
                for region in self.regions.values():
                    if frame["v"].get(region.topic, 0) > region.version:
                        region.html = plain(await self.get(region.source, **LIVE))
                        region.version = int(self.version or 0)
                        self.fetched += 1

    async def reloaded(self) -> dict[str, str]:
        return {name: r.html for name, r in regions(await self.get(self.url)).items()}

    def shown(self) -> dict[str, str]:
        return {name: region.html for name, region in self.regions.items()}


@pytest.fixture
def shop(transactional_db, tutti_home, tmp_path) -> Project:
    alice, bob = (User.objects.create(username=name) for name in ("alice", "bob"))
    made = Project.objects.create(
        slug="shop", name="Shop", source="/nowhere", policies=services.DEFAULT_POLICIES
    )
    Membership.objects.create(project=made, user=alice, role=Role.OWNER)
    Membership.objects.create(project=made, user=bob, role=Role.MEMBER)
    source = factories.source_repository(tmp_path / "source", {"m1.py": "", "m2.py": ""})
    factories.hub(made, source)
    plans.plan_import(made, planfile.load(PLAN), alice)
    return made


def edit_a_module(project: Project, by: User) -> None:
    plan = draft(project)
    plans.contract_save(plan, "m1", by, {"title": "Renamed", "owns": ["m1.py"], "checks": ["x"]})


def remove_a_module(project: Project, by: User) -> None:
    plans.contract_remove(draft(project), "m2", by)


def import_nonsense(project: Project, by: User) -> None:
    file = planfile.load("modules: [{slug: a, owns: [nothing/*], checks: [x]}]")
    plans.plan_import(project, file, by)


def ask_and_answer(project: Project, by: User) -> None:
    topic = f"{project.topic}/module/1"
    attention_open(project, topic=topic, kind="question", title="<b>May I?</b>", url="/x/")
    attention_open(project, topic=topic, kind="other", title="Gone", url="/x/")
    attention_close(project, topic=topic, by=live.SYSTEM, kind="other")


def submit_and_approve(project: Project, by: User) -> None:
    plan = draft(project)
    plans.plan_submit(plan, by)
    plans.plan_approve(plan, by, plan.digest)


def import_again(project: Project, by: User) -> None:
    plans.plan_import(project, planfile.load(PLAN), by)


CHANGES = [
    edit_a_module,
    remove_a_module,
    import_nonsense,
    ask_and_answer,
    import_again,
    submit_and_approve,
]
PAGES = ["/", "/projects/shop/plan/", "/projects/shop/inbox/", "/projects/shop/log/"]
#: Topics of these pages are told of any change in the project; others only of their own.
EVERYTHING = ["/projects/shop/log/"]


@pytest.mark.parametrize("url", PAGES)
@pytest.mark.parametrize("name", ["alice", "bob"])
async def test_page_as_loaded_plus_events_is_page_as_reloaded(shop, url, name):
    alice = await sync_to_async(User.objects.get)(username="alice")
    user = await sync_to_async(User.objects.get)(username=name)
    async with Browser(user, url) as page:
        for change in CHANGES:
            before = page.shown()
            await sync_to_async(change)(shop, alice)
            await sync_to_async(shop.refresh_from_db)()
            # What the change does not touch is brought up by the heartbeat alone: ask at once.
            await page.ask()
            await page.catch_up(shop.event_count)
            assert page.shown() == await page.reloaded(), change.__name__
            assert url not in EVERYTHING or page.shown() != before, change.__name__
