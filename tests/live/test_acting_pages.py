"""Board, module, run, review and queue: page as loaded + events = page as reloaded."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User

from agents.services import runs
from projects import live
from projects.lifecycle import transition
from projects.models import Module, Project
from projects.services.modules import module_pause, module_priority_set
from projects.services.projects import project_pause
from reviews.services import Remark, findings_record, review_record
from tests import factories as make
from tests.live.test_pages import Browser

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cart(transactional_db, tutti_home) -> Module:
    plan = make.plan(make.project())
    cart = make.module(plan, "cart", "building", lane="money")
    make.need(make.module(plan, "shop", lane="money"), cart)
    make.run(cart)
    make.review(cart, "rebuild")
    return cart


def begin_another(cart: Module, by: User) -> None:
    desk = make.module(cart.plan, "desk")
    transition(desk, "planning", by=live.SYSTEM)
    make.run(desk, "tests")
    with live.change(cart.project_id) as change:
        change.event("run.queued", desk.topic, live.SYSTEM)


def pause_and_hurry(cart: Module, by: User) -> None:
    module_pause(cart, live.Actor.person(by))
    module_priority_set(cart, 5, live.Actor.person(by))


def end_the_run(cart: Module, by: User) -> None:
    run = cart.runs.get(kind="build")

    def then(change: live.Change) -> None:
        transition(cart, "reviewing", by=live.SYSTEM)
        remarks = [Remark("review", "<i>Odd.</i>", "cart/a.py", 3)]
        review_record(
            cart, verdict="rebuild", summary="No.", base_commit="", head_commit="", run_topic="",
            model="strong", prompt_version="1", person=None, remarks=remarks,
        )  # fmt: skip
        batch = findings_record(cart, remarks, run_topic=run.topic)
        Module.objects.filter(pk=cart.pk).update(open_findings=batch)

    runs.run_end(run, "succeeded", reason="Built.", then=then)


def merge(cart: Module, by: User) -> None:
    transition(cart, "merging", by=live.SYSTEM)
    make.merge(cart, "testing")
    transition(cart, "merged", by=live.SYSTEM, merged_commit=make.SHA(7))


def pause_the_project(cart: Module, by: User) -> None:
    project_pause(project=cart.project, by=live.Actor.person(by))


CHANGES = [begin_another, pause_and_hurry, end_the_run, merge, pause_the_project]
PAGES = ["board/", "modules/cart/", "modules/shop/", "runs/{run}/", "reviews/{review}/", "queue/"]


def address(page: str, cart: Module) -> str:
    ids = {"run": cart.runs.get().pk, "review": cart.reviews.get().pk}
    return "/projects/shop/" + page.format(**ids)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", ["alice", "bob"])
async def test_page_as_loaded_plus_events_is_page_as_reloaded(cart, page, name):
    user = await sync_to_async(make.user)(name)
    project = await Project.objects.aget()
    async with Browser(user, await sync_to_async(address)(page, cart)) as browser:
        for change in CHANGES:
            await cart.arefresh_from_db()
            await sync_to_async(change)(cart, user)
            await project.arefresh_from_db()
            await browser.ask()
            await browser.catch_up(project.event_count)
            assert browser.shown() == await browser.reloaded(), change.__name__
