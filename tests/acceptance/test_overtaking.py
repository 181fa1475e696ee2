"""A person's verdict, retry or cancelling comes while a run is at work on the same module."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection
from django.urls import reverse

from agents import gates, turns
from agents.models import Run
from agents.services.answers import request_answer
from agents.services.recovery import check_invariants
from agents.services.runs import run_lost
from projects import live
from projects.hub import Hub, integration_ref
from projects.models import Membership, Role
from projects.services.errors import Refused
from projects.services.modules import module_cancel, module_retry
from reviews import merges
from reviews.models import Merge, Review
from reviews.services import review_overrule
from tests import factories
from tests.acceptance.stage import Stage, Turn, code, given, verdict

AGAIN = code("a") + "# 2\n"


@pytest.fixture
def once(monkeypatch):
    """Have something happen once, just before a function of the engine; False is not yet."""

    def patch(place, name, act):
        real = getattr(place, name)
        done: list[bool] = []

        def both(*args, **kwargs):
            if not done and act(*args) is not False:
                done.append(True)
            return real(*args, **kwargs)

        monkeypatch.setattr(place, name, both)

    return patch


def merged_commits(stage: Stage) -> list[str]:
    rows = Merge.objects.filter(module__project=stage.project, status="merged")
    return list(rows.order_by("pk").values_list("head_commit", flat=True))


@pytest.mark.parametrize("what", ["rebuild", "fix", "cancel"])
def test_what_is_tested_for_its_merge_does_not_land_any_more(team, once, what):
    stage = team(given("a"))
    stage.play("a", "build", Turn({"a.py": code("a")}), Turn({"a.py": AGAIN}))
    stage.play("a", "fix", Turn({"a.py": AGAIN}))

    def act(*args):
        if what == "cancel":
            module_cancel(stage.module("a"), live.Actor.person(stage.owner))
        else:
            review_overrule(stage.module("a"), what, stage.owner, "Not like this.")

    once(merges, "intend", act)
    stage.run()
    stopped = Merge.objects.order_by("pk").first()
    assert stopped.status == "abandoned"
    assert "merges no more" in stopped.reason
    if what == "cancel":
        assert stage.statuses() == {"a": "cancelled"}
        assert stage.merged_file("a.py") != code("a")
    else:
        assert stage.statuses() == {"a": "merged"}
        assert stage.merged_file("a.py") == AGAIN
        assert stopped.head_commit not in merged_commits(stage)
    assert check_invariants() == []


def test_a_merge_that_another_worker_gave_up_does_not_land(team):
    stage = team(given("a"), policies={"review": "person"})
    stage.run()
    review_overrule(stage.module("a"), "approve", stage.owner, "Good.")
    module, base = stage.module("a"), stage.merged_head
    branch = "refs/heads/tutti/integration"
    merge = merges.begin(module, branch, base, module.head_commit, "p/1/run/1")
    merges.test(merge, module.contract, stage.hub, lambda commit, commands: [])
    merges.abandon(Merge.objects.get(pk=merge.pk), "Its worker was lost; it is done again.")
    assert "took this merge over" in merges.intend(merge)
    assert stage.merged_head == base
    stage.work()
    assert stage.statuses() == {"a": "merged"}
    assert stage.merged_file("a.py") == code("a")


def test_a_worker_without_its_lease_lands_nothing(team, once):
    stage = team(given("a"))

    def lose(merge):
        run = Run.objects.get(kind="merge", status__in=Run.ACTIVE)
        run_lost(run, "stalled", "Its worker gave no sign of life.", "worker_lost")

    once(merges, "intend", lose)
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    first, second = stage.runs("a", "merge")
    (event,) = stage.events("merge.done")
    assert (first.status, event.actor) == ("stalled", f"run:{second.pk}")


def test_a_merge_is_not_given_up_while_it_swaps(team, monkeypatch):
    """Another worker that looked before the branch moved waits, and finds it done."""
    stage = team(given("a"))
    real: Any = Hub.swap
    others = []

    def give_up():
        try:
            merges.abandon(Merge.objects.get(), "Its worker was lost; it is done again.")
        finally:
            connection.close()

    def swap(self, ref, new, old):
        if ref == integration_ref() and Merge.objects.filter(status="swapping").exists():
            others.append(threading.Thread(target=give_up))
            others[-1].start()
        return real(self, ref, new, old)

    monkeypatch.setattr(Hub, "swap", swap)
    stage.run()
    (other,) = others
    other.join()
    assert stage.statuses() == {"a": "merged"}
    assert Merge.objects.get().status == "merged"


def test_what_overtook_a_run_is_not_undone_by_its_failure(team, once):
    stage = team(given("a"), policies={"attempts": 1})
    stage.play("a", "review", verdict("ask"), Turn(result={"verdict": "hm"}))
    stage.run()
    module_retry(stage.module("a"), live.SYSTEM)

    def approve(result):
        review_overrule(stage.module("a"), "approve", stage.owner, "Good.")

    once(turns, "read_verdict", approve)
    stage.work()
    assert stage.statuses() == {"a": "merged"}


def test_an_old_question_is_no_answer_to_a_new_one(team):
    stage = team(given("a"), given("b"))
    asks = Turn(result={"coupled_with": ["b"], "reason": "Both count."})
    stage.play("a", "build", asks, Turn({"a.py": code("a")}))
    stage.play("a", "review", verdict("ask"))
    stage.run()
    asked = stage.request("a")
    module_retry(stage.module("a"), live.SYSTEM)
    stage.work()
    assert stage.module("a").resume_to == "reviewing"
    with pytest.raises(Refused, match="went on without this answer"):
        request_answer(asked, True, stage.owner)
    request_answer(asked, False, stage.owner)
    assert stage.statuses()["a"] == "needs_person", "the review is asked about as before"


def test_an_approval_while_the_fix_runs_merges_what_was_reviewed(team, once):
    stage = team(given("a"))
    stage.play("a", "review", verdict("fix", a="Say it."))
    stage.play("a", "fix", Turn({"a.py": "def answer():\n    return 1\n"}), Turn({"a.py": AGAIN}))

    def approve(work, head):
        if work.run.kind != "fix":
            return False
        return review_overrule(stage.module("a"), "approve", stage.owner, "Good as it is.")

    once(gates, "green_gate", approve)
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    reviewed = Review.objects.filter(module__slug="a").latest("pk").head_commit
    assert merged_commits(stage) == [reviewed]
    assert stage.merged_file("a.py") == code("a")
    (fixing,) = stage.runs("a", "fix")
    assert fixing.status == "cancelled", "it took no further turn"
    assert "wanted no more" in fixing.reason


def test_who_may_not_approve_gets_another_review_by_a_retry(team, client):
    stage = team(given("a"), policies={"review": "person"})
    stage.run()
    member = factories.user("bob")
    Membership.objects.create(project=stage.project, user=member, role=Role.MEMBER)
    client.force_login(member)
    client.post(reverse("agents:module-retry", args=[stage.project.slug, "a"]))
    assert stage.statuses() == {"a": "reviewing"}
    stage.work()
    assert stage.statuses() == {"a": "needs_person"}
    assert len(stage.runs("a", "review")) == 2


def test_what_was_reviewed_before_a_change_is_not_approved_for_it(team):
    stage = team(given("a"), policies={"review": "person"})
    stage.play("a", "build", Turn({"a.py": code("a")}), Turn({"a.py": AGAIN}))
    stage.run()
    review_overrule(stage.module("a"), "rebuild", stage.owner, "Number it.")
    while stage.statuses() != {"a": "reviewing"}:
        stage.step()
    with pytest.raises(Refused, match="changed since that review"):
        review_overrule(stage.module("a"), "approve", stage.owner, "Good.")
    stage.work()
    review_overrule(stage.module("a"), "approve", stage.owner, "Good.")
    stage.work()
    assert stage.merged_file("a.py") == AGAIN
