"""No way out of the sandbox works; without its walls the same ways do."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings

from agents import confinement, sandbox
from agents.escape_scene import host_facts, scene
from agents.escapes import ESCAPES, Escape

confined_only = pytest.mark.skipif(
    sandbox.level() != sandbox.BUBBLEWRAP, reason="bubblewrap does not work on this host"
)
#: Ways that must work where nothing confines: else they would be held for no merit of the walls.
OPEN_OTHERWISE = {
    "other-clone-read", "other-clone-write", "other-clone-relative", "other-home-read",
    "hub-objects-read", "hub-ref-write", "hub-push", "other-hub-read", "key-files", "host-tmp",
    "symlink-out", "program-write", "environment-write", "all-environments", "signal",
    "pid-handle", "socket-by-path", "abstract-socket-check", "loopback-check", "planted-filter",
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory, services):
    path = tmp_path_factory.mktemp("home")
    (path / "hubs").mkdir()
    with override_settings(TUTTI_HOME=path):
        yield path


@pytest.fixture(scope="module")
def made(home):
    with scene() as made:
        yield made


@confined_only
@pytest.mark.parametrize("escape", ESCAPES, ids=lambda escape: escape.name)
def test_bubblewrap_holds(made, escape):
    verdict = made.attempt(escape)
    assert verdict.held, verdict.line
    assert verdict.line.endswith("held")


def test_every_way_has_a_name_of_its_own():
    assert len({escape.name for escape in ESCAPES}) == len(ESCAPES) >= 40


def test_the_same_ways_work_without_walls(home, monkeypatch):
    monkeypatch.setenv("TUTTI_SANDBOX_LEVEL", "unconfined")
    with scene() as open_made:
        chosen = [escape for escape in ESCAPES if escape.name in OPEN_OTHERWISE]
        held = {e.name for e in chosen if open_made.attempt(e).held}
    assert len(chosen) == len(OPEN_OTHERWISE)
    assert held == set()


def test_a_risky_way_counts_as_open_where_nothing_confines(made, monkeypatch):
    monkeypatch.setenv("TUTTI_SANDBOX_LEVEL", "unconfined")
    risky = next(escape for escape in ESCAPES if escape.name == "signal-all")
    assert made.attempt(risky).breaches == ("nothing would stop it here; not tried",)


def test_an_attempt_with_a_mistake_in_it_proves_nothing(made):
    verdict = made.attempt(Escape("typo", "test", "make a mistake", "no_such_name()"))
    assert not verdict.held
    assert "NameError" in verdict.line


@confined_only
def test_learning_the_secret_is_noticed(made):
    told = Escape("told", "test", "be told", f"print({made.canary!r})")
    assert made.attempt(told).breaches == ("it learned a secret",)
    assert made.attempt(replace(told, code="got('out')")).breaches == ("out",)


@confined_only
def test_the_command_tells_each_way_and_the_host(home):
    out = io.StringIO()
    call_command("sandbox_test", only="hand-over", stdout=out)
    ways, facts = out.getvalue().split("\n\nOn this host:\n")
    assert all(line.endswith(" ... held") for line in ways.splitlines())
    assert "level: bubblewrap" in facts
    assert facts.endswith(" held.\n")


def test_the_command_fails_when_something_got_out(home, monkeypatch):
    monkeypatch.setenv("TUTTI_SANDBOX_LEVEL", "unconfined")
    with pytest.raises(CommandError, match="1 got out"):
        call_command("sandbox_test", only="key-files", stdout=io.StringIO())


def test_an_unknown_way_names_the_groups(home):
    with pytest.raises(CommandError, match="files, git, hand-over, kernel"):
        call_command("sandbox_test", only="nonsense")


def test_nothing_starts_unconfined_unless_an_admin_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTTI_SANDBOX_LEVEL", "unconfined")
    monkeypatch.delenv("TUTTI_ALLOW_UNCONFINED", raising=False)
    with pytest.raises(PermissionError, match="set TUTTI_ALLOW_UNCONFINED=yes"):
        sandbox.run(["/bin/true"], workspace=tmp_path)
    assert "do not start" in dict(host_facts())["runs"]
    monkeypatch.setenv("TUTTI_ALLOW_UNCONFINED", "yes")
    assert confinement.refusal() is None
    assert sandbox.run(["/bin/true"], workspace=tmp_path).level == "unconfined"
