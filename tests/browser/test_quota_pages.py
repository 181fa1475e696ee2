"""Quotas, the site's page and what binds on the board, in a real browser."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import expect

from agents import scheduler
from agents.models import Host, HostReading, Price, Provider, Quota, QuotaEntry
from agents.services import providers
from agents.services.quotas import quota_set
from projects.models import Project
from tests import factories as make
from tests.browser.test_pages import enter

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def shop(transactional_db, tutti_home) -> Project:
    return make.project(people={"alice": "owner", "vera": "viewer"})


@pytest.fixture
def root(transactional_db) -> User:
    return make.user("root", is_superuser=True, is_staff=True)


@pytest.fixture
def alice(shop) -> User:
    return make.user("alice")


@pytest.fixture
def busy(shop: Project) -> Project:
    """Three modules at work, two that wait."""
    plan = make.plan(shop)
    for name in ("cart", "desk", "till"):
        make.run(make.module(plan, name, "building"), input_tokens=900, output_tokens=100)
    for name in ("bank", "door"):
        make.module(plan, name)
    return shop


def parallel(root: User, limit: int, project: Project | None = None) -> Quota:
    scope = "project" if project else "site"
    return quota_set(
        root, scope=scope, measure="parallel", period="now", limit=limit, project=project
    )


def test_admin_lowers_a_ceiling_while_it_runs_and_the_board_says_what_binds(
    server, page, busy, root, alice, browser, shot
):
    enter(page, server, root, "/projects/shop/board/")
    page.evaluate("() => { window.sameDocument = true; }")
    other = browser.new_context()
    admin = other.new_page()
    enter(admin, server, root, "/projects/shop/settings/")
    admin.get_by_label("Ceiling").fill("2")
    admin.get_by_role("button", name="Set the ceiling").click()
    expect(admin.get_by_text("Saved.")).to_be_visible()
    other.close()
    scheduler.start(Project.objects.get(pk=busy.pk))  # The clock's part.
    expect(page.locator("#working")).to_contain_text("3 of 2 runs work.")
    expect(page.locator("#working")).to_contain_text("ceiling")
    expect(page.locator("#working")).to_contain_text("Since")
    assert page.evaluate("() => window.sameDocument")
    shot("board-binding")
    page.get_by_role("link", name="Change the ceiling").click()
    expect(page.get_by_label("Ceiling")).to_have_value("2")
    page.get_by_role("link", name="quotas").first.click()
    expect(page.locator("#binding")).to_contain_text("the project's ceiling")
    page.get_by_role("link", name="History").click()
    expect(page.locator("#history")).to_contain_text("project.ceiling")
    shot("history-project")


def test_owner_cannot_go_above_the_site_and_is_told_by_how_much(
    server, page, busy, root, alice, shot, complaints
):
    parallel(root, 4)
    quota = parallel(root, 3, busy)
    enter(page, server, alice, "/projects/shop/quotas/")
    page.locator(f"#change-{quota.pk} summary").click()
    limit = page.get_by_label("New limit of project Shop")
    limit.fill("9")
    expect(page.locator(f"#effect-{quota.pk}")).to_contain_text("5 runs too many")
    page.get_by_role("button", name="Save").click()
    alert = page.locator(f"#wrong-{quota.pk}")
    expect(alert).to_contain_text("5 above the site's limit of 4")
    expect(limit).to_have_value("9")
    shot("quota-refused")
    assert complaints and "422" in complaints.pop()  # The browser notes every such answer.
    limit.fill("2")
    expect(page.locator(f"#effect-{quota.pk}")).to_contain_text("would wait: Shop")
    shot("quota-preview")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved: 2 runs")).to_be_visible()
    assert Quota.objects.get(pk=quota.pk).limit == 2


def test_what_somebody_saved_meanwhile_is_not_lost(server, page, shop, root, shot, complaints):
    quota = parallel(root, 3)
    enter(page, server, root, "/site/quotas/")
    page.locator(f"#change-{quota.pk} summary").click()
    parallel(root, 6)
    expect(page.locator(f"#quota-{quota.pk}")).to_contain_text("6 runs")  # Followed the hint.
    page.get_by_label("New limit of the whole site").fill("1")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(f"#wrong-{quota.pk}")).to_contain_text("it is 6 runs now")
    assert complaints and "409" in complaints.pop()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved: 1 run")).to_be_visible()


def test_viewer_sees_limits_but_changes_none(server, page, busy, root, shot):
    parallel(root, 4)
    parallel(root, 3, busy)
    enter(page, server, make.user("vera"), "/projects/shop/quotas/")
    expect(page.locator("#quotas")).to_contain_text("3 runs")
    expect(page.locator("#quotas summary")).to_be_hidden()
    expect(page.locator("#add-quota")).to_be_hidden()
    expect(page.get_by_role("link", name="Site", exact=True)).to_have_count(0)


@pytest.fixture
def site(busy, root) -> Host:
    """Quotas, a provider with an open breaker, prices and a host with an hour of readings."""
    now = timezone.now()
    acme = Provider.objects.create(name="acme", title="Acme AI", active_runs=3)
    Provider.objects.create(name="calm", title="Calm AI")
    providers.provider_limited(acme, retry_after=1800)
    Price.objects.create(model="strong-1", input_per_million=3, output_per_million="15.25")
    parallel(root, 5)
    parallel(root, 3, busy)
    day = quota_set(root, scope="site", measure="tokens", period="day", limit=2_000_000)
    quota_set(root, scope="provider", provider=acme, measure="money", period="month", limit=50)
    run = busy.runs.order_by("pk")[0]
    for hour, spent in enumerate((120_000, 300_000, 80_000, 0, 900_000, 350_000)):
        module = make.module(run.plan, f"done{hour}", "merged")
        done = make.run(module, status="succeeded", ended_at=now)
        at = now - timedelta(hours=6 - hour)
        QuotaEntry.objects.create(quota=day, run=done, spent=spent, spent_at=at)
    Quota.objects.filter(pk=day.pk).update(spent=1_750_000, reserved=60_000)
    host = Host.objects.create(
        name="box-1", cores=8, memory_mb=15_800, memory_available_mb=5_200, disk_free_mb=70_000,
        cpu_percent=62, pressure_some=1.5, pressure_full=0, alive=3, capacity=4, seen_at=now,
        capacity_reason="5,200 MB are free and each agent needs 900 MB.", capacity_at=now,
    )  # fmt: skip
    reasons = {40: "Memory pressure 12 %: fewer agents at once.", 70: "Calm for a minute."}
    for minute in range(120):
        low = 40 <= minute < 70
        HostReading.objects.create(
            host=host, at=now - timedelta(minutes=120 - minute), memory_mb=15_800,
            memory_available_mb=1_500 + minute * 9 if low else 6_000 - minute * 7, alive=3,
            capacity=2 if low else 4, cpu_percent=50, pressure_some=12 if low else 0,
            reason=reasons.get(minute, ""),
        )  # fmt: skip
    scheduler.start(Project.objects.get(pk=busy.pk))
    return host


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_of_the_site_shows_pictures_with_their_tables(
    server, page, site, root, shot, scheme
):
    page.emulate_media(color_scheme=scheme)
    enter(page, server, root, "/site/")
    expect(page.locator(f"#host-{site.pk}")).to_contain_text("may be alive")
    expect(page.locator("#standings")).to_contain_text("Shop")
    shot(f"site-{scheme}")
    for figure in page.locator("figure.chart-figure").all():
        expect(figure.locator("svg[role=img]")).to_be_visible()
        figure.locator("summary").click()
        assert figure.locator("tbody tr").count() > 100
    quota = Quota.objects.get(measure="tokens")
    at_once = Quota.objects.get(scope="site", measure="parallel")
    for name, url in {
        "quotas": "/site/quotas/",
        "quota": f"/site/quotas/{quota.pk}/",
        "quota-parallel": f"/site/quotas/{at_once.pk}/",
        "history": "/site/quotas/history/",
        "providers": "/site/providers/",
        "site-profiles": "/site/profiles/",
        "site-log": "/site/log/",
        "project-quotas": "/projects/shop/quotas/",
        "board": "/projects/shop/board/",
    }.items():
        page.goto(server.url + url)
        expect(page.locator("h1")).to_be_visible()
        shot(f"{name}-{scheme}")


def test_host_drains_and_the_open_page_follows(server, page, site, root):
    enter(page, server, root, "/site/")
    page.evaluate("() => { window.sameDocument = true; }")
    Host.objects.update(memory_available_mb=1_234)  # No event tells of a reading.
    expect(page.locator(f"#host-{site.pk}")).to_contain_text("14566 of 15800 MB")
    providers.provider_reset(Provider.objects.get(name="acme"), root)
    expect(page.get_by_role("button", name="Reset the breaker")).to_have_count(0)
    assert page.evaluate("() => window.sameDocument")
    page.get_by_role("button", name="Drain it").click()
    expect(page.get_by_role("button", name="Let it take work again")).to_be_visible()
    assert Host.objects.get().draining


def test_new_limit_is_previewed_and_added(server, page, busy, root, shot):
    enter(page, server, root, "/site/quotas/")
    form = page.locator("#add-quota")
    form.get_by_label("Limit").fill("1")
    form.get_by_role("button", name="Preview its effect").click()
    expect(page.locator("#effect-new")).to_contain_text("this project would wait: Shop")
    shot("quota-add")
    form.get_by_role("button", name="Add").click()
    expect(page.get_by_text("Added for the whole site: 1 run")).to_be_visible()
    page.locator("#quotas a", has_text="runs at once").click()
    page.get_by_text("Remove this limit").click()
    page.get_by_role("button", name="Yes, remove it").click()
    expect(page.get_by_text("Nothing is limited yet.")).to_be_visible()
    shot("quotas-empty")
