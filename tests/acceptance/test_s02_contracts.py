"""An agent's work counts only inside its contract: paths, tests, interface, granted exceptions."""

from __future__ import annotations

import pytest

from agents.services.answers import request_answer
from projects import live
from projects.models import Attention
from projects.services.errors import Refused
from projects.services.modules import (
    module_cancel,
    module_pause,
    module_resume,
    module_retry,
)
from reviews.models import Merge
from tests.acceptance.stage import APPROVE, Turn, code, given, need, part, proof, verdict

BASE, TESTS = "refs/tutti/base", "refs/tutti/tests"
WEAK = "import unittest\n\n\nclass T(unittest.TestCase):\n    def test(self):\n        pass\n"


def test_an_edit_outside_the_owned_paths_goes_back_with_its_path(team):
    stage = team(given("a"))
    foreign = {"a.py": code("a"), "README": "Mine.\n", "extra/new.py": "x = 1\n"}
    stage.play("a", "build", Turn(foreign), Turn(restore={"README": BASE, "extra/new.py": BASE}))
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    found = stage.findings("a", "ownership")
    assert sorted(one.path for one in found) == ["README", "extra/new.py"]
    assert {one.clause for one in found} == {"owns"}
    (run,) = stage.runs("a", "build")
    first, second = run.assignments
    assert "README is not owned by this module" not in first["text"]
    assert "README is not owned by this module" in second["text"]
    merge = Merge.objects.get(module__slug="a", status="merged")
    changed = stage.hub.changes(merge.base_commit, merge.tested_commit)
    assert [change.path for change in changed] == ["a.py"]
    assert stage.merged_file("README") == "A team's words.\n"


def test_a_test_touched_by_the_executor_is_put_back(team):
    stage = team(part("a"))
    weak = {"a.py": code("a"), "tests/test_a.py": WEAK}
    stage.play("a", "build", Turn(weak), Turn(restore={"tests/test_a.py": TESTS}))
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    (found,) = stage.findings("a")
    assert (found.source, found.path, found.clause) == ("tests", "tests/test_a.py", "tests")
    assert stage.merged_file("tests/test_a.py") == proof("a")


def test_a_promised_interface_has_to_be_there_and_finished(team):
    stage = team(given("a", provides=["a.answer()", "a.other(x)"]))
    stub = code("a") + "\n\ndef other(x):\n    raise NotImplementedError\n"
    whole = code("a") + "\n\ndef other(x):\n    return x\n"
    stage.play("a", "build", Turn({"a.py": code("a")}), Turn({"a.py": stub}), Turn({"a.py": whole}))
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    missing, unfinished = stage.findings("a", "interface")
    assert missing.clause.startswith("a.other")
    assert (unfinished.path, unfinished.line) == ("a.py", 6)
    assert stage.merged_file("a.py") == whole


def test_an_exception_that_policy_lists_is_granted_at_once(team):
    stage = team(given("a"), policies={"exceptions": {"allow": ["docs/*"]}})
    asks = Turn(result={"exception": {"paths": ["docs/a.md"], "reason": "It needs words."}})
    stage.play("a", "build", asks, Turn({"a.py": code("a"), "docs/a.md": "Words.\n"}))
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    assert stage.module("a").contract.exceptions == ["docs/a.md"]
    assert stage.merged_file("docs/a.md") == "Words.\n"
    first, second = stage.runs("a", "build")
    assert (first.status, first.reason_kind) == ("parked", "exception")
    assert "Granted exceptions: docs/a.md" in second.assignments[0]["text"]
    (event,) = stage.events("contract.amended")
    assert (event.actor, event.data["paths"]) == (f"run:{first.pk}", ["docs/a.md"])
    assert "It needs words." in event.data["reason"]


