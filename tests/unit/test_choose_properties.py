"""`choose` keeps every limit, and whatever is wanted starts in the end."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.scheduler import ORDER, Wanted, choose

#: How long a run works, in rounds.
ROUNDS = 3


@st.composite
def crowds(draw) -> list[Wanted]:
    """Modules that want a run: new ones may lie in lanes, merges go to branches."""
    count = draw(st.integers(1, 25))
    found = []
    for number in range(count):
        kind = draw(st.sampled_from([str(kind) for kind in ORDER]))
        is_new = kind in ("build", "tests") and draw(st.booleans())
        found.append(
            Wanted(
                module_id=number,
                kind=kind,
                is_new=is_new,
                needs_slot=kind not in ("merge", "recheck"),
                lane=draw(st.sampled_from(["", "a", "b"])) if is_new else "",
                branch=draw(st.sampled_from(["integration", "module:1"])),
                priority=draw(st.integers(-2, 2)),
                path_length=draw(st.floats(0, 100)),
                since=draw(st.floats(0, 100)),
            )
        )
    return found


@given(crowds(), st.integers(0, 6), st.sets(st.sampled_from(["a", "b"])))
def test_no_choice_breaks_a_limit(wanted, slots, lanes) -> None:
    chosen = choose(wanted, slots, lanes, ["module:1"])
    assert sum(run.needs_slot for run in chosen) <= slots
    assert len({run.module_id for run in chosen}) == len(chosen)
    taken = Counter(run.lane for run in chosen if run.is_new and run.lane)
    assert not lanes & set(taken) and max(taken.values(), default=0) <= 1
    merging = Counter(run.branch for run in chosen if run.kind == "merge")
    assert merging["module:1"] == 0 and max(merging.values(), default=0) <= 1


@given(crowds(), st.integers(1, 6))
@settings(deadline=None)
def test_whatever_is_wanted_starts_in_the_end(wanted, slots) -> None:
    waiting, started = list(wanted), []
    working: dict[Wanted, int] = {}
    for now in range(len(wanted) * ROUNDS + 1):
        working = {run: end for run, end in working.items() if end > now}
        free = slots - sum(run.needs_slot for run in working)
        lanes = {run.lane for run in working if run.lane}
        branches = {run.branch for run in working if run.kind == "merge"}
        chosen = choose(waiting, free, lanes, branches)
        assert chosen or working or not waiting, "Nothing works and nothing starts."
        working |= dict.fromkeys(chosen, now + ROUNDS)
        waiting = [run for run in waiting if run not in chosen]
        started += chosen
    assert sorted(run.module_id for run in started) == [run.module_id for run in wanted]
    assert not waiting


@given(crowds(), st.integers(0, 6))
def test_the_same_crowd_gives_the_same_choice_in_whatever_order_it_comes(wanted, slots) -> None:
    assert choose(wanted, slots, [], []) == choose(reversed(wanted), slots, [], [])
