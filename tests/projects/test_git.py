from __future__ import annotations

import os
import time

import pytest

from projects import git
from projects.git import GitError
from tests.living import left_behind


def test_an_error_is_a_sentence_with_gits_own_reason(tmp_path):
    with pytest.raises(GitError, match=r"git rev-parse failed: not a git repository") as caught:
        git.run("rev-parse", "HEAD", repo=tmp_path)
    assert caught.value.code == 128


def test_output_may_be_capped():
    found = git.run("hash-object", "--stdin", input=b"x" * 5_000_000)
    assert git.is_sha(found.text)
    assert git.run("help", "-a", max_bytes=100).truncated


def test_a_command_that_hangs_is_ended_with_its_helpers(tmp_path):
    script = tmp_path / "ssh"
    script.write_text("#!/bin/sh\n/bin/sh -c 'sleep 98711; :' \"$0\"\n")
    script.chmod(0o755)
    began = time.monotonic()
    with pytest.raises(GitError, match=r"longer than 0\.5 s"):
        git.run("ls-remote", "ssh://example.invalid/x", timeout=0.5,
                env={"GIT_SSH_COMMAND": str(script)})  # fmt: skip
    assert time.monotonic() - began < 20
    assert left_behind(script) == []


def test_the_environment_is_a_closed_list(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "secret")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("GIT_SSH_COMMAND", "touch /tmp/pwned")
    found = git.environment()
    assert "DATABASE_URL" not in found
    assert "GIT_DIR" not in found
    assert "StrictHostKeyChecking" in found["GIT_SSH_COMMAND"]
    assert set(git.environment(inside=True)) <= set(found)


def test_the_users_own_configuration_is_not_read(tmp_path, monkeypatch):
    (tmp_path / ".gitconfig").write_text("[alias]\n\tversion = !touch pwned\n[user]\n\tname = x\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "name=x" not in git.run("config", "--list").text


@pytest.mark.parametrize("url", ["ext::sh -c touch% x", "file:///etc", "git://x/y", "http://x/y"])
def test_other_protocols_than_https_and_ssh_are_refused(url):
    with pytest.raises(GitError, match=r"not allowed|refused|failed"):
        git.run("ls-remote", "--", url, timeout=5)


@pytest.mark.parametrize(
    "name", ["refs/heads/main", "refs/heads/tutti/1/parent+child", "refs/tutti/base"]
)
def test_plain_full_names_are_refs(name):
    assert git.check_ref(name) == name


@pytest.mark.parametrize(
    "name",
    ["main", "-x", "refs/heads/-x", "refs/heads/a..b", "refs/heads/a.lock", "refs/heads/.a",
     "refs/heads/a b", "refs/heads/a~1", "refs/heads/a^", "refs/heads/a:b", "refs/heads/@{u}",
     "refs/heads/", "refs//x/y", "refs/heads/x\n", "refs/heads/" + "a" * 300, "refs/heads/\0",
     "refs/heads/é", "../refs/heads/x", "refs/heads/@"],
)  # fmt: skip
def test_anything_else_is_none(name):
    with pytest.raises(GitError, match="ref name"):
        git.check_ref(name)


@pytest.mark.parametrize("sha", ["HEAD", "a" * 39, "A" * 40, "--help", "a" * 40 + "\n", ""])
def test_only_full_object_names_are_commits(sha):
    with pytest.raises(GitError, match="commit id"):
        git.check_sha(sha)


def test_passwords_in_addresses_are_not_shown():
    assert git.redact("fatal: https://me:secret@host/x") == "fatal: https://…@host/x"
    assert git.plain_url("https://me:secret@host/x") == "https://host/x"


def test_a_missing_git_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    with pytest.raises(GitError, match="install git"):
        git.run("--version")
