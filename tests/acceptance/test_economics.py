"""The figures of a finished plan: the same by rows, by the record alone, on the page and told."""

from __future__ import annotations

import errno
import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from agents import figures, record, simulation, turns
from agents.economics import economics, history
from agents.models import Run
from projects import live
from projects.models import Plan
from projects.services.modules import module_cancel, module_retry
from projects.services.projects import ceiling_set
from tests.acceptance.stage import APPROVE, STUB, Stage, Turn, code, given, need, part, verdict
from tests.acceptance.test_s10_split import big

#: Two plans of whole jobs, on a machine that may have much else to do.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def finished(team) -> Stage:
    """Five modules with a chain, a lane, a refused turn, a fix, and a split into two."""
    modules = [
        part("a"),
        part("b", needs=[need("a", "implementation")]),
        part("c", lane="x"),
        part("d", lane="x", needs=[need("a", "contract")]),
        part("e"),
    ]
    stage: Stage = team(
        *modules, files={"f.py": STUB}, ceiling=2, checks=[{"run": "true", "at": "end"}]
    )
    stage.play("a", "build", Turn({"a.py": "def answer(:"}), Turn({"a.py": code("a")}))
    stage.play("c", "review", verdict("fix", c="Mend it."), APPROVE)
    stage.play("c", "fix", Turn({"c.py": code("c") + "\n# Mended.\n"}, {"summary": "Mended."}))
    stage.run()
    assert set(stage.statuses().values()) == {"merged"}
    assert stage.plan.finished_at is not None
    return stage


def exported(stage: Stage, folder: Path) -> Path:
    out = StringIO()
    call_command("audit_export", stage.slug, stdout=out)
    path = folder / "events.jsonl"
    path.write_text(out.getvalue())
    return path


def told(stage: Stage, *arguments: str) -> list[str]:
    out = StringIO()
    call_command("economics", stage.slug, *arguments, stdout=out)
    return out.getvalue().splitlines()


def test_every_way_tells_the_same_numbers(finished: Stage, client, tmp_path):
    assert_told_apart(finished)
    assert_same_from_the_record(finished, tmp_path)
    assert_same_on_the_page(finished, client)
    assert_within_bounds(finished)


def assert_same_from_the_record(finished: Stage, tmp_path: Path) -> None:
    by_rows = figures.facts(finished.plan)
    path = exported(finished, tmp_path)
    by_record = record.facts(record.read_file(path), project=finished.slug)
    assert by_record == by_rows
    assert economics(by_record) == economics(by_rows)
    first, second = tmp_path / "rows.json", tmp_path / "record.json"
    rows = told(finished, "--json", str(first))
    assert told(finished, "--json", str(second), "--from-export", str(path)) == rows
    assert json.loads(first.read_text()) == json.loads(second.read_text())
    assert len(json.loads(first.read_text())["runs"]) == Run.objects.count()


def assert_told_apart(finished: Stage) -> None:
    found = figures.figures(finished.plan)
    assert found.is_replayed and found.by_purpose["fix"].runs == 1
    # The second turn of a's build, and the second review of c.
    assert found.by_purpose["rework"].runs == 2
    assert found.by_purpose["rework"].tokens == 220 and found.rework.tokens == 330
    assert found.total.tokens == sum(s.tokens for s in found.by_role.values()) == 110 * 18
    assert found.total.cost is None and found.total.unpriced == 17


def assert_within_bounds(finished: Stage) -> None:
    facts = figures.facts(finished.plan)
    found = economics(facts)
    assert 0 < found.bound.seconds <= found.wall_clock
    assert found.what_if[20] <= found.what_if[2] <= found.what_if[1]
    assert found.bound.seconds <= simulation.wall_clock(history(facts), 2)
    ceiling_set(project=finished.project, ceiling=4, by=finished.owner)
    assert figures.facts(finished.plan).ceiling == 2


def assert_same_on_the_page(finished: Stage, client: Client) -> None:
    client.force_login(finished.owner)
    html = client.get(reverse("agents:economics", args=[finished.slug])).content.decode()
    line = told(finished)[-1]
    answer = client.get(f"/api/projects/{finished.slug}/economics").json()
    assert answer["summary"] == line
    totals = answer["totals"]
    for name, key in (("wall", "wall_seconds"), ("sequential", "sequential_seconds"),
                      ("bound", "bound_seconds")):  # fmt: skip
        shown = html.split(f'<b id="{name}">')[1].split(" s<")[0]
        assert f"{totals[key]:.1f}" == shown and f"{shown} s" in line
    speed_up = html.split('<b id="speed-up">')[1].split(" ")[0]
    assert line.endswith(f"speed-up {speed_up}")
    assert line.startswith("5 of 5 modules merged in ")
    assert "a replay says nothing about tokens" in html
    assert figures.summary(finished.plan).sequential_seconds == pytest.approx(
        figures.figures(finished.plan).sequential
    )