def test_a_person_grants_one_exception_and_refuses_another(team):
    stage = team(given("a"), given("b"))
    for name in "ab":
        asks = Turn(result={"exception": {"paths": [f"{name}.txt"], "reason": f"For {name}."}})
        works = {f"{name}.py": code(name), **({"a.txt": "Mine.\n"} if name == "a" else {})}
        stage.play(name, "build", asks, Turn(works))
    stage.run()
    assert stage.statuses() == {"a": "needs_person", "b": "needs_person"}
    assert stage.module("a").reason == "a asks to change a.txt: For a."
    assert stage.project.active_runs == 0, "a waiting module holds no slot"
    request_answer(stage.request("a"), True, stage.owner)
    request_answer(stage.request("b"), False, stage.owner, "Keep it in b.py.")
    stage.work()
    assert stage.statuses() == {"a": "merged", "b": "merged"}
    assert stage.merged_file("a.txt") == "Mine.\n"
    assert "Keep it in b.py." in stage.runs("b", "build")[1].assignments[0]["text"]
    (amended,) = stage.events("contract.amended")
    assert (amended.actor, amended.data["slug"]) == ("person:alice", "a")
    answers = {event.data["granted"] for event in stage.events("request.answered")}
    assert answers == {True, False}


def test_an_exception_on_anothers_path_merges_after_its_owner(team):
    """Built at once against what is there, but merged only when the path's owner is."""
    stage = team(given("a"), given("b"))
    asks = Turn(result={"exception": {"paths": ["a.py"], "reason": "A word of thanks."}})
    thanks = code("a") + "# b says thanks.\n"
    stage.play("b", "build", asks, Turn({"b.py": code("b")}), Turn({"a.py": thanks}))
    stage.play("a", "build", Turn(result={"exception": {"paths": ["x.txt"], "reason": "Wait."}}),
               Turn({"a.py": code("a")}))  # fmt: skip
    stage.run()
    assert stage.statuses() == {"a": "needs_person", "b": "needs_person"}
    request_answer(stage.request("b"), True, stage.owner)
    stage.work()
    assert stage.statuses() == {"a": "needs_person", "b": "built"}
    assert stage.module("b").needs_to_finish == 1
    request_answer(stage.request("a"), False, stage.owner)
    stage.work()
    assert stage.statuses() == {"a": "merged", "b": "merged"}
    ended = {merge.module.slug: merge.ended_at for merge in Merge.objects.filter(status="merged")}
    assert ended["a"] and ended["b"] and ended["a"] < ended["b"]


def test_who_may_change_what_waits_for_it_does_not_wait(team):
    """Each other's paths, and the path of what needs this module: somebody has to be first."""
    stage = team(
        given("a"),
        given("b"),
        given("c", needs=[need("a", "implementation")]),
        policies={"exceptions": {"allow": ["*.py"]}},
    )
    for slug, paths in (("a", ["b.py", "c.py"]), ("b", ["a.py"])):
        asks = Turn(result={"exception": {"paths": paths, "reason": "A word of thanks."}})
        stage.play(slug, "build", asks, Turn({f"{slug}.py": code(slug)}))
    stage.run()
    assert set(stage.statuses().values()) == {"merged"}


def test_a_late_grant_holds_and_nothing_else_is_promised(team):
    stage = team(given("a"))
    asks = [Turn(result={"exception": {"paths": [p], "reason": "Words."}}) for p in ("x", "y")]
    stage.play("a", "build", *asks, Turn({"a.py": code("a"), "x": "", "y": ""}))
    stage.run()
    first = stage.request("a")
    module_retry(stage.module("a"), live.SYSTEM)
    request_answer(first, True, stage.owner)
    assert stage.module("a").contract.exceptions == ["x"]
    stage.work()
    second = stage.request("a")
    module_cancel(stage.module("a"), live.SYSTEM)
    assert not Attention.objects.filter(closed_at=None).exists()
    with pytest.raises(Refused, match="went on without this answer and is cancelled"):
        request_answer(second, True, stage.owner)


def test_a_fix_that_may_change_anothers_path_merges_after_its_owner(team):
    stage = team(given("a"), given("b"), policies={"exceptions": {"allow": ["b.py"]}})
    asks = Turn(result={"exception": {"paths": ["b.py"], "reason": "A word of thanks."}})
    stage.play("a", "review", verdict("fix", a="Say it."), APPROVE)
    stage.play("a", "fix", asks, Turn({"a.py": code("a") + "# 2\n"}))
    stage.approve()
    module_pause(stage.module("b"), live.SYSTEM)
    stage.work()
    assert stage.statuses() == {"a": "built", "b": "waiting"}
    module_resume(stage.module("b"), live.SYSTEM)
    stage.work()
    assert set(stage.statuses().values()) == {"merged"}
