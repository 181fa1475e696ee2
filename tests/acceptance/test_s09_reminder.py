"""Each assignment ends with the reminder: split what is independent, leave coupled work alone."""

from __future__ import annotations

from tests.acceptance.stage import given, need, part

SPLIT = "# Reminder\nSplit the work into independent components where you can."


def test_every_assignment_reminds_and_names_what_is_coupled(team):
    stage = team(part("a"), given("b", needs=[need("a", "coupled")]), given("c"))
    stage.run()
    assert set(stage.statuses().values()) == {"merged"}
    reminders: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    for run in stage.project.runs.filter(module__isnull=False):
        for turn in run.assignments:
            assert turn["text"].count(SPLIT) == 1
            reminders[run.module.slug].append(turn["text"].partition(SPLIT)[2])
    assert set(reminders["a"]) == {" These are coupled, don't parallelize: a, b."}
    assert set(reminders["b"]) == {" These are coupled, don't parallelize: b, a."}
    assert set(reminders["c"]) == {""}
    assert [len(reminders[name]) for name in "abc"] == [3, 2, 2]
