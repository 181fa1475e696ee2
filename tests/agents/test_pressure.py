"""Real processes use up a small machine: the youngest gives way, and nothing fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from agents.models import Host, Profile, Run
from agents.services import hosts
from agents.services.recovery import check_invariants
from projects import live
from projects.models import Module, SiteEvent
from projects.services.modules import module_pause, module_resume
from projects.services.projects import ceiling_set
from tests.acceptance import stage
from tests.acceptance.stage import Stage
from tests.wait import until

#: Builds what the assignment asks for; `hog` first takes most of the memory that there is.
AGENT = """
import json, pathlib, re, sys, time
kind, prompt, folder = sys.argv[1:]
name = re.search(r"# The module\\n(\\w+):", open(prompt).read())[1]
released = pathlib.Path(folder, "released")
held = []
while kind == "build" and not released.exists():
    if name == "hog" and len(held) < 27:
        held.append(b"x" * 30_000_000)
    time.sleep(0.05)
time.sleep(0.4)
if kind == "build":
    text = pathlib.Path(folder, f"{name}.txt").read_text()
    pathlib.Path(f"{name}.py").write_text(text)
    print(json.dumps({"tutti": {"summary": name}}))
else:
    print(json.dumps({"tutti": {"verdict": "approve", "summary": "Good.", "findings": []}}))
"""
NAMES = ("hog", "ant", "bee", "cat", "dog", "eel")


@pytest.fixture
def small_machine(settings) -> None:
    """900 MB for all agents, of which 200 stay free; an agent is taken to need 50."""
    settings.TUTTI_MEMORY_MB = 900
    settings.TUTTI_MEMORY_FLOOR_MB = 200
    settings.TUTTI_AGENT_MEMORY_MB = 50
    settings.TUTTI_AGENTS_PER_HOST = 4
    settings.TUTTI_CALM_SECONDS = 1


@pytest.fixture
def team(transactional_db, tutti_home, alice, tmp_path, small_machine) -> Stage:
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "agent.py").write_text(AGENT)
    for name in NAMES:
        (folder / f"{name}.txt").write_text(stage.code(name))
    for role, kind in (("executor", "build"), ("orchestrator", "review")):
        command = ["python3", f"{folder}/agent.py", kind, "{prompt_file}", str(folder)]
        settings = {"command": command, "readable": [str(folder)]}
        Profile.objects.create(role=role, backend="command", model="m", settings=settings)
    return Stage(tmp_path, alice, [stage.given(name) for name in NAMES], head={"ceiling": 1})


@contextmanager
def at_work(team: Stage) -> Iterator[None]:
    """Workers and the clock, until all is merged."""
    failed: list[BaseException] = []
    leave = threading.Event()

    def work() -> None:
        try:
            while not leave.wait(0.1) and set(team.statuses().values()) != {"merged"}:
                team.work(seconds=120)
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        leave.set()
        (team.folder / "agent" / "released").touch()
        thread.join(120)
    assert not failed, failed


def read() -> Host:
    found = hosts.host_read(is_due=True)
    assert found is not None
    return found


def pressed() -> list[Run]:
    """Who gave way, as of a new reading."""
    read()
    return builds("interrupted")


def all_merged(team: Stage) -> bool:
    read()
    return set(team.statuses().values()) == {"merged"}


def builds(*statuses: str) -> list[Run]:
    rows = Run.objects.filter(kind="build", status__in=statuses).order_by("started_at", "pk")
    return list(rows.select_related("module"))


def test_the_youngest_gives_way_and_all_ends_well(team) -> None:
    assert read().capacity == 4
    team.approve()
    later = list(Module.objects.filter(project=team.project).exclude(slug="hog"))
    by = live.Actor.person(team.owner)
    for module in later:
        module_pause(module, by)
    with at_work(team):
        until(lambda: builds("running"), what="the first agent")
        assert [run.module.slug for run in builds("running")] == ["hog"]
        for module in later:
            module_resume(module, by)
        ceiling_set(project=team.project, ceiling=3, by=team.owner)
        until(lambda: len(builds("running")) == 3, what="three agents")
        youngest = builds("running")[-1]

        until(pressed, seconds=60, what="one that gives way")
        (yielded,) = builds("interrupted")
        assert yielded.pk == youngest.pk
        assert (yielded.reason_kind, yielded.reason_owner) == ("memory", "tutti")
        assert "ran short" in yielded.reason
        host = Host.objects.get()
        assert host.capacity in (0, 1, 2) and host.check_slots == 1
        module = Module.objects.get(slug=yielded.module.slug)
        assert (module.failures, module.paused_at, module.status) == (0, None, "building")
        (team.folder / "agent" / "released").touch()
        until(lambda: all_merged(team), seconds=90, what="all merged", every=0.2)
    assert not Run.objects.filter(status__in=["failed", "stalled", "cancelled"]).exists()
    assert len(team.runs("hog", "build")) == 1
    assert team.runs("hog", "build")[0].memory_peak_mb > 700
    assert check_invariants() == []

    until(lambda: read().capacity == 4, seconds=30, what="the old capacity")
    steps = [(row.data["before"], row.data["after"]) for row in
             SiteEvent.objects.filter(kind="host.capacity").order_by("number")]  # fmt: skip
    assert steps[0] == (None, 4)
    assert all(after == before + 1 for before, after in steps[1:] if after > before)
    lowest = min(after for _, after in steps)
    assert [after for _, after in steps][-(4 - lowest) :] == list(range(lowest + 1, 5))
