"""The site's pages for admins: hosts, providers, prices, what waits, the site's record."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from agents import siteboard
from agents.models import Host, HostReading, Price, Profile, Provider
from agents.services import providers
from projects.models import Project, SiteEvent
from tests import factories as make

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(db) -> User:
    return make.user("root", is_superuser=True, is_staff=True)


@pytest.fixture
def client(root) -> Client:
    client = Client()
    client.force_login(root)
    return client


@pytest.fixture
def host(db) -> Host:
    now = timezone.now()
    host = Host.objects.create(
        name="box", cores=8, memory_mb=16000, memory_available_mb=9000, capacity=3, seen_at=now
    )
    for minute in range(60):
        changed = minute in (20, 40)
        HostReading.objects.create(
            host=host,
            at=now - timedelta(minutes=60 - minute),
            memory_mb=16000,
            memory_available_mb=9000 - minute,
            capacity=5 if minute < 20 else 3,
            alive=2,
            reason=f"Pressure at {minute}." if changed else "",
        )
    return host


def text(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def test_host_shows_memory_over_time_with_marks_and_a_table(client, host):
    page = text(client, "/site/")
    assert "Memory of box" in page
    assert "7000 of 16000 MB" in page
    assert page.count('<line class="mark"') == 4  # Two changes, on both charts.
    assert "Pressure at 20." in page
    assert "The same as a table" in page


def test_long_series_are_thinned_but_keep_changes_and_the_newest(host):
    now = timezone.now()
    HostReading.objects.bulk_create(
        HostReading(host=host, at=now - timedelta(seconds=5 * n), memory_mb=9, capacity=2,
                    memory_available_mb=5, reason="Odd." if n == 777 else "")
        for n in range(1, 3000)
    )  # fmt: skip
    newest = HostReading.objects.create(host=host, at=now, memory_mb=9, memory_available_mb=1)
    kept = siteboard.thinned(HostReading.objects.filter(host=host))
    assert 200 < len(kept) < 400
    assert kept[-1] == newest
    assert [row.reason for row in kept].count("Odd.") == 1


def test_span_of_the_charts_is_in_the_address(client, host):
    assert '<option value="24" selected>' in text(client, "/site/?hours=24")
    assert '<option value="6" selected>' in text(client, "/site/?hours=999999999999")
    assert '<option value="6" selected>' in text(client, "/site/?hours=-1")


def test_host_drains_and_takes_work_again(client, host):
    client.post(f"/site/hosts/{host.pk}/drain/", {"draining": 1})
    assert Host.objects.get().draining
    assert "Let it take work again" in text(client, "/site/")
    client.post(f"/site/hosts/{host.pk}/drain/", {"draining": 1})  # Twice is once.
    client.post(f"/site/hosts/{host.pk}/drain/", {"draining": 0})
    assert not Host.objects.get().draining
    kinds = SiteEvent.objects.filter(kind__startswith="host.").values_list("kind", "actor")
    assert list(kinds) == [("host.drained", "person:root"), ("host.undrained", "person:root")]


def test_readings_are_taken_along_as_csv(client, host):
    lines = text(client, f"/site/hosts/{host.pk}/readings.csv").splitlines()
    assert lines[0].startswith("at,memory_mb,memory_available_mb")
    assert len(lines) == 61


def test_project_says_what_binds_it_and_since_when(client):
    shop = make.project(people={"alice": "owner"})
    make.module(make.plan(shop), "cart")
    Project.objects.update(
        binding={
            "limit": "site", "sentence": "The site's tokens of today are used up.", "slots": 0,
            "numbers": {"limit": 10.0}, "until": None, "since": "2026-01-02T03:04:05+00:00",
        }
    )  # fmt: skip
    page = text(client, "/site/")
    assert "The site&#x27;s tokens of today are used up." in page
    assert "2026-01-02 03:04:05" in page
    assert "/projects/shop/quotas/" in page


def test_breaker_says_until_when_and_is_reset(client, root):
    account = Provider.objects.create(name="acme", active_runs=4)
    providers.provider_limited(account, retry_after=600)
    page = text(client, "/site/providers/")
    assert "throttled" in page
    assert "too fast" in page
    assert "Reset the breaker" in page
    client.post(f"/site/providers/{account.pk}/reset/")
    account.refresh_from_db()
    assert account.breaker == "closed"
    assert "Reset the breaker" not in text(client, "/site/providers/")


def test_provider_is_added_renamed_and_removed(client):
    client.post("/site/providers/set/", {"name": "acme", "title": "Acme"})
    client.post("/site/providers/set/", {"name": "acme", "title": "Acme Inc."})
    assert Provider.objects.get().title == "Acme Inc."
    bad = client.post("/site/providers/set/", {"name": "Not a slug!"})
    assert bad.status_code == 422
    assert "Use small letters" in bad.content.decode()
    client.post(f"/site/providers/{Provider.objects.get().pk}/remove/")
    assert not Provider.objects.exists()


def test_price_is_set_changed_and_removed(client):
    form = {"model": "big", "input_per_million": "3", "output_per_million": "15"}
    client.post("/site/prices/set/", form)
    client.post("/site/prices/set/", form | {"output_per_million": "12.5"})
    price = Price.objects.get()
    assert str(price.output_per_million) == "12.500000"
    page = text(client, "/site/providers/")
    assert '<td class="num">12.5</td>' in page
    assert "provider,model,input_per_million" in text(client, "/site/prices.csv")
    client.post(f"/site/prices/{price.pk}/remove/")
    assert not Price.objects.exists()


@pytest.mark.parametrize("amount", ["-1", "x", "", "1e30", "NaN"])
def test_bad_price_stays_in_the_form(client, amount):
    form = {"model": "big", "input_per_million": amount, "output_per_million": "15"}
    answer = client.post("/site/prices/set/", form)
    assert answer.status_code == 422
    assert 'value="big"' in answer.content.decode()
    assert not Price.objects.exists()


def test_models_without_a_price_are_named(client):
    shop = make.project(people={"alice": "owner"})
    module = make.module(make.plan(shop), "cart", "building")
    make.run(module, status="succeeded", model="mystery", input_tokens=5, ended_at=timezone.now())
    page = text(client, "/site/providers/")
    assert "mystery" in page
    assert "Models without a price" in page


def test_log_is_filtered_and_taken_along(client):
    client.post("/site/providers/set/", {"name": "acme"})
    client.post(
        "/site/prices/set/", {"model": "m", "input_per_million": 1, "output_per_million": 2}
    )
    page = text(client, "/site/log/?kind=price")
    assert "price.set" in page
    assert 'href="?kind=provider.set"' not in page
    lines = text(client, "/site/log/events.jsonl").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["price.set", "provider.set"]
    assert "previous_hash" in text(client, "/site/log/events.csv?actor=person:root")
    assert client.get("/site/log/events.xml").status_code == 404


def test_log_pages_by_number(client):
    for number in range(105):
        client.post("/site/providers/set/", {"name": f"p{number}"})
    page = text(client, "/site/log/")
    assert "before=6" in page
    assert "p3" in text(client, "/site/log/?before=6")


def test_admins_alone_find_the_site_in_the_navigation(client):
    shop = make.project(people={"alice": "owner"})
    assert 'href="/site/"' in text(client, f"/projects/{shop.slug}/board/")
    other = Client()
    other.force_login(make.user("alice"))
    assert 'href="/site/"' not in text(other, f"/projects/{shop.slug}/board/")
    assert other.get("/site/").status_code == 403


def test_board_says_what_binds_since_when_and_where_to_change_it(client):
    shop = make.project(people={"alice": "owner"})
    binding = {
        "limit": "project", "sentence": "The project's ceiling allows 2 runs at once.", "slots": 2,
        "numbers": {"ceiling": 2.0}, "until": None, "since": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    Project.objects.update(binding=binding)
    page = text(client, f"/projects/{shop.slug}/board/")
    assert "ceiling allows 2 runs at once." in page
    assert "2026-01-02 03:04:05" in page
    assert 'href="/projects/shop/settings/#ceiling"' in page
    answer = client.get("/api/projects/shop").json()
    assert answer["binding"] == binding


def test_profile_names_the_account_its_runs_are_charged_to(client):
    providers.provider_set(User.objects.get(username="root"), "acme")
    form = {"backend": "replay", "model": "m", "settings": "", "provider": "acme"}
    client.post("/site/profiles/planner/", form)
    assert Profile.objects.get().provider == Provider.objects.get()
    assert '<option value="acme" selected>' in text(client, "/site/profiles/")
    for name, said in (("nobody", "nobody"), ("a\0b", "a␀b")):
        answer = client.post("/site/profiles/planner/", form | {"provider": name})
        assert answer.status_code == 422
        assert f"There is no provider {said}." in answer.content.decode()
    client.post("/site/profiles/planner/", form | {"provider": ""})
    assert Profile.objects.get().provider is None
