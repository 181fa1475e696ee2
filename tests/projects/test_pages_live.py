"""A page and its fragment: rendered once a version, the same for everybody."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.urls import reverse

from projects import live
from projects.models import Role
from projects.services import projects as services
from tests import factories
from tests.projects.pages import LIVE, client_of

URL = "/projects/shop/log/"


@pytest.fixture
def shop(db):
    for name in ("alice", "bob"):
        User.objects.create(username=name)
    cache.clear()
    made = factories.project("shop", people={"alice": Role.OWNER, "bob": Role.VIEWER})
    with live.change(made) as change:
        change.event("test.happened", made.topic, live.SYSTEM, said="hello")
    made.refresh_from_db()
    return made


def get(name, url=URL, **headers):
    return client_of(factories.user(name)).get(url, **headers)


def test_fragment_is_rendered_once_for_everybody(shop, django_assert_max_num_queries):
    first = get("alice", **LIVE)
    client = client_of(factories.user("bob"))
    # Session, person, project, role: nothing of the page is read again.
    with django_assert_max_num_queries(4):
        answer = client.get(URL, **LIVE)
    assert answer.content == first.content
    assert answer["X-Version"] == str(shop.event_count)


def test_new_event_makes_a_new_fragment(shop):
    before = get("alice", **LIVE)
    services.settings_set(project=shop, by=factories.user("alice"), goal="More")
    after = get("alice", **LIVE)
    assert int(after["X-Version"]) == int(before["X-Version"]) + 1
    assert b"project.settings" in after.content and b"project.settings" not in before.content


def test_unchanged_fragment_is_answered_with_304(shop):
    answer = get("bob", **LIVE)
    again = get("bob", HTTP_IF_NONE_MATCH=answer["ETag"], **LIVE)
    assert again.status_code == 304
    assert again["X-Version"] == answer["X-Version"]


def test_page_is_whole_and_its_fragment_is_not(shop):
    page, fragment = get("alice"), get("alice", **LIVE)
    assert b"<!doctype html>" in page.content and b"<html" not in fragment.content
    assert "X-Version" not in page


def test_fragment_shows_without_redis(shop, settings):
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://127.0.0.1:1",
        }
    }
    assert b"test.happened" in get("alice", **LIVE).content


def test_inbox_fragment_is_never_shared(shop):
    answer = get("alice", reverse("projects:inbox", args=["shop"]), **LIVE)
    assert "no-store" in answer["Cache-Control"]


def test_stranger_gets_no_kept_fragment(shop):
    get("alice", **LIVE)
    charlie = User.objects.create(username="charlie")
    assert client_of(charlie).get(URL, **LIVE).status_code == 404


def test_policy_allows_only_own_files(shop):
    policy = get("alice")["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
