"""Pages of quotas: limit beside use, edit, add, remove, preview, history, and who sees what."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from agents.models import Provider, Quota, QuotaEntry
from agents.services.quotas import quota_set
from projects.models import Event, Project, SiteEvent
from tests import factories as make

pytestmark = pytest.mark.django_db

SITE, MINE = "/site/quotas/", "/projects/shop/quotas/"


@pytest.fixture
def root(db) -> User:
    return make.user("root", is_superuser=True, is_staff=True)


@pytest.fixture
def shop(db) -> Project:
    return make.project(people={"alice": "owner", "bob": "member", "vera": "viewer"})


@pytest.fixture
def other(db) -> Project:
    return make.project("secretive", people={"olga": "owner"})


def enter(name: str) -> Client:
    client = Client()
    client.force_login(make.user(name))
    return client


def parallel(root: User, limit: int, project: Project | None = None) -> Quota:
    scope = "project" if project else "site"
    return quota_set(
        root, scope=scope, measure="parallel", period="now", limit=limit, project=project
    )


def spend(quota: Quota, project: Project, amount: int) -> QuotaEntry:
    module = make.module(make.plan(project), "cart", "building")
    run = make.run(module, status="succeeded", ended_at=timezone.now())
    Quota.objects.filter(pk=quota.pk).update(spent=amount)
    return QuotaEntry.objects.create(quota=quota, run=run, spent=amount, spent_at=timezone.now())


# --- What is shown -------------------------------------------------------------------------------


def test_limit_use_reserved_and_left_stand_side_by_side(root, shop):
    quota = quota_set(root, scope="site", measure="tokens", period="day", limit=1_000_000)
    Quota.objects.filter(pk=quota.pk).update(spent=600_000, reserved=250_000)
    page = enter("root").get(SITE).content.decode()
    for text in ("1,000,000 tokens", "850,000 tokens", "250,000 tokens", "150,000 tokens"):
        assert text in page
    assert '<meter min="0" max="1000000.000000"' in page
    assert "over 80 %" in page


def test_page_says_who_is_on_it_now_and_what_they_used(root, shop):
    quota = quota_set(root, scope="site", measure="tokens", period="day", limit=1000)
    entry = spend(quota, shop, 700)
    module = entry.run.module
    assert module is not None
    running = make.run(module, "review", estimate_tokens=40)
    page = enter("root").get(f"{SITE}{quota.pk}/").content.decode()
    assert f'id="run-{running.pk}"' in page
    assert "alice" in page
    assert "700 tokens" in page


def test_use_over_time_is_a_picture_and_a_table(root, shop):
    quota = quota_set(root, scope="site", measure="tokens", period="day", limit=1000)
    spend(quota, shop, 700)
    page = enter("root").get(f"{SITE}{quota.pk}/").content.decode()
    assert '<svg class="chart"' in page
    assert '<td class="num">700</td>' in page


def test_what_left_its_day_is_not_shown_as_used(root, shop):
    quota = quota_set(root, scope="site", measure="tokens", period="day", limit=1000)
    entry = spend(quota, shop, 700)
    QuotaEntry.objects.filter(pk=entry.pk).update(spent_at="2020-01-01T00:00Z")
    text = enter("root").get(f"{SITE}quotas.csv").content.decode()
    (row,) = csv.DictReader(io.StringIO(text))
    assert (float(row["spent"]), float(row["left"])) == (0, 1000)


def test_project_sees_limits_above_it_but_no_other_project(root, shop, other):
    parallel(root, 5)
    parallel(root, 2, other)
    make.run(make.module(make.plan(other), "x", "building"))
    client = enter("vera")
    for place in (MINE, f"{MINE}history/", f"{MINE}history.csv", f"{MINE}quotas.csv"):
        page = client.get(place).content.decode()
        assert "Secretive" not in page
        assert "secretive" not in page
    page = client.get(MINE).content.decode()
    assert "Limits of the site that count here too" in page
    assert "5 runs" in page


def test_quota_of_another_project_is_not_there(root, shop, other):
    quota = parallel(root, 2, other)
    client = enter("alice")
    assert client.get(f"{MINE}{quota.pk}/").status_code == 404
    assert client.get(f"{MINE}preview/", {"pk": quota.pk, "limit": 1}).status_code == 404
    assert client.post(f"{MINE}{quota.pk}/", {"limit": 1, "version": 1}).status_code == 404


# --- Edit in place -------------------------------------------------------------------------------


def test_limit_is_changed_in_place_and_recorded(root, shop):
    quota = parallel(root, 3, shop)
    answer = enter("alice").post(f"{MINE}{quota.pk}/", {"limit": "2", "version": 1}, follow=True)
    assert "Saved: 2 runs" in answer.content.decode()
    quota.refresh_from_db()
    assert (int(quota.limit), quota.version) == (2, 2)
    event = Event.objects.filter(project=shop, kind="quota.set").order_by("-number")[0]
    assert event.actor == "person:alice"
    assert [Decimal(event.data[name]) for name in ("before", "after")] == [3, 2]


def test_owner_cannot_go_above_the_site_and_is_told_by_how_much(root, shop):
    parallel(root, 4)
    quota = parallel(root, 3, shop)
    answer = enter("alice").post(f"{MINE}{quota.pk}/", {"limit": "7", "version": 1})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "3 above the site" in page
    assert 'value="7"' in page
    assert Quota.objects.get(pk=quota.pk).limit == 3


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("-1", "from 0 up"),
        ("1.5", "whole numbers"),
        ("1e40", "number of zeros"),
        ("NaN", "Write a number"),
        ("", "required"),
        ("many", "Write a number"),
        ("20000", "slip"),
    ],
)
def test_bad_limit_stays_in_the_form_with_its_reason(root, shop, limit, said):
    quota = parallel(root, 3)
    answer = enter("root").post(
        f"{SITE}{quota.pk}/", {"limit": limit, "version": 1}, headers={"HX-Request": "true"}
    )
    page = answer.content.decode()
    assert answer.status_code == 422
    assert said in page
    assert 'aria-invalid="true"' in page
    assert Quota.objects.get(pk=quota.pk).limit == 3


def test_change_saved_meanwhile_is_not_overwritten(root, shop):
    quota = parallel(root, 3)
    client = enter("root")
    client.post(f"{SITE}{quota.pk}/", {"limit": 5, "version": 1})
    answer = client.post(f"{SITE}{quota.pk}/", {"limit": 1, "version": 1})
    page = answer.content.decode()
    assert answer.status_code == 409
    assert "it is 5 runs now" in page
    assert 'name="version" value="2"' in page
    assert Quota.objects.get(pk=quota.pk).limit == 5


def test_open_page_of_a_removed_quota_says_so(root, shop):
    answer = enter("root").get(f"{SITE}77/", headers={"HX-Request": "true"})
    assert answer.status_code == 200
    assert "Somebody removed this limit" in answer.content.decode()
    assert enter("root").get(f"{SITE}77/").status_code == 404


def test_limit_below_what_runs_is_taken_and_says_so(root, shop):
    plan = make.plan(shop)
    for name in ("a", "b"):
        make.run(make.module(plan, name, "building"))
    quota = parallel(root, 3)
    answer = enter("root").post(f"{SITE}{quota.pk}/", {"limit": 1, "version": 1}, follow=True)
    assert "2 runs are at work, more than the 1 that are allowed" in answer.content.decode()
    assert Quota.objects.get(pk=quota.pk).limit == 1


# --- Add and remove ------------------------------------------------------------------------------


def test_quota_is_added_for_each_scope(root, shop):
    client = enter("root")
    Provider.objects.create(name="acme")
    provider = Provider.objects.get().pk
    forms = [
        {"scope": "site", "counts": "parallel:now", "limit": 9},
        {"scope": "provider", "provider": provider, "counts": "tokens:window", "limit": 10**6,
         "window_hours": 5},
        {"scope": "project", "project": "shop", "counts": "money:month", "limit": "12.50",
         "time_zone": "Europe/Berlin"},
        {"scope": "user", "user": "bob", "counts": "tokens:day", "limit": 1000},
    ]  # fmt: skip
    for form in forms:
        assert client.post(f"{SITE}add/", form).status_code == 302, form
    found = Quota.objects.order_by("pk").values_list("scope", "window_seconds", "time_zone")
    assert list(found) == [
        ("site", None, "UTC"),
        ("provider", 18000, "UTC"),
        ("project", None, "Europe/Berlin"),
        ("user", None, "UTC"),
    ]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"scope": "provider", "counts": "tokens:day"}, "Say which provider"),
        ({"scope": "project", "project": "nowhere", "counts": "tokens:day"}, "There is no project"),
        ({"scope": "user", "user": "zed", "counts": "tokens:day"}, "There is no user"),
        ({"scope": "site", "counts": "tokens:window"}, "needs its length"),
        ({"scope": "site", "counts": "tokens:window", "window_hours": "-5"}, "greater than"),
        ({"scope": "site", "counts": "tokens:day", "time_zone": "Mars/Crater"}, "no time zone"),
        ({"scope": "moon", "counts": "tokens:day"}, "not one of the available"),
        ({"scope": "site", "counts": "sheep:day"}, "not one of the available"),
    ],
)
def test_wrong_new_quota_stays_in_the_form(root, shop, form, said):
    answer = enter("root").post(f"{SITE}add/", {"limit": 5, **form})
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not Quota.objects.exists()


def test_second_quota_of_the_same_kind_is_refused(root, shop):
    parallel(root, 3)
    form = {"scope": "site", "counts": "parallel:now", "limit": 9}
    answer = enter("root").post(f"{SITE}add/", form)
    assert answer.status_code == 422
    assert "such a quota already" in answer.content.decode()


def test_quota_is_removed_once_and_stays_in_the_history(root, shop):
    quota = parallel(root, 3)
    client = enter("root")
    page = client.get(f"{SITE}{quota.pk}/").content.decode()
    assert "Yes, remove it" in page
    stale = client.post(f"{SITE}{quota.pk}/remove/", {"version": 9}, follow=True)
    assert "Somebody saved a limit meanwhile" in stale.content.decode()
    client.post(f"{SITE}{quota.pk}/remove/", {"version": 1})
    assert not Quota.objects.exists()
    history = client.get(f"{SITE}history/").content.decode()
    assert "quota.removed" in history
    assert "person:root" in history


# --- Preview, history ----------------------------------------------------------------------------


def test_preview_names_the_projects_that_would_wait(root, shop, other):
    quota = parallel(root, 5)
    for project in (shop, other):
        make.run(make.module(make.plan(project), "x", "building"))
    Quota.objects.filter(pk=quota.pk).update(reserved=2)
    client = enter("root")
    page = client.get(
        f"{SITE}preview/", {"pk": quota.pk, "limit": 2}, headers={"HX-Request": "true"}
    ).content.decode()
    assert "these 2 projects would wait: Secretive, Shop" in page
    assert "<html" not in page
    page = client.get(f"{SITE}preview/", {"pk": quota.pk, "limit": 3}).content.decode()
    assert "no project would wait" in page
    assert "<html" in page
    assert Quota.objects.get(pk=quota.pk).limit == 5


def test_preview_of_a_new_limit_counts_what_runs(root, shop):
    make.run(make.module(make.plan(shop), "x", "building"))
    form = {"counts": "parallel:now", "limit": "1"}
    page = enter("vera").get(f"{MINE}preview/", form).content.decode()
    assert "this project would wait: Shop" in page


def test_preview_says_what_is_wrong_with_a_number(root, shop):
    quota = parallel(root, 5)
    client = enter("root")
    for limit in ("-3", "x", ""):
        answer = client.get(f"{SITE}preview/", {"pk": quota.pk, "limit": limit})
        assert answer.status_code == 200
        assert "would wait" not in answer.content.decode()
    assert client.get(f"{SITE}preview/", {"pk": "x"}).status_code == 404


@pytest.mark.parametrize("zone", ["Europe", "Mars/Base", "/etc/passwd"])
def test_preview_says_that_there_is_no_such_time_zone(shop, zone):
    form = {"counts": "tokens:day", "limit": 5, "time_zone": zone}
    answer = enter("alice").get(f"{MINE}preview/", form)
    assert answer.status_code == 200 and "There is no time zone" in answer.content.decode()


def test_preview_says_how_far_above_the_site(root, shop):
    parallel(root, 4)
    quota = parallel(root, 3, shop)
    page = enter("alice").get(f"{MINE}preview/", {"pk": quota.pk, "limit": 6}).content.decode()
    assert "2 runs too many" in page


def test_history_says_who_when_from_and_to(root, shop):
    quota = parallel(root, 3, shop)
    client = enter("alice")
    client.post(f"{MINE}{quota.pk}/", {"limit": 2, "version": 1})
    client.post("/projects/shop/settings/ceiling/", {"ceiling": 4})
    text = client.get(f"{MINE}history.csv").content.decode()
    rows = [
        (row["who"], row["kind"], row["from"], row["to"])
        for row in csv.DictReader(io.StringIO(text))
    ]
    assert rows == [
        ("person:alice", "project.ceiling", "5", "4"),
        ("person:alice", "quota.set", "3", "2"),
        ("person:root", "quota.set", "—", "3"),
    ]
    page = enter("root").get(f"{SITE}history/").content.decode()
    assert "project.ceiling" in page


def test_csv_has_no_cell_that_a_spreadsheet_runs(root, shop):
    Project.objects.update(name="=HYPERLINK(1)")
    provider = Provider.objects.create(name="acme", title="=1+1")
    quota_set(root, scope="provider", provider=provider, measure="tokens", period="day", limit=5)
    parallel(root, 1, shop)
    for row in csv.reader(io.StringIO(enter("root").get(f"{SITE}quotas.csv").content.decode())):
        assert not [cell for cell in row if cell.startswith("=")]


def test_number_of_queries_does_not_grow_with_quotas(root, shop, django_assert_max_num_queries):
    for number in range(12):
        provider = Provider.objects.create(name=f"p{number}")
        quota_set(
            root, scope="provider", provider=provider, measure="tokens", period="day", limit=5
        )
    client = enter("root")
    with django_assert_max_num_queries(12):
        client.get(SITE)


def test_fragment_has_the_version_and_is_never_kept(root, shop):
    parallel(root, 3)
    answer = enter("root").get(SITE, headers={"HX-Request": "true"})
    assert answer["X-Version"] == str(SiteEvent.objects.count())
    assert "no-store" in answer["Cache-Control"]
    assert "<html" not in answer.content.decode()
