"""Tests come first, and they prove something: collected, red, and locked from then on."""

from __future__ import annotations

from reviews.models import CheckResult
from tests.acceptance.stage import Turn, check, code, given, part, proof

GREEN = "import unittest\n\n\nclass T(unittest.TestCase):\n    def test(self):\n        pass\n"
TEST = "tests/test_a.py"


def test_what_proves_nothing_is_refused_and_then_locked(team):
    stage = team(part("a"))
    broken = "import unittest\nimport nothing_like_this\n" + proof("a")
    early = Turn({TEST: GREEN}), Turn({TEST: broken}), Turn({TEST: proof("a")}, {"outline": "Do."})
    stage.play("a", "tests", *early)
    stage.run()
    green, collection = stage.findings("a", "red")
    assert "is green before any code was written" in green.message
    assert "could not load its tests" in collection.message
    kinds = CheckResult.objects.filter(phase="red").order_by("pk").values_list("kind", flat=True)
    assert [str(kind) for kind in kinds] == ["passed", "collection_error", "error"]
    (run,) = stage.runs("a", "tests")
    assert "is green before any code was written" in run.assignments[1]["text"]

    module = stage.module("a")
    assert list(module.locked_tests) == [TEST]
    assert module.locked_tests[TEST] == stage.hub.blobs(stage.merged_head)[TEST]
    (building,) = stage.events("module.building")
    assert building.data["reason"].startswith("Red as it should be")
    sent = stage.runs("a", "build")[0].assignments[0]["text"]
    assert f"(locked)\n{TEST}" in sent
    assert "Do." in sent
    began = stage.runs("a", "build")[0].base_commit
    assert stage.hub.read(module.tests_commit, TEST) == proof("a").encode()
    assert stage.hub.is_ancestor(module.tests_commit, began)


def test_the_planner_writes_tests_only(team):
    stage = team(part("a"))
    both = Turn({TEST: proof("a"), "a.py": code("a")})
    stage.play("a", "tests", both, Turn(restore={"a.py": "refs/tutti/base"}))
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    (found,) = stage.findings("a")
    assert (found.source, found.path) == ("ownership", "a.py")


def test_given_tests_need_no_planner(team):
    stage = team(given("a"))
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    (run,) = stage.runs("a", "tests")
    assert (run.status, run.needs_slot, run.assignments) == ("succeeded", False, [])
    assert run.agent_seconds == 0
    (red,) = CheckResult.objects.filter(phase="red")
    assert (red.command, red.ok) == (check("a"), False)
    assert list(stage.module("a").locked_tests) == [TEST]


def test_given_tests_that_are_green_ask_a_person(team):
    stage = team(given("a"), files={"a.py": code("a")}, policies={"attempts": 1})
    stage.run()
    assert stage.statuses() == {"a": "needs_person"}
    assert "is green before any code was written" in stage.module("a").reason
    assert not stage.runs("a", "build")
