"""A project's token or deploy key goes in, is used by the server's git, and is never shown."""

from __future__ import annotations

import json

import pytest
from django.urls import reverse

from agents.services.secrets import secrets_rotate
from projects import credentials, secrets
from projects.models import Event, Project
from projects.services import sourcekeys
from projects.services.errors import Refused
from projects.services.projects import project_create
from tests import factories

TOKEN = "ghp-known-to-nobody-else"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\r\nabc\r\n-----END OPENSSH PRIVATE KEY-----\r\n"


@pytest.fixture
def shop(alice, settings, tmp_path):
    settings.TUTTI_HOME = tmp_path
    return factories.project(source="https://forge.example/team/shop.git")


def test_a_token_is_sealed_and_at_hand_for_its_host(shop, alice):
    sourcekeys.source_key_set(shop, alice, TOKEN, user="robot")
    shop.refresh_from_db()
    assert TOKEN not in shop.source_secret
    with sourcekeys.at_hand(shop):
        told = credentials.https("forge.example", 443, "8.8.8.8")
        assert (told["TUTTI_GIT_USER"], told["TUTTI_GIT_TOKEN"]) == ("robot", TOKEN)
        assert "TUTTI_GIT_TOKEN" not in credentials.https("other.example", 443, "8.8.8.8")
    event = Event.objects.filter(project=shop).latest("number")
    assert (event.kind, event.data["before"], event.data["after"]) == (
        "project.source_key", "none", "set",
    )  # fmt: skip
    assert TOKEN not in json.dumps(event.data)
    sourcekeys.source_key_set(shop, alice, "")
    shop.refresh_from_db()
    assert sourcekeys.credential_of(shop) is None


def test_a_key_is_for_ssh(shop, alice):
    Project.objects.filter(pk=shop.pk).update(source="git@forge.example:team/shop.git")
    shop.refresh_from_db()
    sourcekeys.source_key_set(shop, alice, KEY, known_hosts="forge.example ssh-ed25519 AAA")
    shop.refresh_from_db()
    found = sourcekeys.credential_of(shop)
    assert (found.kind, found.host) == ("key", "forge.example")
    assert "\r" not in found.secret


@pytest.mark.parametrize(
    ("source", "secret", "says"),
    [
        ("/srv/team/shop", TOKEN, "needs no token"),
        ("https://forge.example/x", "short", "8 to 20000 characters"),
        ("https://forge.example/x", "two words of a token", "one word"),
        ("https://forge.example/x", KEY, "one word"),
        ("ssh://git@forge.example/x", TOKEN, "private half of a deploy key"),
    ],
)
def test_what_is_no_credential_is_refused(shop, alice, source, secret, says):
    Project.objects.filter(pk=shop.pk).update(source=source)
    shop.refresh_from_db()
    with pytest.raises(Refused, match=says) as caught:
        sourcekeys.source_key_set(shop, alice, secret)
    assert secret not in str(caught.value)


@pytest.mark.parametrize("login", [f"https://me:{TOKEN}", f"https://{TOKEN}", f"ssh://me:{TOKEN}",
                                   f"HTTPS://{TOKEN}", f"https://me:x@{TOKEN}"])  # fmt: skip
def test_a_password_in_an_address_is_refused(alice, login):
    with pytest.raises(Refused, match="in their own fields") as caught:
        project_create(slug="x", source=f"{login}@forge.example/x", owner=alice)
    assert TOKEN not in str(caught.value)
    assert not Project.objects.exists()


def test_pages_take_it_and_never_show_it(shop, alice, client):
    client.force_login(alice)
    page = reverse("projects:settings", args=[shop.slug])
    post = reverse("projects:source-key", args=[shop.slug])
    assert client.post(post, {"secret": TOKEN}).status_code == 302
    shown = client.get(page).content.decode()
    assert "A token or key is set." in shown
    refused = client.post(post, {"secret": f"{TOKEN} {TOKEN}"})
    assert refused.status_code == 422
    assert TOKEN not in shown + refused.content.decode()
    assert TOKEN not in client.get(f"/api/projects/{shop.slug}").content.decode()


def test_the_api_takes_it(shop, alice, client):
    client.force_login(alice)
    answer = client.put(f"/api/projects/{shop.slug}/source-key", {"secret": TOKEN},
                        content_type="application/json")  # fmt: skip
    assert answer.json() == {"message": "Saved; it is never shown."}
    shop.refresh_from_db()
    assert sourcekeys.credential_of(shop).secret == TOKEN


def test_rotation_seals_it_anew(shop, alice):
    sourcekeys.source_key_set(shop, alice, TOKEN)
    secrets.new_key()
    assert secrets_rotate() == (1, [])
    shop.refresh_from_db()
    assert secrets.is_newest(shop.source_secret)
    assert sourcekeys.credential_of(shop).secret == TOKEN
