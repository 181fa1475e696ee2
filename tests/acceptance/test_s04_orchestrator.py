"""One conversation holds what was cut and delegated; small errors are mended in it."""

from __future__ import annotations

from agents.models import ConversationEntry
from tests.acceptance.stage import APPROVE, Turn, code, given, part, verdict

HASTY = code("a") + "\n# TODO\n"


def entries(stage, **filters):
    rows = ConversationEntry.objects.filter(conversation__plan=stage.plan, **filters)
    return list(rows.select_related("module").order_by("sequence"))


def test_the_conversation_holds_the_cut_and_every_delegation(team):
    stage = team(part("a"), given("b"))
    stage.run()
    first, *others = entries(stage)
    assert (first.kind, first.module, first.branch) == ("decomposition", None, "")
    assert "approved by alice" in first.text
    assert "- a: owns a.py; needs nothing" in first.text
    delegated = {(entry.module.slug, entry.run_topic) for entry in others if not entry.branch}
    told = {
        (run.module.slug, run.topic)
        for run in stage.project.runs.filter(kind__in=["tests", "build"], needs_slot=True)
    }
    assert delegated == told
    assert len(told) == 3
    assert {entry.kind for entry in others if not entry.branch} == {"delegation"}
    for name in "ab":
        (review,) = entries(stage, kind="review", module__slug=name)
        assert review.branch == stage.module(name).topic
        sent = stage.runs(name, "review")[0].assignments[0]["text"]
        assert first.text in sent
        assert f"Answer with {name}." in sent
    sequence = [entry.sequence for entry in entries(stage)]
    assert sequence == list(range(1, len(sequence) + 1))


def test_the_orchestrator_mends_a_small_error_itself(team):
    stage = team(given("a"))
    stage.play("a", "build", Turn({"a.py": HASTY}))
    stage.play("a", "review", verdict("fix", a="Finish what is to do."), APPROVE)
    stage.play("a", "fix", Turn({"a.py": code("a")}, {"summary": "Took it out."}))
    stage.run()
    assert stage.path_of("a") == [
        "waiting", "planning", "building", "reviewing", "fixing", "reviewing", "merging", "merged",
    ]  # fmt: skip
    (fix,) = stage.runs("a", "fix")
    assert (fix.role, fix.status) == ("orchestrator", "succeeded")
    assert "Finish what is to do." in fix.assignments[0]["text"]
    assert len(stage.runs("a", "build")) == 1
    assert stage.merged_file("a.py") == code("a")
    branch = entries(stage, branch=stage.module("a").topic)
    assert [entry.kind for entry in branch] == ["review", "fix", "review"]
    last = stage.runs("a", "review")[1].assignments[0]["text"]
    assert "[fix] Took it out." in last, "the second review goes on from the same branch"


def test_too_large_a_fix_is_another_agents(team):
    stage = team(given("a"), policies={"fix_lines": 2})
    stage.play("a", "build", Turn({"a.py": HASTY}), Turn({"a.py": code("a") + "# done\n"}))
    stage.play("a", "review", verdict("fix", a="Finish what is to do."), APPROVE)
    stage.play("a", "fix", Turn({"a.py": code("a") + "x = 1\n" * 30}))
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    (fix,) = stage.runs("a", "fix")
    assert (fix.status, fix.reason_owner) == ("failed", "agent")
    assert "more than the 2 that are allowed" in fix.reason
    _, again = stage.runs("a", "build")
    assert again.role == "executor"
    assert "more than the 2 that are allowed" in again.assignments[0]["text"]
    assert stage.merged_file("a.py") == code("a") + "# done\n"


def test_after_two_fixes_another_agent_builds(team):
    stage = team(given("a"))
    stage.play("a", "build", Turn({"a.py": HASTY}), Turn({"a.py": code("a")}))
    more = verdict("fix", a="Finish what is to do.")
    stage.play("a", "review", more, more, more, APPROVE)
    stage.play("a", "fix", Turn({"a.py": HASTY + "#1\n"}), Turn({"a.py": HASTY + "#2\n"}))
    stage.run()
    assert stage.verdicts("a") == ["fix", "fix", "fix", "approve"]
    assert len(stage.runs("a", "fix")) == 2
    assert len(stage.runs("a", "build")) == 2
    assert stage.merged_file("a.py") == code("a")
