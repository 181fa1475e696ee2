from __future__ import annotations

from typing import Any

import dramatiq
import pytest
from channels.layers import get_channel_layer
from django.conf import settings
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from agents.supervision import supervisor
from config import settings as module


def test_actors_find_the_broker_of_the_settings():
    broker: Any = dramatiq.get_broker()
    known: dict[str, Any] = {type(each).__name__: each for each in broker.middleware}
    assert broker.namespace == f"{settings.REDIS_PREFIX}.dramatiq"
    assert "DatabaseConnections" in known
    assert known["Retries"].max_retries == 0
    assert known["TimeLimit"].time_limit == float("inf")


def test_runs_learn_that_their_worker_stops():
    broker: Any = dramatiq.get_broker()
    broker.emit_before("worker_shutdown", None)
    told = supervisor.shutting_down.is_set()
    broker.emit_after("worker_shutdown", None)
    assert told
    assert not supervisor.shutting_down.is_set()


def test_cache_reaches_the_server(services):
    cache.set("word", "said", 10)
    assert cache.get("word") == "said"


async def test_channel_layer_delivers(services):
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add("watchers", channel)
    await layer.group_send("watchers", {"type": "hint"})
    assert await layer.receive(channel) == {"type": "hint"}


@pytest.mark.django_db
def test_sign_up_is_closed_and_the_log_in_page_is_strict():
    client = Client()
    assert b"closed" in client.get("/accounts/signup/").content.lower()
    answer = client.get("/accounts/login/")
    policy = answer["Content-Security-Policy"]
    assert answer.status_code == 200
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.django_db
def test_admin_sends_strangers_to_the_one_log_in():
    answer = Client().get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0].startswith("/accounts/login/")


@pytest.mark.django_db
def test_people_log_in_by_name_or_address(alice):
    for login in ("alice", "alice@example.org"):
        client = Client()
        client.post("/accounts/login/", {"login": login, "password": "alice-password"})
        assert client.session["_auth_user_id"] == str(alice.pk)


def test_a_database_url_keeps_its_socket_and_options():
    found = module.database("postgresql://me:s%20t@/base?host=/run/pg&sslmode=require")
    assert (found["USER"], found["PASSWORD"], found["NAME"]) == ("me", "s t", "base")
    assert found["HOST"] == "/run/pg"
    assert found["OPTIONS"]["sslmode"] == "require"


def test_a_wrong_value_is_named(monkeypatch):
    monkeypatch.setenv("TUTTI_LEASE_SECONDS", "soon")
    with pytest.raises(ImproperlyConfigured, match="TUTTI_LEASE_SECONDS must be a whole"):
        module.env_int("TUTTI_LEASE_SECONDS", 30)


def test_a_secret_is_made_once_and_kept_private(tmp_path):
    file = tmp_path / "home" / "secret"
    first = module.env_secret("NO_SUCH_NAME", file)
    assert len(first) > 50
    assert module.env_secret("NO_SUCH_NAME", file) == first
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["secret"]
