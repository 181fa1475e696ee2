"""What hangs together waits for each other: lanes, needs, and the merge that tells the truth."""

from __future__ import annotations

import pytest
from django.urls import reverse

from agents.services.answers import request_answer
from agents.services.recovery import check_invariants
from projects import live
from projects.hub import integration_ref
from projects.plancontent import plan_specs
from projects.services.errors import Refused
from projects.services.modules import module_pause, module_resume
from projects.services.plans import plan_withdraw
from projects.services.publishing import publish
from reviews.models import CheckResult, Merge
from tests import factories
from tests.acceptance.stage import Stage, Turn, check, code, given, need, proof

USES = 'import a\n\n\ndef answer():\n    return a.answer() + "b"\n'
PROOF_OF_USE = proof("b").replace('"b")', '"ab")')
BASE = "refs/tutti/base"


def number(stage: Stage, kind: str, slug: str) -> int:
    """The number of the last event of a kind for a module."""
    return max(event.number for event in stage.events(kind) if event.data["slug"] == slug)


def test_modules_of_a_lane_never_run_together(team):
    stage = team(given("a"), given("b", needs=[need("a", "coupled")]), given("c"))
    stage.run()
    assert set(stage.statuses().values()) == {"merged"}
    assert stage.module("a").lane == stage.module("b").lane != ""
    assert stage.module("c").lane == ""
    first, second = sorted("ab", key=lambda slug: number(stage, "module.merged", slug))
    assert number(stage, "module.planning", second) > number(stage, "module.merged", first)
    assert number(stage, "module.planning", "c") < number(stage, "module.merged", first)
    last = max(run.ended_at for run in stage.runs(first, "merge"))
    assert all(run.queued_at > last for run in stage.project.runs.filter(module__slug=second))


def test_an_agent_says_that_modules_are_coupled(team):
    stage = team(given("a"), given("b"))
    says = Turn(result={"coupled_with": ["b"], "reason": "Both count."})
    asks = Turn(result={"exception": {"paths": ["b.txt"], "reason": "Words."}})
    for name, first in (("a", says), ("b", asks)):
        stage.play(name, "build", first, Turn({f"{name}.py": code(name)}))
    stage.run()
    assert stage.statuses() == {"a": "needs_person", "b": "needs_person"}
    assert stage.module("a").reason == "a says that it is coupled with b: Both count."
    request_answer(stage.request("a"), True, stage.owner)
    assert stage.module("a").lane == stage.module("b").lane == "coupled-a"
    assert stage.statuses()["a"] == "waiting", "b is at work in their lane"
    stage.work()
    assert stage.statuses() == {"a": "waiting", "b": "needs_person"}
    request_answer(stage.request("b"), False, stage.owner)
    stage.work()
    assert stage.statuses() == {"a": "merged", "b": "merged"}
    assert number(stage, "module.building", "a") > number(stage, "module.merged", "b")
    assert (
        "coupled, don't parallelize: a, b." in stage.runs("a", "build")[-1].assignments[0]["text"]
    )


def test_a_contract_is_built_against_and_an_implementation_waited_for(team):
    stage = team(
        given("a"),
        given("b", needs=[need("a", "contract")]),
        given("c", needs=[need("a", "implementation")]),
        files={"tests/test_b.py": PROOF_OF_USE},
    )
    stage.play("a", "build", Turn({"a.py": code("a")}, seconds=4))
    stage.play("b", "build", Turn({"b.py": USES}))
    stage.run()
    assert set(stage.statuses().values()) == {"merged"}
    assert stage.path_of("b") == [
        "waiting", "planning", "building", "built", "reviewing", "merging", "merged",
    ]  # fmt: skip
    merged = number(stage, "module.merged", "a")
    assert number(stage, "module.built", "b") < merged < number(stage, "module.reviewing", "b")
    assert stage.runs("b", "recheck")[-1].status == "succeeded"
    assert len(stage.runs("b", "build")) == 1
    green = CheckResult.objects.filter(module__slug="b", phase="green").order_by("pk")
    assert [check.ok for check in green] == [False, True]
    assert number(stage, "module.planning", "c") > merged


