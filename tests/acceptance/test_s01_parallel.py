"""Independent modules are worked on at the same time, never by more runs than the ceiling."""

from __future__ import annotations

import json
import subprocess
import sys

from agents.figures import figures
from agents.models import Run
from config import embedded
from tests.acceptance.stage import Stage, Turn, code, given, overlaps, part, proof

NAMES = ("a", "b", "c")


def slow(stage: Stage) -> Stage:
    for name in NAMES:
        stage.play(name, "tests", Turn({f"tests/test_{name}.py": proof(name)}, seconds=0.3))
        stage.play(name, "build", Turn({f"{name}.py": code(name)}, seconds=0.3))
    return stage


def most_held(stage: Stage) -> int:
    """The most slots that were held at one moment, as the project's events tell it."""
    agents = set(stage.project.runs.filter(needs_slot=True).values_list("pk", flat=True))
    held: set[int] = set()
    most = 0
    for event in stage.project.events.filter(kind__startswith="run.").order_by("number"):
        run = event.data["run"]
        if event.kind in ("run.queued", "run.resumed") and run in agents:
            held.add(run)
        elif event.kind not in ("run.started", "run.stop"):
            held.discard(run)
        most = max(most, len(held))
    return most


def test_many_at_once_make_what_one_after_the_other_makes(team):
    modules = [part(name) for name in NAMES]
    wide, narrow = slow(team(*modules, ceiling=2)), slow(team(*modules, ceiling=1))
    wide.run()
    narrow.run()
    for stage in (wide, narrow):
        assert set(stage.statuses().values()) == {"merged"}
        assert stage.plan.finished_at is not None
    builds = Run.objects.filter(project=wide.project, kind__in=["tests", "build"])
    assert overlaps(list(builds)) >= 2
    assert (most_held(wide), most_held(narrow)) == (2, 1)
    assert wide.hub.tree(wide.merged_head) == narrow.hub.tree(narrow.merged_head)
    assert (
        figures(wide.plan).total.tokens == figures(narrow.plan).total.tokens == 110 * 3 * len(NAMES)
    )


def test_the_command_runs_a_plan_with_processes_of_its_own(team, service_env, tmp_path):
    stage = team(given("a"), given("b"))
    command = ["project_run", stage.slug, "--approve-as", "alice", "--ceiling", "2", "--wait"]
    written = tmp_path / "runs.json"
    done = subprocess.run(
        [sys.executable, "manage.py", *command, "--json", str(written)],
        cwd=embedded.CHECKOUT,
        env={**service_env, "TUTTI_SOURCE_ROOTS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 modules merged in " in done.stdout
    told = json.loads(written.read_text())
    assert told["ceiling"] == 2
    assert told["totals"]["merged"] == 2
    assert {run["kind"] for run in told["runs"] if run["module"] == "a"} == {
        "tests", "build", "review", "merge",
    }  # fmt: skip
    assert stage.merged_file("a.py") == code("a")
