"""An agent may split its module: by policy at once, beyond it when a person says so."""

from __future__ import annotations

from typing import Any

import pytest

from agents.services.answers import request_answer
from agents.services.recovery import check_invariants
from projects import live
from projects.hub import module_ref
from projects.models import Attention
from projects.plancontent import plan_difference, plan_digest
from projects.services.errors import Refused
from projects.services.modules import module_cancel, module_retry
from projects.services.plans import plan_draft
from reviews.models import Merge
from tests.acceptance.stage import APPROVE, STUB, Turn, check, code, given, proof

PARTS = ("x", "y")
BOTH = {"x.py": code("x"), "y.py": code("y")}


def half(name: str) -> dict[str, Any]:
    tests = {"paths": [f"tests/test_{name}.py"], "given": True}
    return {"slug": f"big/{name}", "owns": [f"{name}.py"], "tests": tests, "checks": [check(name)]}


SPLIT = Turn(result={"split": {"modules": [half(name) for name in PARTS]}})


def big(team, *further: str, **policies: Any):
    """One module with two files, whose agent splits it, and recorded agents for the parts."""
    files = {f"{name}.py": STUB for name in PARTS}
    files |= {f"tests/test_{name}.py": proof(name) for name in (*PARTS, "c")}
    files |= {"c.py": STUB, **dict.fromkeys(further, "")}
    whole = {
        "slug": "big",
        "owns": ["x.py", "y.py", *further],
        "tests": {"paths": ["tests/test_x.py", "tests/test_y.py"], "given": True},
        "checks": [check("x"), check("y")],
    }
    stage = team(whole, files=files, policies=policies)
    stage.play("big", "build", SPLIT, Turn(BOTH))
    for name in PARTS:
        stage.play(f"big/{name}", "build", Turn({f"{name}.py": code(name)}))
        stage.play(f"big/{name}", "review", APPROVE)
    return stage


def test_a_split_within_the_policy_goes_on_at_once(team):
    stage = big(team)
    stage.run()
    assert stage.statuses() == {"big": "merged", "big/x": "merged", "big/y": "merged"}
    assert stage.path_of("big") == [
        "waiting", "planning", "building", "built", "reviewing", "merging", "merged",
    ]  # fmt: skip
    (event,) = stage.events("module.split")
    (built,) = stage.runs("big", "build")
    assert (event.actor, event.data["children"]) == (f"run:{built.pk}", ["big/x", "big/y"])
    assert (built.status, built.reason_kind) == ("succeeded", "split")
    assert not stage.events("request.asked")

    parent = module_ref(1, "big")
    merges = {merge.module.slug: merge for merge in Merge.objects.select_related("module")}
    assert (merges["big/x"].branch, merges["big/y"].branch) == (parent, parent)
    assert merges["big"].branch == "refs/heads/tutti/integration"
    recheck = stage.runs("big", "recheck")[-1]
    for slug in ("big/x", "big/y"):
        assert recheck.started_at > merges[slug].ended_at
    assert {name: stage.merged_file(name) for name in BOTH} == BOTH


def test_a_refused_split_lets_the_agent_build_alone(team):
    stage = big(team, split={"depth": 0, "modules": 0})
    stage.run()
    assert stage.statuses() == {"big": "needs_person"}
    assert stage.module("big").reason == "May big split into big/x, big/y?"
    request_answer(stage.request("big"), False, stage.owner, "It is small.")
    stage.work()
    assert stage.statuses() == {"big": "merged"}
    assert "It is small." in stage.runs("big", "build")[1].assignments[0]["text"]


def test_a_granted_split_whose_part_is_cancelled_asks_a_person(team):
    stage = big(team, split={"depth": 1, "modules": 1})
    stage.run()
    assert stage.statuses() == {"big": "needs_person"}
    by = live.Actor.person(stage.owner)
    request_answer(stage.request("big"), True, stage.owner)
    assert stage.statuses() == {"big": "built", "big/x": "waiting", "big/y": "waiting"}
    for name in PARTS:
        module_cancel(stage.module(f"big/{name}"), by, "Not needed.")
    assert "Its part big/x was cancelled." in stage.module("big").reason
    module_retry(stage.module("big/x"), by)
    stage.work()
    assert stage.statuses() == {"big": "needs_person", "big/x": "merged", "big/y": "cancelled"}
    assert "Its part big/y was cancelled." in stage.module("big").reason
    asked = Attention.objects.get(topic=stage.module("big").topic, closed_at=None)
    assert asked.kind == "needs_person"

    module_retry(stage.module("big/y"), by)
    stage.work()
    assert stage.statuses() == {"big": "merged", "big/x": "merged", "big/y": "merged"}


def test_parts_outside_the_parents_paths_are_refused(team):
    stage = big(team)
    beyond = {**half("y"), "owns": ["y.py", "README"]}
    stage.play("big", "build", Turn(result={"split": {"modules": [half("x"), beyond]}}), Turn(BOTH))
    stage.run()
    assert stage.statuses() == {"big": "merged"}
    first, _ = stage.runs("big", "build")
    assert (first.status, first.reason_kind) == ("failed", "answer")
    assert "README" in first.reason