def test_a_merge_that_is_clean_but_red_goes_back(team):
    both = 'python3 -c \'import a, b; assert getattr(a, "N", 0) + getattr(b, "N", 0) < 2\''
    stage = team(given("a"), given("b"), checks=[{"run": both, "at": "merge"}])
    for name in "ab":
        greedy = {f"{name}.py": code(name) + "\n\nN = 1\n"}
        stage.play(name, "build", Turn(greedy), Turn({f"{name}.py": code(name)}))
    stage.run()
    assert stage.statuses() == {"a": "merged", "b": "merged"}
    refused = Merge.objects.get(status="refused")
    loser = refused.module.slug
    assert "On the merged tree" in refused.reason
    head = stage.hub.head(integration_ref())
    assert not stage.hub.is_ancestor(refused.tested_commit, head), "the branch never moved"
    (finding,) = stage.findings(loser, "merge")
    again = stage.runs(loser, "build")[1]
    assert finding.message.splitlines()[0] in again.assignments[0]["text"]
    assert again.parallel_only, "these tokens exist only because work ran in parallel"
    for merge in Merge.objects.filter(status="merged"):
        checks = CheckResult.objects.filter(phase="merge", commit=merge.tested_commit)
        assert {check.ok for check in checks} == {True}
        assert {check.command for check in checks} >= {both}


def test_a_conflict_goes_back(team):
    stage = team(given("a"), given("b"), policies={"exceptions": {"allow": ["README"]}})
    for name in "ab":
        asks = Turn(result={"exception": {"paths": ["README"], "reason": "A word."}})
        clash = Turn({f"{name}.py": code(name), "README": f"Words of {name}.\n"}, seconds=0.5)
        stage.play(name, "build", asks, clash, Turn(restore={"README": BASE}))
    stage.run()
    assert stage.statuses() == {"a": "merged", "b": "merged"}
    found = [*stage.findings("a", "conflict"), *stage.findings("b", "conflict")]
    assert len(found) == 1
    finding = found[0]
    assert finding.path == "README"
    winner = "a" if finding.module.slug == "b" else "b"
    assert stage.merged_file("README") == f"Words of {winner}.\n"


def test_what_is_merged_reaches_the_team_when_a_person_publishes(team):
    stage = team(given("a"))
    before = factories.git(stage.source, "rev-parse", "main")
    stage.run()
    assert factories.git(stage.source, "rev-parse", "main") == before
    said = publish(stage.project, stage.owner, "for-review")
    told = said.split("\n\n", 1)[1]
    assert told.startswith("Merge 1 module of ")
    (review,) = stage.runs("a", "review")
    for line in ("- a: The a", f"- a: approve by run:{review.pk}", f"- a: {check('a')}",
                 "- alice: approved the plan, published"):  # fmt: skip
        assert line in told.splitlines(), told
    assert stage.events("project.published")[0].data["message"] == told
    assert factories.git(stage.source, "rev-parse", "for-review") == stage.merged_head
    factories.git(stage.source, "checkout", "-q", "--detach")
    publish(stage.project, stage.owner)
    assert factories.git(stage.source, "rev-parse", "main") == stage.merged_head
    record = [(event.actor, event.data["branch"]) for event in stage.events("project.published")]
    assert record == [("person:alice", "for-review"), ("person:alice", "main")]

    factories.git(stage.source, "checkout", "-q", "main")
    theirs = factories.commit(stage.source, {"theirs.txt": "1\n"})
    factories.git(stage.source, "reset", "-q", "--hard", f"{theirs}")
    factories.git(stage.source, "checkout", "-q", "--detach")
    with pytest.raises(Refused):
        publish(stage.project, stage.owner)
    assert factories.git(stage.source, "rev-parse", "main") == theirs


