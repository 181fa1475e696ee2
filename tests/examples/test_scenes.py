from __future__ import annotations

import json

import pytest

from agents.backends import recordings
from examples.boltons.scenes import children
from examples.library import Library
from examples.record import Studio
from examples.tree import git

SCENES = [
    "green_before_code",
    "not_done",
    "merge_red",
    "orchestrator_fixes",
    "rebuild",
    "outside_paths",
    "nothing_done",
    "test_touched",
    "exception",
    "split",
]


def test_all_scenes_are_there_in_their_order(boltons):
    assert recordings.scene_names(boltons.prepared.recordings) == SCENES


@pytest.mark.parametrize("leave_out", [[], ["split", "not_done"], ["merge_red", "rebuild"]])
def test_every_subset_of_scenes_ends_in_the_true_source(boltons, leave_out):
    slugs = [module["slug"] for module in boltons.library.modules]
    for slug in [*slugs, "tracing/tbutils", "tracing/debugutils"]:
        for path in boltons.turns(slug, "tests", leave_out):
            boltons.play(path)
        boltons.mark("tests")
        for kind in ("fix", "build"):
            for path in boltons.turns(slug, kind, leave_out):
                boltons.play(path)

    paths = [*boltons.library.owned, *boltons.library.all_tests]
    assert [path for path in paths if not boltons.same(path)] == []
    assert boltons.same("docs/jsonutils.rst") == ("exception" not in leave_out)


def test_a_test_that_is_green_before_any_code(boltons):
    boltons.scene("green_before_code", "listutils.tests.1")
    assert boltons.green("listutils")

    boltons.base("listutils.tests.1")
    assert not boltons.green("listutils")
    assert boltons.same("tests/test_listutils.py")


def test_code_that_is_green_but_not_done(boltons):
    boltons.put_tests("strutils")
    boltons.scene("not_done", "strutils.build.1")

    assert boltons.green("strutils")
    assert "boltons.strutils.bytes2human(nbytes, ndigits=0)" in _provides(boltons, "strutils")
    done = boltons.run("python -c 'import boltons.strutils; boltons.strutils.bytes2human(1)'")
    assert "NotImplementedError" in done.stderr


def test_a_rename_is_green_alone_and_red_on_the_merged_tree(boltons):
    at_merge = boltons.library.plan["project"]["checks"][0]["run"]
    assert boltons.run(at_merge).returncode == 0
    boltons.put_tests("strutils")
    boltons.scene("merge_red", "strutils.build.1")
    assert boltons.green("strutils")
    assert not any("removeprefix" in line for line in _provides(boltons, "strutils"))

    done = boltons.run(at_merge)
    assert done.returncode != 0
    assert "cannot import name 'removeprefix'" in done.stdout

    boltons.base("strutils.build.1")
    assert boltons.run(at_merge).returncode == 0
    assert boltons.green("strutils")


def test_a_small_error_that_the_orchestrator_fixes(boltons):
    boltons.put_tests("queueutils")
    boltons.take("boltons/listutils.py")
    boltons.scene("orchestrator_fixes", "queueutils.build.1")
    boltons.mark("build")
    assert boltons.green("queueutils")
    review = boltons.scene("orchestrator_fixes", "queueutils.review.1")
    _assert_findings_point_at_bodies_that_are_missing(boltons, review, "fix")

    boltons.scene("orchestrator_fixes", "queueutils.fix.1")
    assert boltons.same("boltons/queueutils.py")
    added, removed, _ = git(boltons.clone, "diff", "--numstat").split(maxsplit=2)
    assert int(added) + int(removed) <= 20


def test_an_error_that_is_too_large_to_mend(boltons):
    boltons.put_tests("timeutils")
    boltons.scene("rebuild", "timeutils.build.1")
    assert boltons.green("timeutils")
    review = boltons.scene("rebuild", "timeutils.review.1")
    _assert_findings_point_at_bodies_that_are_missing(boltons, review, "rebuild")


