"""Keys of accounts: sealed at rest, rotated, lost; given to one agent and shown to nobody."""

from __future__ import annotations

import stat

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.core.management.base import CommandError
from django.urls import reverse

from agents.models import Profile, Provider
from agents.services import secrets as accounts
from agents.services.profiles import profile_set
from projects import secrets
from projects.models import SiteEvent
from projects.services.errors import Refused
from projects.services.sourcekeys import source_key_set
from tests import factories as make

KEY = "sk-ant-0123456789"


@pytest.fixture
def provider(db, tutti_home):
    return Provider.objects.create(name="anthropic")


@pytest.fixture
def admin(db):
    return make.user("root", is_superuser=True)


def test_key_file_is_made_once_for_its_owner_alone(tutti_home):
    sealed = secrets.encrypt(KEY)
    file = tutti_home / secrets.FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert KEY not in sealed and KEY not in file.read_text()
    assert secrets.decrypt(sealed) == KEY
    assert list(tutti_home.iterdir()) == [file]


def test_key_file_follows_a_rotation(tutti_home):
    old = secrets.encrypt(KEY)
    name = secrets.new_key()
    new = secrets.encrypt(KEY)
    assert new.startswith(f"{name}:") and secrets.is_newest(new) and not secrets.is_newest(old)
    assert secrets.decrypt(old) == KEY
    assert stat.S_IMODE((tutti_home / secrets.FILE).stat().st_mode) == 0o600


def test_ring_from_the_environment(tutti_home, settings):
    first, second = (Fernet.generate_key().decode() for _ in range(2))
    settings.TUTTI_SECRET_KEYS = [first]
    sealed = secrets.encrypt(KEY)
    settings.TUTTI_SECRET_KEYS = [second, first]
    assert secrets.decrypt(sealed) == KEY
    settings.TUTTI_SECRET_KEYS = [second]
    with pytest.raises(secrets.SecretError, match="No key opens") as error:
        secrets.decrypt(sealed)
    assert secrets.key_id(first.encode()) in str(error.value)
    assert not (tutti_home / secrets.FILE).exists()
    with pytest.raises(secrets.SecretError, match="TUTTI_SECRET_KEYS"):
        secrets.new_key()


@pytest.mark.parametrize("key", ["short", "ß" * 44, "!" * 44])
def test_spoilt_key_is_named_by_its_place_only(tutti_home, settings, key):
    settings.TUTTI_SECRET_KEYS = [Fernet.generate_key().decode(), key]
    with pytest.raises(secrets.SecretError, match="Key 2 of TUTTI_SECRET_KEYS") as error:
        secrets.encrypt(KEY)
    assert key not in str(error.value)


def test_secret_is_sealed_and_its_event_does_not_hold_it(provider, admin):
    accounts.secret_set(provider, admin, f" {KEY}\n", "ANTHROPIC_API_KEY")
    provider.refresh_from_db()
    assert KEY not in provider.secret
    profile = Profile(role="executor", backend="command", provider=provider)
    assert accounts.environment_of(profile) == {"ANTHROPIC_API_KEY": KEY}
    event = SiteEvent.objects.get(kind="provider.secret")
    assert event.data == {
        "name": "anthropic", "env": "ANTHROPIC_API_KEY", "before": "none", "after": "set",
    }  # fmt: skip
    accounts.secret_set(provider, admin, "", "")
    provider.refresh_from_db()
    assert (provider.secret, provider.secret_env) == ("", "")
    profile.provider = provider
    assert accounts.environment_of(profile) == {}


@pytest.mark.parametrize(
    ("value", "env", "field"),
    [
        ("tiny-1", "KEY", "value"),
        ("0123456789\0", "KEY", "value"),
        (KEY, "key", "env"),
        (KEY, "LD_PRELOAD", "env"),
        (KEY, "PATH", "env"),
        (KEY, "", "env"),
    ],
)
def test_bad_secret_is_refused_with_its_field(provider, admin, value, env, field):
    with pytest.raises(Refused) as refused:
        accounts.secret_set(provider, admin, value, env)
    assert [problem.field for problem in refused.value.problems] == [field]
    assert value not in str(refused.value) and not SiteEvent.objects.exists()


def test_rotation_seals_all_under_the_newest_key(provider, admin, tutti_home, capsys):
    accounts.secret_set(provider, admin, KEY, "ANTHROPIC_API_KEY")
    call_command("rotate_secrets", "--new-key", "--drop-old")
    provider.refresh_from_db()
    assert secrets.is_newest(provider.secret) and secrets.decrypt(provider.secret) == KEY
    assert len((tutti_home / secrets.FILE).read_text().split()) == 1
    call_command("rotate_secrets")
    assert "0 secrets" in capsys.readouterr().out.splitlines()[-1]


def test_rotation_says_which_secret_no_key_opens(provider, admin, tutti_home):
    accounts.secret_set(provider, admin, KEY, "ANTHROPIC_API_KEY")
    (tutti_home / secrets.FILE).write_bytes(Fernet.generate_key())
    with pytest.raises(CommandError, match="anthropic: No key opens"):
        call_command("rotate_secrets", "--drop-old")
    profile = Profile(role="executor", backend="command", provider=provider)
    provider.refresh_from_db()
    with pytest.raises(secrets.SecretError, match="No key opens"):
        accounts.environment_of(profile)
    assert accounts.redactor().text(KEY) == KEY


