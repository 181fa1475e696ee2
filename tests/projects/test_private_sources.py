"""The server's git reaches public hosts and listed ones, with a credential that shows nowhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from projects import addresses, credentials, git, sources
from projects.credentials import Credential
from projects.git import GitError
from projects.hub import Hub

TOKEN = "ghp-known-to-nobody-else"
PRIVATE_KEY = "-----BEGIN KEY-----\nknown-to-nobody-else\n-----END KEY-----"
# Writes down what it is given, and then serves the repository as ssh would.
SSH = """#!/bin/sh
printf '%s\\n' "$@" > {log}
for word in "$@"; do [ "$before" = -i ] && cp "$word" {log}.key; before=$word; done
env > {log}.env
for last; do :; done
exec sh -c "$last"
"""


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """Put a stand-in for ssh first on the server's PATH; returns the file with its words."""
    log = tmp_path / "bin" / "log"
    log.parent.mkdir()
    program = log.with_name("ssh")
    program.write_text(SSH.format(log=log))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{log.parent}:{git.environment()['PATH']}")
    return log


@pytest.fixture
def repository(tmp_path):
    path = tmp_path / "team"
    identity = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
    first = [*identity, "commit", "-q", "--allow-empty", "-m", "x"]
    for words in (["init", "-q", "-b", "main", str(path)], ["-C", str(path), *first]):
        subprocess.run(["git", *words], check=True)
    return path


@pytest.mark.parametrize("url", [
    "https://127.0.0.1/x", "https://2130706433/x", "https://0x7f.1/x", "https://017700000001/x",
    "https://localhost/x", "https://0.0.0.0/x", "https://10.1.2.3/x", "https://192.168.0.9/x",
    "https://172.16.5.5/x", "https://100.64.0.1/x", "https://169.254.169.254/latest/meta-data",
    "https://[::1]/x", "https://[::]/x", "https://[fe80::1]/x", "https://[fd00::1]/x",
    "https://[::ffff:127.0.0.1]/x", "https://[::ffff:7f00:1]/x", "https://[64:ff9b::7f00:1]/x",
    "https://[2002:7f00:1::]/x", "https://224.0.0.1/x", "https://255.255.255.255/x",
    "ssh://127.0.0.1/x", "ssh://git@10.0.0.1:2222/x", "git@127.0.0.1:team/x", "localhost:x",
    "https://user:secret@127.0.0.1/x",
])  # fmt: skip
def test_private_addresses_are_refused(url, settings):
    settings.TUTTI_SOURCE_HOSTS = ["forge.example"]
    with pytest.raises(GitError, match=r"private address|there is no host") as caught:
        sources.branches(sources.parse(url, []))
    assert "secret" not in str(caught.value)


def test_the_sentence_says_what_an_admin_does():
    with pytest.raises(GitError, match="an admin adds localhost to TUTTI_SOURCE_HOSTS"):
        addresses.reachable("localhost", 443, "https://localhost/x")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_public(address):
    assert addresses.is_public(address)


def test_a_listed_host_is_fetched_by_ssh_with_the_projects_key(ssh, repository, tmp_path, settings):
    settings.TUTTI_SOURCE_HOSTS = ["localhost"]
    credential = Credential(
        "key", "localhost", PRIVATE_KEY, known_hosts="localhost ssh-ed25519 AAA"
    )
    source = f"ssh://git@localhost{repository}"
    with credentials.using(credential):
        hub = Hub.create(tmp_path / "hub.git", source, "", roots=[])
    assert hub.head("refs/tutti/source/main")
    words = ssh.read_text().split("\n")
    assert "-oStrictHostKeyChecking=yes" in words
    assert "-oIdentitiesOnly=yes" in words
    assert "-oHostKeyAlias=localhost" in words
    assert any(word.startswith("-oHostName=") for word in words)
    assert any(word.startswith("-oUserKnownHostsFile=") for word in words)
    assert ssh.with_name("log.key").read_text() == PRIVATE_KEY + "\n"
    assert "known-to-nobody-else" not in ssh.read_text() + ssh.with_name("log.env").read_text()
    key = Path(words[words.index("-i") + 1])
    assert not key.exists()


def test_a_key_is_for_its_host_alone():
    with credentials.using(Credential("key", "forge.example", PRIVATE_KEY)):
        assert "-i" in credentials.ssh("forge.example", 22, "8.8.8.8")["GIT_SSH_COMMAND"]
        assert "-i" not in credentials.ssh("other.example", 22, "8.8.8.8")["GIT_SSH_COMMAND"]
        assert "GIT_ASKPASS" not in credentials.https("forge.example", 443, "8.8.8.8")
    assert "-i" not in credentials.ssh("forge.example", 22, "8.8.8.8")["GIT_SSH_COMMAND"]


def test_a_token_is_told_to_git_when_it_asks_and_shows_nowhere():
    with credentials.using(Credential("token", "forge.example", TOKEN, user="robot")):
        told = credentials.https("forge.example", 443, "2001:db8::1")
        assert told["GIT_CONFIG_VALUE_0"] == "forge.example:443:[2001:db8::1]"
        asked = "protocol=https\nhost=forge.example\n\n"
        done = git.run("credential", "fill", input=asked.encode(), env=told).text.splitlines()
        assert {"username=robot", f"password={TOKEN}"} <= set(done)
        assert TOKEN not in Path(told["GIT_ASKPASS"]).read_text()
        assert Path(told["GIT_ASKPASS"]).stat().st_mode & 0o077 == 0
        assert "GIT_ASKPASS" not in credentials.https("other.example", 443, "8.8.8.8")
    assert not Path(told["GIT_ASKPASS"]).exists()
    assert TOKEN not in repr(Credential("token", "forge.example", TOKEN))
