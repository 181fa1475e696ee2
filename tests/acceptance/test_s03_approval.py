"""Nothing runs before a person approved exactly the plan that runs."""

from __future__ import annotations

import pytest

from agents import scheduler
from agents.models import Run
from agents.services.answers import request_answer
from agents.services.recovery import check_invariants
from projects import live
from projects.models import Attention, Module, Plan
from projects.plancontent import plan_difference
from projects.services.errors import Refused, Stale
from projects.services.modules import module_cancel, module_pause, module_resume, module_retry
from projects.services.plans import plan_approve, plan_set, plan_submit, plan_withdraw
from tests.acceptance.stage import STUB, Turn, code, given, need, part, proof


def test_nothing_runs_before_approval(team):
    stage = team(given("a"))
    stage.work()
    assert scheduler.tick() == 0
    assert not Run.objects.exists()
    assert stage.statuses() == {"a": "draft"}
    assert stage.hub.refs() == {"refs/heads/tutti/integration": stage.merged_head}
    assert stage.merged_file("a.py") == STUB


def test_only_what_was_read_can_be_approved_and_only_once(team):
    stage = team(given("a"))
    read = stage.plan.digest
    with pytest.raises(Stale):
        plan_approve(stage.plan, stage.owner, "0" * 64)
    with pytest.raises(Stale):
        plan_set(stage.plan, stage.owner, goal="Something else.")
    plan_withdraw(stage.plan, stage.owner)
    plan_set(stage.plan, stage.owner, goal="Something else.")
    plan_submit(Plan.objects.get(pk=stage.plan.pk), stage.owner)
    stage.plan.refresh_from_db()
    assert stage.plan.digest != read
    with pytest.raises(Stale):
        plan_approve(stage.plan, stage.owner, read)
    assert stage.statuses() == {"a": "draft"}

    stage.approve()
    version = stage.module("a").version
    stage.approve()
    assert stage.module("a").version == version
    (event,) = stage.events("plan.approved")
    assert (event.actor, event.data["digest"]) == ("person:alice", stage.plan.digest)
    assert stage.plan.approved_digest == stage.plan.digest
    assert stage.statuses() == {"a": "waiting"}


def test_a_row_changed_behind_its_back_is_not_approved(team):
    stage = team(given("a"))
    Plan.objects.filter(pk=stage.plan.pk).update(instructions="Do it all at once.")
    with pytest.raises(Stale):
        stage.approve()
    assert not Module.objects.filter(status="waiting").exists()


def test_the_next_plan_runs_only_what_differs(team):
    a, b = given("a"), part("b")
    stage = team(a, b, files={"c.py": STUB, "tests/test_c.py": proof("c")})
    stage.run()
    before = {slug: len(stage.runs(slug, "build")) for slug in "ab"}
    assert before == {"a": 1, "b": 1}

    newer = proof("b").replace('"b")', '"b2")')
    stage.play_all("c")
    stage.play("b", "tests", Turn({"tests/test_b.py": newer}))
    stage.play("b", "build", Turn({"b.py": code("b2")}))
    stage.plan = stage.submit([a, {**b, "brief": "Answer with b2."}, given("c")])
    told = {(change.module, change.field) for change in plan_difference(stage.plan)}
    assert told == {("b", "brief"), ("c", "module")}
    assert stage.statuses() == {"a": "merged", "b": "merged", "c": "draft"}
    stage.run()
    assert set(stage.statuses().values()) == {"merged"}
    assert [len(stage.runs(slug, "build")) for slug in "abc"] == [1, 2, 1]
    assert stage.merged_file("b.py") == code("b2")
    assert list(Plan.objects.order_by("number").values_list("status", flat=True)) == [
        "superseded", "approved",
    ]  # fmt: skip


WAITS = Turn(result={"exception": {"paths": ["x.txt"], "reason": "Wait."}})


