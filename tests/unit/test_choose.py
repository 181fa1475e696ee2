from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.models import Run
from agents.scheduler import Wanted, choose

K = Run.Kind


def ids(chosen):
    return [run.module_id for run in chosen]


def test_what_is_nearly_done_goes_first():
    wanted = [
        Wanted(1, K.TESTS, is_new=True),
        Wanted(2, K.BUILD),
        Wanted(3, K.FIX),
        Wanted(4, K.REVIEW),
        Wanted(5, K.MERGE, needs_slot=False),
        Wanted(6, K.RECHECK, needs_slot=False),
    ]
    assert ids(choose(wanted, 10, [], [])) == [5, 4, 3, 6, 2, 1]


def test_a_module_with_given_tests_is_still_new():
    wanted = [Wanted(1, K.BUILD, is_new=True, path_length=9), Wanted(2, K.BUILD)]
    assert ids(choose(wanted, 1, [], [])) == [2]


def test_people_come_before_the_critical_path_and_that_before_age():
    wanted = [
        Wanted(1, K.BUILD, path_length=5, since=1),
        Wanted(2, K.BUILD, path_length=9, since=3),
        Wanted(3, K.BUILD, path_length=5, since=0),
        Wanted(4, K.BUILD, priority=1, since=9),
    ]
    assert ids(choose(wanted, 10, [], [])) == [4, 2, 3, 1]


def test_slots_bound_only_what_needs_one():
    wanted = [
        Wanted(1, K.BUILD),
        Wanted(2, K.BUILD),
        Wanted(3, K.MERGE, needs_slot=False),
        Wanted(4, K.RECHECK, needs_slot=False),
    ]
    assert ids(choose(wanted, 1, [], [])) == [3, 4, 1]


def test_a_taken_lane_lets_no_new_module_start_but_its_own_goes_on():
    wanted = [Wanted(1, K.TESTS, is_new=True, lane="a"), Wanted(2, K.BUILD, lane="a")]
    assert ids(choose(wanted, 5, ["a"], [])) == [2]


def test_two_modules_of_one_lane_never_start_together():
    wanted = [Wanted(n, K.TESTS, is_new=True, lane="a") for n in (1, 2)]
    assert ids(choose(wanted, 5, [], [])) == [1]


def test_a_branch_has_one_merge_at_a_time():
    wanted = [
        Wanted(1, K.MERGE, needs_slot=False, branch="x"),
        Wanted(2, K.MERGE, needs_slot=False, branch="x"),
        Wanted(3, K.MERGE, needs_slot=False, branch="y"),
    ]
    assert ids(choose(wanted, 0, [], [])) == [1, 3]
    assert ids(choose(wanted, 0, [], ["x"])) == [3]


wanted_runs = st.lists(
    st.builds(
        Wanted,
        module_id=st.integers(1, 40),
        kind=st.sampled_from([K.MERGE, K.REVIEW, K.FIX, K.RECHECK, K.BUILD, K.TESTS]),
        is_new=st.booleans(),
        needs_slot=st.booleans(),
        lane=st.sampled_from(["", "a", "b"]),
        branch=st.sampled_from(["x", "y"]),
        priority=st.integers(-3, 3),
        path_length=st.floats(0, 100),
        since=st.floats(0, 100),
    ),
    unique_by=lambda run: run.module_id,
)


@given(wanted_runs, st.integers(0, 6))
def test_no_choice_is_ever_above_the_slots_or_doubles_a_lane(wanted, slots):
    chosen = choose(wanted, slots, [], [])
    assert sum(run.needs_slot for run in chosen) <= slots
    lanes = [run.lane for run in chosen if run.is_new and run.lane]
    assert len(lanes) == len(set(lanes))
    merges = [run.branch for run in chosen if run.kind == K.MERGE]
    assert len(merges) == len(set(merges))


@given(wanted_runs)
def test_with_room_for_all_nothing_without_a_lane_is_left_behind(wanted):
    chosen = choose(wanted, len(wanted), [], [])
    left = [run for run in wanted if run not in chosen]
    assert all((run.is_new and run.lane) or run.kind == K.MERGE for run in left)
