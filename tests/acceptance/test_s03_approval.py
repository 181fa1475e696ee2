"""Nothing runs before a person approved exactly the plan that runs."""

from __future__ import annotations

import pytest

from agents import scheduler
from agents.models import Run
from projects.models import Module, Plan
from projects.plancontent import plan_difference
from projects.services.errors import Stale
from projects.services.plans import plan_approve, plan_set, plan_submit, plan_withdraw
from tests.acceptance.stage import STUB, Turn, code, given, part, proof


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