def test_the_next_contract_of_a_module_at_work_keeps_its_order(team):
    """It starts over after what it needs by then, and in the lane that it has by then."""
    a = part("a")
    files = {f"{slug}.py": STUB for slug in "cd"}
    files |= {f"tests/test_{slug}.py": proof(slug) for slug in "cd"}
    stage = team(a, files=files)
    for slug in "cd":
        stage.play_all(slug)
        stage.play(slug, "build", WAITS, Turn({f"{slug}.py": code(slug)}))
    newer = proof("a").replace('"a")', '"a2")')
    stage.play("a", "tests", *(Turn({"tests/test_a.py": text}) for text in (proof("a"), newer)))
    stage.play("a", "build", WAITS, *(Turn({"a.py": code(name)}) for name in ("a", "a2")))
    stage.run()
    other = {**a, "brief": "Other.", "needs": [need("c", "implementation")]}
    stage.plan = stage.submit([other, given("c"), given("d", needs=[need("a", "coupled")])])
    stage.run()
    assert stage.statuses() == {"a": "needs_person", "c": "needs_person", "d": "waiting"}
    request_answer(stage.request("a"), False, stage.owner)
    stage.work()
    assert stage.path_of("a")[-2:] == ["merged", "waiting"]
    assert stage.statuses() == {"a": "waiting", "c": "needs_person", "d": "needs_person"}
    assert stage.module("a").lane == stage.module("d").lane != ""
    assert (stage.module("a").needs_to_start, check_invariants()) == (1, [])
    for slug in "cd":
        request_answer(stage.request(slug), False, stage.owner)
    stage.work()
    assert set(stage.statuses().values()) == {"merged"}
    assert stage.merged_file("a.py") == code("a2")


def test_what_a_plan_wants_no_more_is_not_done_after_all(team):
    """A module at work, changed by the second plan and changed back by the third, ends once."""
    a = given("a")
    stage = team(a, checks=[{"run": "false", "at": "end"}])
    stage.play("a", "build", WAITS, Turn({"a.py": code("a")}))
    stage.run()
    stage.plan = stage.submit([{**a, "brief": "Other."}])
    stage.approve()
    stage.plan = stage.submit([a])
    stage.approve()
    request_answer(stage.request("a"), False, stage.owner)
    stage.work()
    assert stage.statuses() == {"a": "merged"}
    assert stage.path_of("a").count("merged") == 1
    assert stage.plan.blocked_reason
    # The next plan answers what blocked this one.
    stage.plan = stage.submit([a], checks=[])
    stage.run()
    assert stage.plan.finished_at
    assert not Attention.objects.filter(closed_at=None).exists()


def test_a_module_begun_again_is_checked_with_all_the_others_again(team):
    stage = team(given("a"), given("b"), checks=[{"run": "true", "at": "end"}])
    stage.approve()
    module_cancel(stage.module("b"), live.SYSTEM)
    stage.work()
    assert stage.plan.finished_at
    module_retry(stage.module("b"), live.SYSTEM)
    stage.work()
    assert stage.statuses() == {"a": "merged", "b": "merged"}
    assert stage.plan.finished_at
    assert stage.project.runs.filter(kind="finish").count() == 2


def paused(stage, *slugs):
    """Approved, with some modules held back until the others are as far as they come."""
    stage.approve()
    for slug in slugs:
        module_pause(stage.module(slug), live.SYSTEM)
    stage.work()


def test_a_plan_against_what_is_at_work_is_refused_before_it_ties_a_knot(team):
    """The order of each plan is good, and both together would wait for ever."""
    a, b = given("a", needs=[need("b", "contract")]), given("b")
    stage = team(a, b)
    paused(stage, "b")
    assert stage.statuses() == {"a": "built", "b": "waiting"}
    stage.plan = stage.submit([given("a"), given("b", needs=[need("a", "implementation")])])
    with pytest.raises(Refused, match="a, b would wait for each other"):
        stage.approve()
    stage.plan.refresh_from_db()
    assert stage.plan.status == "submitted"
    assert check_invariants() == []
    plan_withdraw(stage.plan, stage.owner)
    stage.plan = stage.submit([a, b])
    stage.approve()
    module_resume(stage.module("b"), live.SYSTEM)
    stage.work()
    assert set(stage.statuses().values()) == {"merged"}


def test_a_knot_through_a_lane_is_refused_too(team):
    mods = [given("a", needs=[need("c", "contract"), need("b", "coupled")]), given("b"), given("c")]
    stage = team(*mods)
    paused(stage, "b", "c")
    assert stage.statuses() == {"a": "built", "b": "waiting", "c": "waiting"}
    stage.plan = stage.submit([*mods[:2], given("c", needs=[need("b", "contract")])])
    with pytest.raises(Refused, match="would wait for each other"):
        stage.approve()


def test_the_newest_contract_is_the_one_that_is_built(team):
    """The second plan's, which waited for a module at work, is forgotten with the third."""
    a = given("a")
    stage = team(a)
    stage.play("a", "build", WAITS, Turn({"a.py": code("a")}))
    stage.run()
    stage.plan = stage.submit([{**a, "brief": "Second."}])
    stage.approve()
    module_cancel(stage.module("a"), live.SYSTEM)
    stage.plan = stage.submit([{**a, "brief": "Third."}])
    stage.run()
    assert stage.module("a").contract.brief == "Third."
    assert stage.path_of("a").count("merged") == 1