def test_parts_of_a_split_are_in_rows_and_record(team, tmp_path):
    stage = big(team)
    stage.run()
    by_rows = figures.facts(stage.plan)
    by_record = record.facts(record.read_file(exported(stage, tmp_path)), project=stage.slug)
    assert by_record == by_rows
    assert [spec.slug for spec in by_rows.specs] == ["big", "big/x", "big/y"]


def test_a_second_plan_has_figures_of_its_own(finished: Stage, tmp_path):
    stage = finished
    stage.play_all("f")
    modules = [*stage.modules, part("f")]
    stage.plan = stage.submit(modules, ceiling=3)
    stage.run()
    path = exported(stage, tmp_path)
    events = record.read_file(path)
    for number in (1, 2):
        plan = figures.plan_shown(stage.project, number)
        assert plan is not None
        assert record.facts(events, project=stage.slug, number=number) == figures.facts(plan)
    assert told(stage, "--plan", "1")[-1].startswith("5 of 5 modules")
    assert told(stage)[-1].startswith("6 of 6 modules")


def test_what_begins_again_is_in_rows_and_record(team, tmp_path):
    stage = team(given("a"), given("b"), ceiling=2)
    stage.approve()
    module_cancel(stage.module("b"), live.SYSTEM)
    stage.work()
    ceiling_set(project=stage.project, ceiling=4, by=stage.owner)
    assert_equal_by_rows_and_record(stage, tmp_path, ceiling=2)
    module_retry(stage.module("b"), live.SYSTEM)
    assert_equal_by_rows_and_record(stage, tmp_path, ceiling=4)
    stage.work()
    assert stage.statuses() == {"a": "merged", "b": "merged"}
    assert_equal_by_rows_and_record(stage, tmp_path, ceiling=4)


def test_what_a_newer_plan_dropped_begins_again_in_that_one(team, tmp_path):
    stage = team(given("a"), given("b"), checks=[{"run": "true", "at": "end"}])
    stage.approve()
    module_cancel(stage.module("b"), live.SYSTEM)
    stage.work()
    first, finished = stage.plan, stage.plan.finished_at
    stage.plan = stage.submit([stage.modules[0]], goal="Less.")
    stage.run()
    module_retry(stage.module("b"), live.SYSTEM)
    stage.plan.refresh_from_db()
    assert stage.plan.finished_at is None, "the checks at the end say again whether all is done"
    stage.work()
    first.refresh_from_db()
    assert first.finished_at == finished and stage.plan.finished_at is not None
    assert stage.statuses() == {"a": "merged", "b": "merged"}
    assert len(stage.project.runs.filter(plan=stage.plan, kind="finish")) == 2


def test_what_tutti_failed_itself_makes_no_rework(team, tmp_path, monkeypatch):
    stage = team(given("a"), ceiling=2)
    full = iter([OSError(errno.ENOSPC, "No space left on device")])
    checkpoint = turns.checkpoint

    def checkpoint_on_full_disk(*args, **values):
        for error in full:
            raise error
        return checkpoint(*args, **values)

    monkeypatch.setattr(turns, "checkpoint", checkpoint_on_full_disk)
    stage.run()
    stage.project.modules.update(not_before=None)
    stage.work()
    assert stage.statuses() == {"a": "merged"}
    assert [run.reason_owner for run in stage.runs("a", "build")] == ["tutti", ""]
    assert "rework" not in figures.figures(stage.plan).by_purpose
    assert_equal_by_rows_and_record(stage, tmp_path, ceiling=2)


def assert_equal_by_rows_and_record(stage: Stage, folder: Path, *, ceiling: int) -> None:
    by_rows = figures.facts(Plan.objects.get(pk=stage.plan.pk))
    by_record = record.facts(record.read_file(exported(stage, folder)), project=stage.slug)
    assert by_record == by_rows and by_rows.ceiling == ceiling


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not json\n", "Line 1 of"),
        ('{"number": 1}\n', "Line 1 of"),
        ("", "tells of no approved plan"),
        ('{"number": 1, "kind": "plan.approved", "at": "x", "topic": "", "data": {}}\n',
         "lacks what the figures need"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_export_is_told(tmp_path, text, said):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(CommandError, match=said):
        call_command("economics", "shop", "--from-export", str(path))


def test_what_is_not_there_is_told(team, tmp_path):
    stage = team(part("a"))
    stage.approve()
    with pytest.raises(CommandError, match="There is no project nowhere"):
        call_command("economics", "nowhere")
    with pytest.raises(CommandError, match="has no approved plan 7 yet; approved are: 1"):
        call_command("economics", stage.slug, "--plan", "7")
    with pytest.raises(CommandError, match="can't be read"):
        call_command("economics", "shop", "--from-export", str(tmp_path / "none"))