def test_a_split_that_is_only_too_deep_is_asked(team):
    """Parts may be many; a part that splits again is beyond the depth that people approved."""
    stage = big(team, "x_more.py", split={"depth": 1, "modules": 10})
    wide = {**half("x"), "owns": ["x.py", "x_more.py"]}
    stage.play("big", "build", Turn(result={"split": {"modules": [wide, half("y")]}}))
    more = {"slug": "big/x/more", "owns": ["x_more.py"], "checks": ["test -f x_more.py"]}
    inner = [{**half("x"), "slug": "big/x/deep"}, more]
    stage.play("big/x", "build", Turn(result={"split": {"modules": inner}}),
               Turn({"x.py": code("x")}))  # fmt: skip
    stage.run()
    assert stage.statuses()["big/x"] == "needs_person"
    assert stage.statuses()["big/y"] == "merged"
    assert stage.module("big/x").reason == "May big/x split into big/x/deep, big/x/more?"
    assert [event.data["slug"] for event in stage.events("module.split")] == ["big"]
    request_answer(stage.request("big/x"), False, stage.owner)
    stage.work()
    assert set(stage.statuses().values()) == {"merged"}


def waiting_part(team, **policies: Any):
    """A split module whose part y waits for a person, while x is merged."""
    stage = big(team, **policies)
    stage.play("big/y", "build", Turn(result={"exception": {"paths": ["y.txt"], "reason": "So."}}),
               Turn({"y.py": code("y")}))  # fmt: skip
    stage.run()
    assert stage.statuses() == {"big": "built", "big/x": "merged", "big/y": "needs_person"}
    return stage


def test_parts_go_on_under_the_next_plan(team):
    stage = waiting_part(team, split={"depth": 1, "modules": 4})
    stage.plan = stage.submit([*stage.modules, given("c")])
    stage.play_all("c")
    stage.run()
    request_answer(stage.request("big/y"), False, stage.owner)
    stage.work()
    assert set(stage.statuses().values()) == {"merged"}
    assert stage.merged_file("y.py") == code("y")


def test_parts_are_dropped_with_their_module(team):
    stage = waiting_part(team, split={"depth": 1, "modules": 4})
    stage.plan = stage.submit([given("c")])
    stage.play_all("c")
    stage.run()
    assert stage.statuses() == {
        "big": "cancelled", "big/x": "merged", "big/y": "cancelled", "c": "merged",
    }  # fmt: skip
    assert not Attention.objects.filter(closed_at=None).exists(), "nobody is asked any more"


def test_tests_are_written_and_not_split(team):
    whole = {
        "slug": "big",
        "owns": ["x.py", "y.py"],
        "tests": ["tests/test_x.py", "tests/test_y.py"],
        "checks": [check("x"), check("y")],
    }
    stage = team(whole, files=dict.fromkeys(BOTH, STUB))
    tests = Turn({f"tests/test_{name}.py": proof(name) for name in PARTS})
    stage.play("big", "tests", SPLIT, tests)
    stage.play("big", "build", Turn(BOTH))
    stage.run()
    assert stage.statuses() == {"big": "merged"}
    first, second = stage.runs("big", "tests")
    assert (first.reason_kind, second.status) == ("answer", "succeeded")
    assert "write its tests" in first.reason
    assert stage.project.active_runs == 0


def test_what_a_part_may_change_comes_with_its_parent(team):
    policies = {"split": {"depth": 1, "modules": 4}, "exceptions": {"allow": ["NEWS", "z.py"]}}
    stage = big(team, "z.py", **policies)
    # z.py is the parent's, which waits for this part, so that the part can't wait for it.
    asks = Turn(result={"exception": {"paths": ["NEWS", "z.py"], "reason": "Tell of it."}})
    stage.play("big/y", "build", asks, Turn({"y.py": code("y"), "NEWS": "y\n", "z.py": "Z = 1\n"}))
    stage.run()
    assert set(stage.statuses().values()) == {"merged"}
    assert stage.path_of("big").count("building") == 1
    assert (stage.merged_file("NEWS"), stage.merged_file("z.py")) == ("y\n", "Z = 1\n")


def test_a_split_module_that_begins_again_waits_for_no_given_up_part(team):
    stage = waiting_part(team, split={"depth": 1, "modules": 4})
    digest = plan_digest(stage.plan)
    module_cancel(stage.module("big/y"), live.SYSTEM)
    with pytest.raises(Refused, match="Its part big/y was cancelled"):
        module_retry(stage.module("big"), live.SYSTEM)
    module_cancel(stage.module("big"), live.SYSTEM)
    with pytest.raises(Refused, match="a part of big, which is cancelled; retry that"):
        module_retry(stage.module("big/y"), live.SYSTEM)
    module_retry(stage.module("big"), live.SYSTEM)
    assert check_invariants() == []
    stage.work()
    assert stage.statuses() == {"big": "merged", "big/x": "cancelled", "big/y": "cancelled"}
    assert (stage.merged_file("x.py"), stage.merged_file("y.py")) == (code("x"), code("y"))
    with pytest.raises(Refused, match="begun again without it"):
        module_retry(stage.module("big/y"), live.SYSTEM)
    assert plan_digest(stage.plan) == digest, "they are no modules of the plan"
    assert not plan_difference(plan_draft(stage.project, stage.owner))
