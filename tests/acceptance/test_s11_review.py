"""A review happens in the context that delegated; people overrule it, and policy may ask them."""

from __future__ import annotations

import pytest
from django.urls import reverse

from projects.models import Attention
from projects.services.errors import Refused
from reviews.models import Review
from reviews.services import review_overrule
from tests.acceptance.stage import APPROVE, Turn, code, given, verdict


def test_the_review_knows_what_was_delegated_and_sends_back(team):
    stage = team(given("a"), given("b"))
    done = code("a") + "# done\n"
    stage.play("a", "build", Turn({"a.py": code("a")}), Turn({"a.py": done}))
    stage.play("a", "review", verdict("rebuild", a="Say that it is done."), APPROVE)
    stage.run()
    assert set(stage.statuses().values()) == {"merged"}
    first, second = Review.objects.filter(module__slug="a").order_by("pk")
    assert (first.verdict, second.verdict) == ("rebuild", "approve")
    assert first.person == stage.owner, "whoever approved the plan is accountable"
    (finding,) = first.findings.all()
    assert (finding.path, finding.line, finding.message) == ("a.py", 1, "Say that it is done.")

    one, two = stage.runs("a", "review")
    sent = one.assignments[0]["text"]
    assert "[delegation] To the executor" in sent
    assert "a: The a\nAnswer with a." in sent
    assert '+    return "a"' in sent, "the diff that is judged"
    assert first.head_commit == one.head_commit == stage.runs("a", "build")[0].head_commit
    sent = two.assignments[0]["text"]
    assert "[review] rebuild: I say rebuild." in sent
    assert "[review] approve" not in sent, "another module's review is on another branch"
    again = stage.runs("a", "build")[1]
    assert (again.role, again.number) == ("executor", 2)
    assert "[review] a.py:1 Say that it is done." in again.assignments[0]["text"]
    assert stage.merged_file("a.py") == done


@pytest.mark.parametrize("policy", ["person", "both"])
def test_people_decide_where_policy_says_so(team, policy):
    stage = team(given("a"), policies={"review": policy})
    stage.play("a", "build", Turn({"a.py": code("a")}), Turn({"a.py": code("a") + "# 2\n"}))
    stage.run()
    assert stage.statuses() == {"a": "needs_person"}
    assert stage.merged_file("a.py") != code("a")
    asked = Attention.objects.get(kind="review")
    assert (asked.role, asked.closed_at) == ("maintainer", None)

    with pytest.raises(Refused, match="Say why"):
        review_overrule(stage.module("a"), "approve", stage.owner, " ")
    review_overrule(stage.module("a"), "rebuild", stage.owner, "Number it.")
    stage.work()
    assert stage.statuses() == {"a": "needs_person"}, "the next review waits for people again"
    assert "Number it." in stage.runs("a", "build")[1].assignments[0]["text"]
    review_overrule(stage.module("a"), "approve", stage.owner, "Good now.")
    stage.work()
    assert stage.statuses() == {"a": "merged"}
    assert stage.merged_file("a.py") == code("a") + "# 2\n"
    told = [
        (e.actor, e.data["before"], e.data["verdict"]) for e in stage.events("review.overruled")
    ]
    assert told == [
        ("person:alice", "approve", "rebuild"),
        ("person:alice", "approve", "approve"),
    ]
    assert not Attention.objects.filter(closed_at=None, topic=asked.topic).exists()


def test_a_review_that_asks_waits_for_an_answer(team):
    stage = team(given("a"))
    stage.play("a", "review", verdict("ask"))
    stage.run()
    assert stage.statuses() == {"a": "needs_person"}
    review_overrule(stage.module("a"), "approve", stage.owner, "Yes, it is meant so.")
    stage.work()
    assert stage.statuses() == {"a": "merged"}
    newest = Review.objects.filter(module__slug="a").latest("pk")
    assert (newest.person, newest.summary) == (stage.owner, "Yes, it is meant so.")
    with pytest.raises(Refused):
        review_overrule(stage.module("a"), "rebuild", stage.owner, "Too late.")


def test_a_comment_at_a_line_is_the_agents_next_prompt(team, client):
    stage = team(given("a"), policies={"review": "person"})
    stage.play("a", "build", Turn({"a.py": code("a") + "# hm\n"}), Turn({"a.py": code("a")}))
    stage.run()
    assert stage.statuses() == {"a": "needs_person"}
    review = Review.objects.get(module__slug="a")
    client.force_login(stage.owner)
    page = reverse("reviews:review", args=[stage.project.slug, review.pk])
    url = reverse("reviews:comment", args=[stage.project.slug, review.pk])
    client.post(url, {"path": "a.py", "line": "2", "text": "Take the <hm> out."})
    client.post(url, {"path": "../a.py", "line": "2", "text": "Never."})
    shown = client.get(page).content.decode()
    assert "Take the &lt;hm&gt; out." in shown and "Never." not in shown
    row = shown.index('id="f1-L2"')
    assert row < shown.index('id="finding-said-') < shown.index('id="f1-L3"')
    (event,) = stage.events("comment.added")
    assert (event.actor, event.data["path"], event.data["line"]) == ("person:alice", "a.py", 2)
    review_overrule(stage.module("a"), "rebuild", stage.owner, "See the comment.")
    stage.work()
    again = stage.runs("a", "build")[1].assignments[0]["text"]
    assert "- alice: a.py:2 Take the <hm> out." in again


def test_sending_back_is_an_attempt_and_ends(team):
    stage = team(given("a"))
    stage.play("a", "build", *(Turn({"a.py": code("a") + f"# {n}\n"}) for n in range(5)))
    # No file has that many lines: such a number is no reason to lose the verdict.
    far = {"path": "a.py", "line": 3_000_000_000, "message": "Far down."}
    no = {"verdict": "rebuild", "summary": "Not so.", "findings": [far]}
    stage.play("a", "review", Turn(result=no))
    stage.run()
    assert stage.statuses() == {"a": "needs_person"}
    assert stage.verdicts("a") == ["rebuild"] * 3
    assert "3 attempts failed, the last one with: Not so." in stage.module("a").reason
    assert {finding.line for finding in stage.findings("a", "review")} == {None}