def test_policy_puts_into_a_lane_what_the_evidence_is_sure_of(team, client):
    """Submitted in the browser: two modules that import each other in a circle share a lane."""
    circle = {
        "a.py": "import b\n\n\ndef answer():\n    raise NotImplementedError\n",
        "b.py": "import a\n\n\ndef answer():\n    raise NotImplementedError\n",
    }
    for name, policy in (("show", "show"), ("apply", "apply")):
        stage = team(given("a"), given("b"), given("c"), policies={"coupling": policy},
                     files=circle)  # fmt: skip
        plan_withdraw(stage.plan, stage.owner)
        client.force_login(stage.owner)
        answer = client.post(reverse("agents:plan-submit", args=[stage.project.slug]))
        assert answer.status_code == 302, name
        stage.plan.refresh_from_db()
        assert stage.plan.status == "submitted"
        lanes = {spec.slug: spec.lane for spec in plan_specs(stage.plan)}
        if policy == "show":
            assert set(lanes.values()) == {""}
            continue
        assert lanes["a"] == lanes["b"] == "coupled-a" and lanes["c"] == ""
        (event,) = stage.events("plan.coupling_applied")
        assert (event.data["how"], event.data["reason"]) == ("by policy", "import_cycle")
        assert event.data["evidence"]
        stage.run()
        assert set(stage.statuses().values()) == {"merged"}
        first, second = sorted("ab", key=lambda slug: number(stage, "module.merged", slug))
        assert number(stage, "module.planning", second) > number(stage, "module.merged", first)


def test_coupled_with_what_it_needs_waits_for_it(team):
    """In one lane, what is only built against would never come: it is merged first instead."""
    stage = team(given("a"), given("b", needs=[need("a", "contract")]))
    says = Turn(result={"coupled_with": ["a"], "reason": "Both count."})
    stage.play("b", "build", says, Turn({"b.py": code("b")}))
    module_pause(stage.module("a"), live.SYSTEM)
    stage.run()
    request_answer(stage.request("b"), True, stage.owner)
    assert stage.statuses() == {"a": "waiting", "b": "waiting"}
    assert check_invariants() == []
    module_resume(stage.module("a"), live.SYSTEM)
    stage.work()
    assert stage.statuses() == {"a": "merged", "b": "merged"}
    assert number(stage, "module.building", "b") > number(stage, "module.merged", "a")


def test_what_is_at_work_already_can_not_be_put_into_one_lane(team):
    stage = team(given("a"), given("b", needs=[need("a", "contract")]), given("c"))
    asks = Turn(result={"exception": {"paths": ["c.txt"], "reason": "Words."}})
    both = Turn(result={"coupled_with": ["b", "c"], "reason": "All count."}, seconds=1)
    one = Turn(result={"coupled_with": ["b"], "reason": "Both count."})
    stage.play("a", "build", both, one, Turn({"a.py": code("a")}))
    stage.play("c", "build", asks, Turn({"c.py": code("c")}))
    stage.run()
    assert stage.statuses() == {"a": "needs_person", "b": "built", "c": "needs_person"}
    for says in ("at work at the same time already", "b is at work and waits for a"):
        with pytest.raises(Refused, match=says):
            request_answer(stage.request("a"), True, stage.owner)
        request_answer(stage.request("a"), False, stage.owner)
        stage.work()
    assert stage.statuses() == {"a": "merged", "b": "merged", "c": "needs_person"}


def test_two_lanes_that_become_one_hold_all_that_people_coupled(team):
    stage = team(given("a", needs=[need("b", "coupled")]), given("b"),
                 given("c", needs=[need("d", "coupled")]), given("d"))  # fmt: skip
    says = Turn(result={"coupled_with": ["c"], "reason": "Both count."})
    stage.play("a", "build", says, Turn({"a.py": code("a")}))
    stage.approve()
    for slug in "bcd":
        module_pause(stage.module(slug), live.SYSTEM)
    stage.work()
    request_answer(stage.request("a"), True, stage.owner)
    assert len({stage.module(slug).lane for slug in "abcd"} - {""}) == 1


def test_an_exceptions_order_reaches_into_a_lane(team):
    """x and y share a lane, y builds against a, and a may change x's path: x goes first."""
    stage = team(
        given("a"),
        given("x"),
        given("y", needs=[need("a", "contract"), need("x", "coupled")], priority=5),
        policies={"exceptions": {"allow": ["x.py"]}},
    )
    asks = Turn(result={"exception": {"paths": ["x.py"], "reason": "A word of thanks."}})
    stage.play("a", "build", asks, Turn({"a.py": code("a")}))
    stage.approve()
    for slug in "xy":
        module_pause(stage.module(slug), live.SYSTEM)
    stage.work()
    assert stage.statuses() == {"a": "built", "x": "waiting", "y": "waiting"}
    for slug in "xy":
        module_resume(stage.module(slug), live.SYSTEM)
    stage.work()
    assert set(stage.statuses().values()) == {"merged"}
    assert number(stage, "module.planning", "y") > number(stage, "module.merged", "x")