def test_an_edit_outside_the_owned_paths_is_taken_back(boltons):
    boltons.scene("outside_paths", "fileutils.build.1")
    assert _changed(boltons) == {"boltons/fileutils.py", "boltons/strutils.py"}

    boltons.scene("outside_paths", "fileutils.build.2")
    assert _changed(boltons) == {"boltons/fileutils.py"}
    assert boltons.same("boltons/fileutils.py")


def test_an_edit_outside_is_taken_back_when_the_base_has_moved(boltons):
    boltons.take("boltons/strutils.py")
    boltons.mark("base")
    boltons.scene("outside_paths", "fileutils.build.1")
    assert not boltons.same("boltons/strutils.py")
    boltons.scene("outside_paths", "fileutils.build.2")
    assert boltons.same("boltons/strutils.py")


def test_an_agent_that_does_nothing(boltons):
    boltons.scene("nothing_done", "gcutils.build.1")
    assert _changed(boltons) == set()


def test_a_touched_test_is_put_back(boltons):
    boltons.put_tests("tracing")
    boltons.scene("test_touched", "tracing~debugutils.build.1")
    assert not boltons.same("tests/test_debugutils_trace.py")

    boltons.scene("test_touched", "tracing~debugutils.build.2")
    assert boltons.same("tests/test_debugutils_trace.py")
    assert boltons.run(boltons.library.module("tracing")["checks"][1]).returncode == 0


def test_an_exception_is_asked_for_before_it_is_used(boltons):
    asked = boltons.scene("exception", "jsonutils.build.1")["exception"]
    assert asked["paths"] == ["docs/jsonutils.rst"]
    assert asked["reason"]
    assert _changed(boltons) == set()
    boltons.scene("exception", "jsonutils.build.2")
    assert _changed(boltons) == {"boltons/jsonutils.py", "docs/jsonutils.rst"}


def test_a_split_covers_the_files_of_its_parent(boltons):
    parts = boltons.scene("split", "tracing.build.1")["split"]["modules"]
    parent = boltons.library.module("tracing")
    assert sorted(path for part in parts for path in part["owns"]) == sorted(parent["owns"])
    assert [part["slug"] for part in parts] == ["tracing/tbutils", "tracing/debugutils"]
    for part in parts:
        assert part["tests"]["given"] and part["tests"]["paths"]
        assert boltons.turns(part["slug"], "build")
        assert boltons.turns(part["slug"], "review")


def test_the_proposed_plan_is_the_one_that_ships(boltons):
    (path,) = boltons.turns("project", "decompose")
    assert recordings.read(path).result == {"plan": boltons.library.plan}


def test_recordings_have_plausible_times_and_tokens(boltons):
    files = list(boltons.prepared.recordings.rglob("*.jsonl"))
    played = [recordings.read(path) for path in files]
    for recording in played:
        times = [event["at"] for event in recording.events]
        assert times == sorted(times)
        assert recording.seconds <= 10
        (usage,) = [event for event in recording.events if event["event"] == "usage"]
        assert usage["input_tokens"] > 0 and usage["output_tokens"] > 0
        assert recording.events[-1]["event"] == "exit"
    assert 240 <= sum(recording.seconds for recording in played) <= 360


def test_recordings_are_the_same_each_time(boltons, tmp_path):
    studio = Studio(Library.load("boltons"), boltons.prepared.upstream, boltons.prepared.repo)
    again = studio.build(studio.library.module("gcutils")).save(tmp_path, number=1, scene=None)
    assert again.read_bytes() == boltons.turns("gcutils", "build")[-1].read_bytes()
    assert json.dumps(children(studio)) == json.dumps(children(studio))


def _provides(stage, slug):
    return stage.library.module(slug)["provides"]


def _changed(stage):
    git(stage.clone, "add", "--all", "--force")
    return set(git(stage.clone, "diff", "--name-only", "refs/tutti/base").split())


def _assert_findings_point_at_bodies_that_are_missing(stage, review, verdict):
    assert review["verdict"] == verdict
    assert review["summary"]
    for finding in review["findings"]:
        lines = (stage.clone / finding["path"]).read_text().splitlines()
        assert lines[finding["line"] - 1].lstrip().startswith("def ")
        following = lines[finding["line"] : finding["line"] + 40]
        assert any(line.strip() == "raise NotImplementedError" for line in following)
