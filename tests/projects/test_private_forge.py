"""A private repository behind TLS and a token: made, fetched, published; and what is refused."""

from __future__ import annotations

import getpass
import html
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from projects.hub import integration_ref
from projects.models import Event, Project
from projects.services.errors import Refused
from projects.services.projects import hub_of, project_create
from projects.services.publishing import publish
from tests import factories
from tests.projects.forge import ELSEWHERE, TELLING, serving
from tests.wait import until

PLAN = """
version: 1
project: {name: Shop, goal: Sell.}
modules:
  - {slug: a, title: A, brief: A., owns: [a.py], tests: [tests/test_a.py], checks: ["true"]}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    root = tmp_path_factory.mktemp("forge")
    work = factories.source_repository(root / "work", {"a.py": "a = 1\n", "tests/test_a.py": ""})
    subprocess.run(["git", "clone", "-q", "--bare", work, root / "team.git"], check=True)
    with serving(root) as forge:
        yield forge


@pytest.fixture
def forge(running, tutti_home, settings, monkeypatch):
    """The forge, trusted and listed by an admin."""
    settings.TUTTI_SOURCE_HOSTS = ["localhost"]
    monkeypatch.setenv("GIT_SSL_CAINFO", str(running.authority))
    running.asked.clear()
    running.logins.clear()
    yield running
    assert running.shown == []


def make(forge, owner, **values):
    values = {"source": f"{forge.url}/team.git", "secret": forge.token, "secret_user": forge.user,
              **values}  # fmt: skip
    return project_create(slug="shop", owner=owner, **values)


def is_nowhere(forge, project, *pages):
    """The token is in no file of the hub, no event and no page."""
    texts = [json.dumps(list(Event.objects.values("data")))]
    texts += [file.read_text("latin-1") for file in project.hub_path.rglob("*") if file.is_file()]
    return not any(forge.token in text for text in [*texts, *pages])


def test_a_page_makes_a_private_project_which_is_published(forge, alice, client):
    client.force_login(alice)
    sent = {"name": "shop", "source": f"{forge.url}/team.git", "branch": "main",
            "secret": forge.token, "user": forge.user}  # fmt: skip
    wrong = client.post(reverse("projects:new"), {**sent, "user": "somebody"})
    assert wrong.status_code == 422 and "refused the token or key" in wrong.content.decode()
    assert client.post(reverse("projects:new"), sent).status_code == 302
    project = Project.objects.get()
    hub = hub_of(project)
    head = hub.head(integration_ref())
    assert head and hub.read(head, "a.py") == b"a = 1\n"
    assert f"{forge.user}:{forge.token}" in forge.logins

    new = hub.commit_files(head, {"b.py": b"b = 1\n"}, "More")
    assert hub.swap(integration_ref(), new, head)
    assert "is now at" in publish(project, alice, "tutti-work")
    assert "is now at" in publish(project, alice)
    shown = ["git", "--git-dir", forge.root / "team.git", "rev-parse", "main", "tutti-work"]
    assert subprocess.check_output(shown, text=True).split() == [new, new]
    page = client.get(reverse("projects:settings", args=["shop"])).content.decode()
    assert is_nowhere(forge, project, page, wrong.content.decode())


def test_the_api_makes_one(forge, alice, client):
    client.force_login(alice)
    sent = {"name": "shop", "source": f"{forge.url}/team.git", "secret": forge.token,
            "user": forge.user, "plan": PLAN}  # fmt: skip

    def post(**other):
        return client.post("/api/projects", {**sent, **other}, content_type="application/json")

    for bad in ({"secret": "x" * 20_001}, {"plan": "version: 2"}, {"secret": f"{forge.token} x"}):
        refused = post(**bad)
        assert refused.status_code == 422
        assert forge.token not in refused.content.decode() and "xxx" not in refused.content.decode()
    answer = post()
    assert (answer.status_code, answer.json()["slug"], answer.json()["role"]) == (
        200, "shop", "owner",
    )  # fmt: skip
    project = Project.objects.get()
    assert project.plans.get().contracts.count() == 1
    assert is_nowhere(forge, project, answer.content.decode())


@pytest.mark.parametrize("way", ["file", "stdin", "environment"])
def test_the_command_makes_one(forge, alice, way, tmp_path, monkeypatch):
    (tmp_path / "tutti.yaml").write_text(PLAN)
    (tmp_path / "token").write_text(f"{forge.token}\n")
    words = ["shop", "--source", f"{forge.url}/team.git", "--plan", str(tmp_path / "tutti.yaml"),
             "--owner", "alice", "--secret-user", forge.user]  # fmt: skip
    if way == "environment":
        monkeypatch.setenv("TUTTI_SOURCE_SECRET", forge.token)
    else:
        words += ["--secret-file", "-" if way == "stdin" else str(tmp_path / "token")]
    monkeypatch.setattr(sys, "stdin", io.StringIO(forge.token))
    out = io.StringIO()
    call_command("project_create", *words, stdout=out)
    assert "waits for approval" in out.getvalue()
    assert is_nowhere(forge, Project.objects.get(), out.getvalue())


def test_the_command_says_when_a_file_is_missing(forge, alice, tmp_path):
    (tmp_path / "tutti.yaml").write_text(PLAN)
    words = ["shop", "--source", forge.url, "--plan", str(tmp_path / "tutti.yaml"), "--owner",
             "alice", "--secret-file", str(tmp_path / "nothing")]  # fmt: skip
    with pytest.raises(CommandError, match="No such file"):
        call_command("project_create", *words)


@pytest.mark.parametrize(
    ("path", "values", "says"),
    [
        ("/team.git", {"secret": "ghp-another-one"}, "enter another one for this project"),
        ("/team.git", {"secret": "", "secret_user": ""}, "it asks for a token"),
        ("/other.git", {}, "whether the token or key is for this repository"),
        (f"{ELSEWHERE}/team.git", {}, "another address, which is not followed"),
        (f"{TELLING}/team.git", {}, "cannot be read"),
    ],
)
def test_what_a_forge_refuses_is_said_and_leaves_nothing(forge, alice, path, values, says):
    with pytest.raises(Refused, match=says) as refused:
        make(forge, alice, source=forge.url + path, **values)
    assert forge.token not in str(refused.value)
    assert not Project.objects.exists()
    assert not any("/caught" in asked for asked in forge.asked)


def test_a_certificate_that_nobody_trusts_is_refused(forge, alice, monkeypatch):
    monkeypatch.delenv("GIT_SSL_CAINFO")
    with pytest.raises(Refused, match="certificate is not trusted"):
        make(forge, alice)
    assert forge.asked == [] and forge.logins == set()


def test_git_speaks_with_the_address_that_was_looked_at(forge, alice, settings, monkeypatch):
    """A name may mean something else a moment later: git does not look it up again."""

    def found(address):
        row = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, forge.port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [row])

    found("127.0.0.2")
    with pytest.raises(Refused, match="cannot be read"):
        make(forge, alice)
    settings.TUTTI_SOURCE_HOSTS = []
    found("127.0.0.1")
    with pytest.raises(Refused, match=r"private address \(127.0.0.1\)"):
        make(forge, alice, source="https://forge.example/team.git")
    assert forge.asked == []


@pytest.mark.parametrize("source", [
    "http://localhost:{port}/team.git", "git://localhost:{port}/team.git", "ftp://localhost/team",
    "file://{root}/team.git", "ext::sh -c true", "ext://x", "https::https://localhost/x", "{root}",
    "--upload-pack=true",
])  # fmt: skip
def test_other_ways_to_a_repository_are_refused(forge, alice, source, settings):
    settings.TUTTI_SOURCE_ROOTS = [Path("/nowhere")]
    source = source.format(port=forge.port, root=forge.root)
    with pytest.raises(Refused) as refused:
        make(forge, alice, source=source, secret="")
    assert str(refused.value).endswith(".") and not Project.objects.exists()
    assert forge.asked == []


# --- ssh ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host(running, tmp_path_factory):
    """A real sshd on the loopback that lets one key in; its folder holds the keys."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("There is no sshd here: apt-get install openssh-server.")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "deploy", "other"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name]
        subprocess.run(words, check=True)
    shutil.copy(folder / "deploy.pub", folder / "authorized_keys")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    options = {
        "ListenAddress": f"127.0.0.1:{port}", "HostKey": folder / "host", "PidFile": "none",
        "AuthorizedKeysFile": folder / "authorized_keys", "StrictModes": "no", "UsePAM": "no",
        "PasswordAuthentication": "no", "PermitRootLogin": "prohibit-password",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    with subprocess.Popen([program, "-D", "-e", "-f", "/dev/null", *words],
                          stderr=(folder / "log").open("w")) as server:  # fmt: skip
        until(lambda: "listening" in (folder / "log").read_text(), seconds=20)
        yield folder, f"ssh://{getpass.getuser()}@localhost:{port}{running.root}/team.git"
        server.terminate()


def test_a_deploy_key_makes_a_private_project_which_is_published(
    host, alice, client, tutti_home, settings
):
    settings.TUTTI_SOURCE_HOSTS = ["localhost"]
    folder, source = host
    key = (folder / "deploy").read_text()
    port = urlsplit(source).port
    known = f"[localhost]:{port} {(folder / 'host.pub').read_text()}"
    sent = {"name": "shop", "source": source, "branch": "main", "secret": key, "known_hosts": known}
    client.force_login(alice)
    pages = []
    for other, says in (
        ({"known_hosts": known.replace((folder / "host.pub").read_text().split()[1],
                                       (folder / "other.pub").read_text().split()[1])},
         "its host key is not a known one"),
        ({"known_hosts": f"elsewhere {(folder / 'host.pub').read_text()}"},
         "its host key is not a known one"),
        ({"secret": (folder / "other").read_text()}, "refused the token or key"),
    ):  # fmt: skip
        refused = client.post(reverse("projects:new"), {**sent, **other})
        pages.append(refused.content.decode())
        assert refused.status_code == 422 and says in html.unescape(pages[-1]), pages[-1]
    assert client.post(reverse("projects:new"), sent).status_code == 302
    project = Project.objects.get()
    hub = hub_of(project)
    head = hub.head(integration_ref())
    new = hub.commit_files(str(head), {"c.py": b"c = 1\n"}, "By ssh")
    assert hub.swap(integration_ref(), new, head)
    assert "is now at" in publish(project, alice, "by-ssh")
    texts = [*pages, json.dumps(list(Event.objects.values("data")))]
    texts += [file.read_text("latin-1") for file in project.hub_path.rglob("*") if file.is_file()]
    assert not any(key.splitlines()[1] in text for text in texts)
