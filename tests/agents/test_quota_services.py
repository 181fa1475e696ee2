"""Setting quotas, prices and providers; warnings, questions and what waiting work says."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from agents import pages, scheduler
from agents.models import Profile, Provider, Quota, QuotaEntry, Run
from agents.services import budgets, providers, quotas, quotawatch, runs
from agents.services.quotas import quota_remove, quota_set
from projects import live
from projects.models import Attention, Event, Membership, Module, Plan, Project, SiteEvent
from projects.services.errors import Refused
from projects.services.projects import project_pause
from reviews.audit import verify

D = Decimal


@pytest.fixture
def admin(transactional_db):
    return User.objects.create(username="root", is_superuser=True)


@pytest.fixture
def alice(transactional_db):
    return User.objects.create(username="alice")


@pytest.fixture
def shop(admin, alice):
    made = Project.objects.create(slug="shop", name="Shop", source="/nowhere", ceiling=5)
    Membership.objects.create(project=made, user=alice, role="owner")
    plan = Plan.objects.create(
        project=made, number=1, status="approved", digest="d", approved_digest="d",
        decided_by=alice, prepared_at=timezone.now(),
    )  # fmt: skip
    for number in range(4):
        Module.objects.create(
            project=made, plan=plan, slug=f"m{number}", status=Module.Status.BUILDING
        )
    return made


@pytest.fixture
def acme(admin):
    account = Provider.objects.create(name="acme")
    for role in Profile.Role.values:
        Profile.objects.create(role=role, backend="replay", model="m", provider=account)
    return account


def start(shop):
    return scheduler.start(Project.objects.get(pk=shop.pk))


def spend(run, tokens):
    claimed = runs.run_claim(run.pk, run.fence)
    assert claimed is not None
    with live.change(run.project_id):
        budgets.settle(claimed, tokens, None)
    runs.run_end(claimed, "failed", reason_owner="tutti")


def binding(shop):
    return Project.objects.get(pk=shop.pk).binding


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "field", "word"),
    [
        ({"limit": -1}, "limit", "0 or more"),
        ({"limit": 10**12 + 1}, "limit", "slip"),
        ({"limit": "NaN"}, "limit", "0 or more"),
        ({"limit": "many"}, "limit", "number"),
        ({"limit": "1.5"}, "limit", "whole"),
        ({"measure": "parallel", "period": "now", "limit": 10_001}, "limit", "slip"),
        ({"measure": "money", "limit": "1e300"}, "limit", "slip"),
        ({"time_zone": "Mars/Olympus"}, "time_zone", "Europe/Berlin"),
        ({"time_zone": "../../etc/passwd"}, "time_zone", "Europe/Berlin"),
        ({"period": "window", "window_seconds": 59}, "window_seconds", "60 seconds"),
        ({"period": "window"}, "window_seconds", "60 seconds"),
        ({"period": "window", "window_seconds": 10**9}, "window_seconds", "a year"),
        ({"period": "now"}, "period", "window, day or month"),
        ({"measure": "parallel"}, "period", "now"),
        ({"measure": "lines"}, "measure", "lines"),
        ({"scope": "planet"}, "scope", "planet"),
        ({"scope": "user"}, "user", "Say which user"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_field(admin, values, field, word):
    asked: dict[str, Any] = {
        "scope": "site",
        "measure": "tokens",
        "period": "day",
        "limit": 5,
        **values,
    }
    with pytest.raises(Refused) as refused:
        quota_set(admin, **asked)
    assert field in {problem.field for problem in refused.value.problems}
    assert word in refused.value.message
    assert not Quota.objects.exists()
    assert not SiteEvent.objects.exists()


def test_a_project_stays_below_the_site_and_is_told_by_how_much(admin, alice, shop):
    quota_set(admin, scope="site", measure="tokens", period="day", limit=2_000_000)
    asked: dict[str, Any] = {
        "scope": "project",
        "project": shop,
        "measure": "tokens",
        "period": "day",
    }
    with pytest.raises(Refused, match=r"500,000 tokens above the site's limit of 2\.0 million"):
        quota_set(alice, limit=2_500_000, **asked)
    quota_set(alice, limit=2_000_000, **asked)
    quota_set(alice, limit=9_000_000, **{**asked, "period": "month"})


def test_changes_are_told_in_the_chain_they_belong_to(admin, alice, shop):
    for limit in (10, 20):
        quota_set(alice, scope="project", project=shop, measure="tokens", period="day", limit=limit)
    site = quota_set(admin, scope="site", measure="parallel", period="now", limit=4)
    said = Event.objects.filter(kind="quota.set").order_by("number")
    assert [(e.actor, e.data["before"], e.data["after"]) for e in said] == [
        ("person:alice", None, "10.000000"), ("person:alice", "10.000000", "20.000000")
    ]  # fmt: skip
    quota_remove(site, admin)
    assert list(SiteEvent.objects.values_list("kind", flat=True)) == ["quota.set", "quota.removed"]
    assert verify(shop) == ""
    assert Quota.objects.get().version == 2


def test_a_limit_below_what_is_in_use_is_allowed_and_says_that_work_drains(admin, shop):
    quota_set(admin, scope="site", measure="parallel", period="now", limit=4)
    assert len(start(shop)) == 4
    quota = quota_set(admin, scope="site", measure="parallel", period="now", limit=1)
    assert quotas.note(quota).startswith("4 runs are at work, more than the 1")
    assert start(shop) == []
    assert budgets.violations() == []


def test_prices_and_providers_are_checked(admin):
    with pytest.raises(Refused, match="0 or more"):
        providers.price_set(admin, None, "m", -1, 5)
    with pytest.raises(Refused, match="slip"):
        providers.price_set(admin, None, "m", 1, 10**6)
    with pytest.raises(Refused, match="Name the model"):
        providers.price_set(admin, None, " ", 1, 1)
    with pytest.raises(Refused, match="small letters"):
        providers.provider_set(admin, "Acme Inc.", "")
    account = providers.provider_set(admin, "acme", "Acme")
    price = providers.price_set(admin, account, "m", "3.5", 15)
    assert price.input_per_million == D("3.5")
    Profile.objects.create(role="executor", provider=account)
    with pytest.raises(Refused, match="1 profiles use it"):
        providers.provider_remove(account, admin)
    Profile.objects.all().delete()
    providers.provider_remove(account, admin)
    assert not Provider.objects.exists()


# --- Stopping, saying so, going on ---------------------------------------------------------------


def test_at_100_percent_nothing_starts_people_are_asked_and_a_raise_starts_it(admin, alice, shop):
    other = User.objects.create(username="ops", is_superuser=True)
    site: dict[str, Any] = {
        "scope": "site",
        "measure": "tokens",
        "period": "day",
        "time_zone": "Europe/Berlin",
    }
    quota_set(admin, limit=100_000, **site)
    (first,) = start(shop)
    assert "leave room for 1 more run (0 of 100,000" in binding(shop)["sentence"]
    spend(first, 90_000)
    assert start(shop) == []
    found = binding(shop)
    assert found["limit"] == "site"
    assert "used up (90,000 of 100,000)" in found["sentence"]
    assert "00:00 Europe/Berlin" in found["sentence"]
    assert found["until"]
    asked = Attention.objects.filter(kind="quota", closed_at__isnull=True)
    assert {row.user for row in asked} == {admin, other}, (
        "a site's quota is for its admins to raise"
    )
    assert all(row.deadline and "used up" in row.title for row in asked)
    start(shop)
    assert asked.all().count() == 2, "asked once"
    plan = Plan.objects.get()
    rows = list(Module.objects.filter(slug="m3"))
    assert "used up" in pages.why_waiting(shop, plan, rows, [])[rows[0].pk]

    quota_set(admin, limit=1_000_000, **site)
    assert scheduler.tick() == 4
    quotawatch.mind()
    assert not asked.all().exists(), "closed by itself"
    assert Quota.objects.get().stopped_at is None
    assert budgets.violations() == []


def test_a_projects_quota_asks_its_owners(alice, shop):
    quota_set(alice, scope="project", project=shop, measure="tokens", period="day", limit=10)
    assert start(shop) == []
    asked = Attention.objects.get(kind="quota")
    assert (asked.role, asked.user, asked.deadline) == ("owner", None, None)
    assert "raise the limit" in asked.title
    assert asked.url == "/projects/shop/quotas/"


@pytest.mark.parametrize("stop", ["paused", "blocked"])
def test_what_waits_for_people_anyway_asks_nobody_about_a_quota(admin, shop, stop):
    quota = quota_set(admin, scope="site", measure="tokens", period="day", limit=10)
    assert start(shop) == []
    asked = Attention.objects.filter(kind="quota", closed_at__isnull=True)
    assert asked.all().exists()
    if stop == "paused":
        project_pause(project=shop, by=live.SYSTEM)
    else:
        Plan.objects.update(blocked_reason="Red.")
    quota_remove(quota, admin)
    scheduler.tick()
    assert not asked.all().exists()
    assert verify(shop) == ""


def test_what_runs_at_work_have_reserved_asks_nobody(admin, shop):
    quota_set(admin, scope="site", measure="tokens", period="day", limit=100_000)
    assert len(start(shop)) == 1
    assert start(shop) == []
    assert "reserved by runs at work" in binding(shop)["sentence"]
    assert not Attention.objects.exists()


def test_80_percent_warns_once_a_window(admin, shop):
    quota_set(admin, scope="site", measure="tokens", period="window", window_seconds=3600,
              limit=1_000_000)  # fmt: skip
    first = start(shop)[0]
    spend(first, 850_000)
    quotawatch.mind()
    quotawatch.mind()
    assert SiteEvent.objects.filter(kind="quota.warned").count() == 1
    warned = Attention.objects.get(kind="quota-warning")
    assert (warned.user, warned.closed_at) == (admin, None)
    assert "85 % used" in warned.title
    # The window lets go: the warning closes, and the next window may warn again.
    past = timezone.now() - timedelta(hours=2)
    QuotaEntry.objects.update(spent_at=past)
    Quota.objects.update(warned_at=past)
    quotawatch.mind()
    warned.refresh_from_db()
    assert warned.closed_at is not None
    assert Quota.objects.get().spent == 0


def test_the_others_go_on_when_one_roles_provider_is_walled(admin, shop):
    dead = Provider.objects.create(name="dead")
    Profile.objects.create(role="orchestrator", backend="replay", model="m", provider=dead)
    Module.objects.filter(slug__in=["m0", "m1"]).update(status=Module.Status.REVIEWING)
    providers.provider_exhausted(dead, timezone.now() + timedelta(hours=1), "used up")
    assert {run.kind for run in start(shop)} == {"build"}
    rows = list(Module.objects.filter(slug="m0"))
    sentence = pages.why_waiting(shop, Plan.objects.get(), rows, [])[rows[0].pk]
    assert "The provider dead is used up; its runs start again at" in sentence


# --- The breaker ---------------------------------------------------------------------------------


def test_429_halves_once_a_storm_and_climbs_after_each_calm(admin, shop, acme, settings):
    Project.objects.filter(pk=shop.pk).update(ceiling=4)
    assert len(start(shop)) == 4
    for _ in range(5):
        providers.provider_limited(acme, 30)
    acme.refresh_from_db()
    assert (acme.breaker, acme.slots) == ("throttled", 2)
    assert SiteEvent.objects.filter(kind="provider.throttled").count() == 1
    assert start(shop) == []
    past = timezone.now() - timedelta(seconds=settings.TUTTI_PROVIDER_CALM_SECONDS + 1)
    for slots in (3, 4):
        Provider.objects.update(wake_at=past, changed_at=past)
        quotawatch.mind()
        quotawatch.mind()
        acme.refresh_from_db()
        assert acme.slots == slots, "one more after each calm"
    providers.provider_limited(acme, None)
    acme.refresh_from_db()
    assert acme.slots == 2
    settings.TUTTI_SITE_CEILING = 3
    Provider.objects.update(wake_at=past, changed_at=past)
    quotawatch.mind()
    acme.refresh_from_db()
    assert (acme.breaker, acme.slots, acme.reason) == ("closed", None, "")


def test_an_account_that_names_no_time_is_tried_again_later_each_time(shop, acme):
    waits = []
    for _ in range(9):
        before = timezone.now()
        providers.provider_limited(acme)
        providers.provider_limited(acme)
        acme.refresh_from_db()
        waits.append((acme.wake_at - before).total_seconds())
        # Its wall is over, but no calm followed.
        length = acme.wake_at - acme.changed_at
        Provider.objects.update(wake_at=before, changed_at=before - length)
    assert waits == pytest.approx([2, 4, 8, 16, 32, 64, 128, 256, 300], rel=0.1)


def test_one_slot_is_the_least(admin, shop, acme):
    providers.provider_limited(acme, 0)
    acme.refresh_from_db()
    assert acme.slots == 1
    assert len(start(shop)) == 1
    assert start(shop) == []


def test_an_exhausted_account_pauses_what_runs_and_wakes_by_itself(admin, shop, acme):
    started = start(shop)
    running = runs.run_claim(started[0].pk, started[0].fence)
    assert running is not None
    providers.provider_exhausted(acme, timezone.now() + timedelta(hours=5), "Come back later.")
    quotawatch.mind()
    assert scheduler.tick() == 0
    assert Run.objects.filter(status="interrupted", reason_kind="provider").count() == 3
    running.refresh_from_db()
    assert (running.status, running.reason_kind) == ("stopping", "provider")
    assert "another run goes on at" in running.reason
    assert "used up; its runs start again at" in binding(shop)["sentence"]
    runs.run_end(running, "interrupted", reason_kind="provider", reason_owner="provider")
    assert scheduler.tick() == 0
    Provider.objects.update(wake_at=timezone.now() - timedelta(seconds=1))
    assert scheduler.tick() == 4
    acme.refresh_from_db()
    assert (acme.breaker, acme.active_runs) == ("closed", 4)
    assert Module.objects.filter(failures__gt=0).count() == 0
    kinds = list(SiteEvent.objects.order_by("number").values_list("kind", flat=True))
    assert kinds == ["provider.exhausted", "provider.woken"]
    assert budgets.violations() == []


@pytest.mark.parametrize("wake_at", [None, timedelta(days=-1), timedelta(days=400)])
def test_a_reset_time_that_cannot_be_true_is_tried_again_soon(acme, wake_at):
    providers.provider_exhausted(acme, timezone.now() + wake_at if wake_at else None)
    acme.refresh_from_db()
    assert timedelta(0) < acme.wake_at - timezone.now() < timedelta(minutes=16)


def test_a_person_closes_the_breaker(admin, shop, acme):
    providers.provider_exhausted(acme, timezone.now() + timedelta(hours=5))
    assert start(shop) == []
    providers.provider_reset(acme, admin)
    assert scheduler.tick() == 4