def test_redactor_knows_the_secrets_of_the_servers_environment(provider, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "from-the-environment")
    monkeypatch.setenv("EDITOR", "from-the-editor")
    assert accounts.redactor().text("from-the-environment from-the-editor") == (
        "[redacted] from-the-editor"
    )


def test_redactor_knows_the_newest_secrets(provider, admin):
    assert accounts.redactor().text(KEY) == KEY
    accounts.secret_set(provider, admin, KEY, "ANTHROPIC_API_KEY")
    assert KEY not in accounts.redactor().text(f"x {KEY}")
    token = "token-of-a-source"
    project = make.project("shop", source="https://forge.example.org/shop.git")
    source_key_set(project, admin, token)
    assert accounts.redactor().text(f"{token} {KEY}") == "[redacted] [redacted]"


def test_key_goes_in_by_page_and_api_and_is_shown_by_neither(provider, admin, client):
    client.force_login(admin)
    page = reverse("agents:providers")
    sent = {"provider": provider.pk, "env": "ANTHROPIC_API_KEY", "value": KEY}
    answer = client.post(reverse("agents:provider-secret"), sent, follow=True)
    assert answer.status_code == 200 and "ANTHROPIC_API_KEY" in answer.content.decode()
    api = f"/api/site/providers/{provider.pk}/secret"
    for place in (page, "/api/site/providers", reverse("agents:site-log")):
        assert KEY not in client.get(place).content.decode()
    bad = client.post(reverse("agents:provider-secret"), {**sent, "env": "PATH"})
    assert bad.status_code == 422 and "PATH is not free" in bad.content.decode()
    assert KEY not in bad.content.decode()
    other = {"value": "another-long-key", "env": "OTHER_KEY"}
    said = client.post(api, other, content_type="application/json")
    assert said.json() == {"message": "The key of anthropic is kept."}
    provider.refresh_from_db()
    assert provider.secret_env == "OTHER_KEY" and secrets.decrypt(provider.secret) == other["value"]
    said = client.post(api, {"value": ""}, content_type="application/json")
    assert said.json() == {"message": "The key of anthropic is removed."}
    provider.refresh_from_db()
    assert provider.secret == ""


def test_a_maintainer_takes_no_account_with_a_key_to_a_place_of_her_own(provider, admin):
    """Whoever chooses the command or the address that gets the key could read it."""
    project, alice = make.project("shop"), make.user("alice")
    accounts.secret_set(provider, admin, KEY, "ANTHROPIC_API_KEY")
    theirs = {"command": ["sh", "-c", "env"]}
    with pytest.raises(Refused, match="Only a site admin"):
        profile_set(project, "executor", "command", "m", theirs, alice, provider=provider)
    profile_set(project, "executor", "command", "m", {"command": ["agent"]}, admin,
                provider=provider)  # fmt: skip
    with pytest.raises(Refused, match="its model may be changed"):
        profile_set(project, "executor", "command", "m", theirs, alice)
    profile_set(project, "executor", "command", "larger", {"command": ["agent"]}, alice)
    with pytest.raises(Refused, match="another plain name"):
        profile_set(project, "executor", "command", "m; env", {"command": ["agent"]}, alice)
    profile_set(project, "orchestrator", "llm", "openai:m", {}, admin, provider=provider)
    profile_set(project, "orchestrator", "llm", "openai:n", {}, alice)
    with pytest.raises(Refused, match="of the same provider"):
        profile_set(project, "orchestrator", "llm", "groq:n", {}, alice)
    profile_set(project, "executor", "command", "m", theirs, alice, provider=None)
    kept = Profile.objects.get(project=project, role="executor")
    assert kept.provider is None and kept.settings == theirs


@pytest.mark.parametrize(
    ("backend", "settings"),
    [
        ("command", {"command": ["sh", "-c", "env"], "env": ["SOME_API_KEY"]}),
        ("command", {"command": ["cat", "/root/.ssh/id"], "readable": ["/root/.ssh"]}),
        ("acp", {"agent": "claude", "command": ["sh", "-c", "env"]}),
        ("acp", {"agent": "claude", "variables": {"ANTHROPIC_BASE_URL": "https://elsewhere"}}),
        ("llm", {"base_url": "https://elsewhere/v1", "env": ["OPENAI_API_KEY"]}),
        ("llm", {"base_url": "http://10.0.0.1/v1"}),
    ],
)
def test_a_maintainer_hands_out_nothing_of_the_host(db, admin, backend, settings):
    """The server's own keys and files go where an admin said, in this project or on the site."""
    project, alice, role = make.project("shop"), make.user("alice"), "orchestrator"
    with pytest.raises(Refused, match="Only a site admin may let an agent have"):
        profile_set(project, role, backend, "m", settings, alice)
    assert not Profile.objects.exists()
    profile_set(None, role, backend, "m", settings, admin)
    profile_set(project, role, backend, "larger", {**settings, "timeout_seconds": 9}, alice)
    with pytest.raises(Refused, match="as it is"):
        profile_set(project, role, backend, "m", {**settings, "env": ["OTHER_KEY"]}, alice)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"network": "no"}, "network is true or false"),
        ({"timeout_seconds": float("nan")}, "finite"),
        ({"mode": ["plan"]}, "mode is a text"),
        ({"variables": {"A": "\ud800"}}, "can't be kept"),
    ],
)
def test_settings_that_mean_nothing_are_refused(db, admin, settings, says):
    with pytest.raises(Refused, match=says):
        profile_set(None, "executor", "acp", "m", {"command": ["agent"], **settings}, admin)
    assert not Profile.objects.exists()
