"""The readiness list in a real browser: its links lead to where each point is mended."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Page, expect

from agents.models import Host, Measurement
from agents.services import measuring
from projects import planfile
from projects.models import Project, Role
from projects.services import plans
from projects.services import projects as services
from tests import factories
from tests.browser.test_pages import enter
from tests.projects.pages import PLAN, draft
from tests.wait import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

URL = "/projects/shop/readiness/"


@pytest.fixture
def shop(transactional_db, tutti_home, tmp_path) -> Project:
    User.objects.create_user("alice", password="alice-password")
    made = factories.project("shop", people={"alice": Role.OWNER, "bob": Role.MEMBER}, ceiling=9)
    source = factories.source_repository(tmp_path / "source", {"m1.py": "", "m2.py": ""})
    factories.hub(made, source)
    plans.plan_import(made, planfile.load(PLAN), factories.user("alice"))
    now = timezone.now()
    Host.objects.create(name="one", seen_at=now, memory_available_mb=4000, disk_free_mb=9000,
                        capacity=2, sandbox="unconfined")  # fmt: skip
    return made


@pytest.fixture
def alice(shop) -> User:
    return factories.user("alice")


def test_links_lead_to_where_each_point_is_mended(server, page: Page, shop, alice):
    enter(page, server, alice, URL)
    links = page.locator("#readiness-points tr[id^=point-] a")
    targets = links.evaluate_all("nodes => nodes.map(node => node.getAttribute('href'))")
    assert len(targets) >= 10
    for target in dict.fromkeys(targets):
        anchor = target.partition("#")[2]
        assert anchor, target
        # A new document each time: following a mere fragment would load nothing.
        page.goto("about:blank")
        page.goto(f"{server.url}{target}")
        mended = page.locator(f"[id='{anchor}']")
        expect(mended, target).to_be_visible()
        expect(mended, target).to_be_in_viewport()
        form = "input, select, textarea, button, form, section, table, #plan, #needs"
        assert mended.evaluate(f"node => node.matches('{form}') || !!node.closest('form, section')")


def test_button_sets_the_ceiling_and_the_list_follows(server, page: Page, shop, alice):
    enter(page, server, alice, URL)
    row = page.locator("#point-ceiling-plan")
    expect(row).to_contain_text("a ceiling above 2 gains nothing")
    row.get_by_role("button", name="Set the ceiling to 2").click()
    until(lambda: Project.objects.get().ceiling == 2, what="the ceiling")
    expect(row.locator(".chip")).to_have_text("ready")


def test_list_follows_what_others_mend(server, page: Page, shop, alice):
    enter(page, server, alice, URL)
    expect(page.locator("#point-deciders .chip")).to_have_text("look at it")
    services.member_set(project=shop, user=factories.user("bob"), role=Role.MAINTAINER, by=alice)
    expect(page.locator("#point-deciders .chip")).to_have_text("ready", timeout=4_000)


def test_measured_checks_appear_by_themselves(server, page: Page, shop, alice):
    enter(page, server, alice, URL)
    expect(page.locator("#measure")).to_contain_text("Never measured")
    page.locator("#do-measure").click()
    until(lambda: Measurement.objects.exists(), what="the order")
    expect(page.locator("#measure")).to_contain_text("waits for a worker")
    expect(page.locator("#do-measure")).to_have_count(0)
    # What the worker of short work does with the message.
    measuring.measurement_do(Measurement.objects.get().pk)
    expect(page.locator("#point-checks-prove")).to_contain_text("2 of 2 modules are green before")
    expect(page.locator("#measure table")).to_contain_text("passed")


def test_short_form_on_the_plan_opens_and_stays_live(server, page: Page, shop, alice):
    enter(page, server, alice, "/projects/shop/plan/")
    short = page.locator("#readiness-panel")
    expect(short).to_contain_text("points are ready")
    short.locator("summary").click()
    expect(short.locator("#open-deciders")).to_be_visible()
    services.member_set(project=shop, user=factories.user("bob"), role=Role.MAINTAINER, by=alice)
    expect(short.locator("#open-deciders")).to_have_count(0, timeout=4_000)
    # What a person opened stays open.
    expect(short.get_by_role("link", name="The whole list")).to_be_visible()
    plans.plan_submit(draft(shop), alice)
    expect(page.locator("#decide")).to_be_visible()
    expect(short).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_look_right(server, page: Page, shop, alice, shot, scheme):
    page.emulate_media(color_scheme=scheme)
    measuring.measurement_do(measuring.measurement_ask(shop, alice).pk)
    enter(page, server, alice, URL)
    expect(page.get_by_role("heading", name="Readiness")).to_be_visible()
    shot(f"{scheme}-readiness")
    page.goto(f"{server.url}/projects/shop/board/")
    page.locator("#readiness-panel summary").click()
    shot(f"{scheme}-readiness-board")
    page.goto(f"{server.url}/projects/shop/plan/")
    expect(page.locator("#readiness-panel")).to_be_visible()
    shot(f"{scheme}-readiness-plan")
