"""The API of quotas, providers, prices, hosts and the site's record."""

from __future__ import annotations

import pytest
from django.test import Client

from agents.models import Host, Provider, Quota
from projects.models import Project
from tests import factories as make

pytestmark = pytest.mark.django_db

MINE, SITE = "/api/projects/shop/quotas", "/api/site"
PARALLEL = {"measure": "parallel", "period": "now"}


@pytest.fixture
def shop(db) -> Project:
    return make.project(people={"alice": "owner", "vera": "viewer"})


def enter(name: str) -> Client:
    client = Client()
    client.force_login(make.user(name))
    return client


@pytest.fixture
def root(db) -> Client:
    make.user("root", is_superuser=True, is_staff=True)
    return enter("root")


def post(client: Client, url: str, body: dict[str, object] | None = None):
    return client.post(url, body or {}, content_type="application/json")


def test_quota_is_set_listed_changed_and_removed(root, shop):
    made = post(root, f"{SITE}/quotas", {**PARALLEL, "scope": "site", "limit": 4}).json()
    assert (made["limit"], made["version"], made["of"]) == ("4.000000", 1, "the whole site")
    url = f"{SITE}/quotas/{made['id']}"
    assert post(root, f"{url}/limit", {"limit": 6, "version": 1}).json()["version"] == 2
    stale = post(root, f"{url}/limit", {"limit": 7, "version": 1})
    assert stale.status_code == 409
    assert "it is 6 runs now" in stale.json()["message"]
    assert [row["id"] for row in root.get(f"{SITE}/quotas").json()] == [made["id"]]
    assert post(root, f"{url}/remove", {"version": 2}).status_code == 200
    assert not Quota.objects.exists()
    kinds = [row["kind"] for row in root.get(f"{SITE}/quotas/history").json()]
    assert kinds == ["quota.removed", "quota.set", "quota.set"]


def test_owner_cannot_go_above_the_site(root, shop):
    post(root, f"{SITE}/quotas", {**PARALLEL, "scope": "site", "limit": 4})
    answer = post(enter("alice"), MINE, {**PARALLEL, "limit": 9})
    assert answer.status_code == 422
    assert "5 above the site" in answer.json()["message"]
    assert post(enter("alice"), MINE, {**PARALLEL, "limit": 4}).status_code == 200
    rows = enter("vera").get(MINE).json()
    assert [row["scope"] for row in rows] == ["project", "site"]


@pytest.mark.parametrize(
    "body",
    [
        {"limit": -1},
        {"limit": 1.5},
        {"limit": 1e30},
        {"limit": "NaN"},
        {"limit": "Infinity"},
        {"measure": "sheep"},
        {"period": "day"},
        {"measure": "tokens", "period": "window"},
        {"measure": "tokens", "period": "day", "time_zone": "Mars/Crater"},
        {"more": 1},
    ],
)
def test_bad_quota_is_refused_with_its_field(root, shop, body):
    for url in (MINE, f"{MINE}/preview"):
        answer = post(root, url, {**PARALLEL, "limit": 2, **body})
        assert answer.status_code == 422, url
        assert answer.json()["problems"]
    assert not Quota.objects.exists()


@pytest.mark.parametrize("scope", ["provider", "project", "user", "moon"])
def test_scope_without_its_object_is_refused(root, shop, scope):
    for url in (f"{SITE}/quotas", f"{SITE}/quotas/preview"):
        answer = post(root, url, {**PARALLEL, "scope": scope, "limit": 2})
        assert answer.status_code == 422, url
    assert not Quota.objects.exists()


def test_preview_says_who_would_wait_and_saves_nothing(root, shop):
    make.run(make.module(make.plan(shop), "cart", "building"))
    body = {**PARALLEL, "limit": 1}
    found = post(enter("vera"), f"{MINE}/preview", body).json()
    assert [row["project"] for row in found["waiting"]] == ["shop"]
    assert "would wait" in found["sentence"]
    assert post(root, f"{MINE}/preview", {**body, "limit": 2}).json()["waiting"] == []
    assert not Quota.objects.exists()


def test_preview_uses_what_an_existing_quota_counts(root, shop):
    make.plan(shop)
    post(root, MINE, {**PARALLEL, "limit": 5})
    Quota.objects.update(reserved=3)
    found = post(root, f"{MINE}/preview", {**PARALLEL, "limit": 3}).json()
    assert found["used"] == "3.000000"
    assert len(found["waiting"]) == 1
    assert Quota.objects.get().limit == 5


def test_history_of_a_project_holds_its_ceiling(root, shop):
    enter("alice").post("/projects/shop/settings/ceiling/", {"ceiling": 3})
    rows = enter("vera").get(f"{MINE}/history").json()
    assert [(row["kind"], row["before"], row["after"]) for row in rows] == [
        ("project.ceiling", "5", "3")
    ]


def test_providers_and_prices(root):
    assert post(root, f"{SITE}/providers", {"name": "acme"}).status_code == 200
    assert post(root, f"{SITE}/providers", {"name": "A B"}).status_code == 422
    price = {"provider": "acme", "model": "m", "input_per_million": 3, "output_per_million": "0.5"}
    assert post(root, f"{SITE}/prices", price).status_code == 200
    assert post(root, f"{SITE}/prices", {**price, "provider": "nobody"}).status_code == 404
    assert post(root, f"{SITE}/prices", {**price, "input_per_million": -3}).status_code == 422
    (row,) = root.get(f"{SITE}/prices").json()
    assert (row["provider"], row["output_per_million"]) == ("acme", "0.500000")
    assert post(root, f"{SITE}/prices/{row['id']}/remove").status_code == 200
    account = Provider.objects.get()
    Provider.objects.update(breaker="exhausted", reason="Used up.")
    assert root.get(f"{SITE}/providers").json()[0]["breaker"] == "exhausted"
    assert post(root, f"{SITE}/providers/{account.pk}/reset").status_code == 200
    assert root.get(f"{SITE}/providers").json()[0]["breaker"] == "closed"


def test_host_is_drained_and_listed(root):
    host = Host.objects.create(name="box")
    assert (
        "drains"
        in post(root, f"{SITE}/hosts/{host.pk}/drain", {"draining": True}).json()["message"]
    )
    assert root.get(f"{SITE}/hosts").json()[0]["draining"] is True
    assert root.get(f"{SITE}/hosts/{host.pk}/readings").json() == []


def test_record_of_the_site_is_read_by_number(root):
    for name in ("a", "b", "c"):
        post(root, f"{SITE}/providers", {"name": name})
    page = root.get(f"{SITE}/events", {"after": 1, "limit": 1}).json()
    assert [row["number"] for row in page["events"]] == [2]
    assert (page["after"], page["newest"]) == (2, 3)


def test_what_waits_is_listed_with_its_binding(root, shop):
    make.module(make.plan(shop), "cart")
    Project.objects.update(binding={"limit": "project", "sentence": "Because.", "slots": 1})
    (row,) = root.get(f"{SITE}/projects").json()
    assert (row["project"], row["modules_waiting"]) == ("shop", 1)
    assert row["binding"]["sentence"] == "Because."
