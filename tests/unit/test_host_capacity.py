"""What a host carries: lowered at once, raised one at a time; readings are values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.capacity import Capacity, Demand, Memory, Rules, capacity, need_of, pressure_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULES = Rules(reserve_mb=500, most=8, checks=4, calm_seconds=10)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def free(megabytes: float, **more: float) -> Memory:
    return Memory(4000, megabytes, **more)


def held(slots: int, *, calm: float | None = 0, changed: float = 0, checks: int = 4) -> Capacity:
    calm_since = None if calm is None else at(calm)
    return Capacity(slots, checks, "As it was.", at(changed), calm_since)


def test_the_first_reading_counts_what_fits() -> None:
    found = capacity(None, free(2500), Demand(1, 400), RULES, NOON)
    assert (found.slots, found.checks) == (6, 4)
    assert found.reason == (
        "2500 of 4000 MB are free, 500 MB stay reserved, and an agent needs 400 MB (a first guess)."
    )


def test_what_agents_alive_will_still_take_is_not_free() -> None:
    young = capacity(None, free(2500), Demand(3, 400, growth_mb=1200), RULES, NOON)
    grown = capacity(None, free(1300), Demand(3, 400, growth_mb=0), RULES, NOON)
    assert young.slots == grown.slots == 5


def test_an_agent_that_needs_more_than_there_is_runs_alone() -> None:
    assert capacity(None, free(2000), Demand(0, 9000), RULES, NOON).slots == 1


def test_less_memory_lowers_at_once() -> None:
    found = capacity(held(6), free(900), Demand(2, 400), RULES, at(1))
    assert (found.slots, found.changed_at, found.pressure) == (3, at(1), "")


def test_pressure_lowers_to_what_is_alive_and_leaves_one_check() -> None:
    some = capacity(held(6), free(400), Demand(3, 100), RULES, at(1))
    assert (some.slots, some.checks, some.pressure, some.calm_since) == (3, 1, "some", None)
    assert some.reason == "Only 400 MB of memory are free, below the floor of 500 MB."
    hard = capacity(some, free(200), Demand(3, 100), RULES, at(2))
    assert (hard.slots, hard.pressure) == (2, "hard")
    again = capacity(hard, free(200), Demand(2, 100), RULES, at(3))
    last = capacity(again, free(200), Demand(1, 100), RULES, at(4))
    assert (again.slots, last.slots, last.changed_at) == (1, 1, at(3))
    assert capacity(last, free(200), Demand(0, 100), RULES, at(5)).slots == 0


def test_waiting_for_memory_is_pressure_even_when_much_is_free() -> None:
    found = capacity(held(6), free(3000, some=30, full=1), Demand(0, 100), RULES, at(1))
    assert (found.slots, found.pressure) == (1, "some")
    assert found.reason == (
        "Work waited for memory in 30 % of the last 10 s, all of it in 1 %."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("memory", "said"),
    [(free(501), ""), (free(499), "some"), (free(249), "hard"), (free(3000, full=5), "some"),
     (free(3000, some=20), "some"), (free(3000, full=20), "hard"), (free(3000, some=19), "")],
)  # fmt: skip
def test_what_pressure_is(memory, said) -> None:
    assert pressure_of(memory, RULES) == said


def test_after_calm_it_rises_one_by_one() -> None:
    now, slots = held(2, calm=None, checks=1), []
    for second in range(0, 61, 2):
        now = capacity(now, free(3000), Demand(1, 100), RULES, at(second))
        slots.append((second, now.slots, now.checks))
    assert [slot for slot in slots if slot[0] in (8, 10, 18, 20, 30, 60)] == [
        (8, 2, 1), (10, 3, 2), (18, 3, 4), (20, 4, 4), (30, 5, 4), (60, 8, 4),
    ]  # fmt: skip
    assert now.reason.startswith("One more after 10 s of calm: 3000 of 4000 MB")


def test_it_does_not_flutter_at_an_edge() -> None:
    now = held(4)
    for second, megabytes in enumerate([899, 901, 899, 901] * 20):
        now = capacity(now, free(megabytes), Demand(3, 400), RULES, at(20 + second))
        assert now.slots == 3, second
    assert capacity(now, free(1001), Demand(3, 400), RULES, at(200)).slots == 4


def test_a_clock_that_was_set_back_does_not_hold_it_down() -> None:
    first = capacity(held(2, calm=5000, changed=5000), free(3000), Demand(0, 100), RULES, at(0))
    assert (first.slots, first.calm_since) == (2, at(0))
    assert capacity(first, free(3000), Demand(0, 100), RULES, at(10)).slots == 3


def test_what_an_agent_needs() -> None:
    assert need_of([], 500) == (500, "a first guess")
    assert need_of([30.0] * 9 + [900.0], 500) == (30, "nine of ten of 10 runs")
    assert need_of([100.0, 200.0], 500)[0] == 200
    assert need_of([1.0], 500) == (16, "nine of ten of 1 run")


memories = st.builds(
    Memory, st.just(4000.0), st.floats(0, 4000), st.none() | st.floats(0, 100),
    st.none() | st.floats(0, 100),
)  # fmt: skip
demands = st.builds(Demand, st.integers(0, 12), st.floats(1, 3000), st.floats(0, 3000))
steps = st.lists(st.tuples(memories, demands, st.floats(-5, 60)), min_size=1, max_size=30)


@given(steps)
def test_never_above_any_limit_and_never_up_by_more_than_one(course) -> None:
    before, second = None, 0.0
    for memory, demand, pause in course:
        second += pause
        after = capacity(before, memory, demand, RULES, at(second))
        assert after == capacity(before, memory, demand, RULES, at(second))
        assert 0 <= after.slots <= RULES.most and 1 <= after.checks <= RULES.checks
        if after.pressure:
            assert after.checks == 1 and after.slots <= max(1, demand.alive)
            assert before is None or after.slots <= before.slots
            assert memory.available_mb >= RULES.reserve_mb or after.slots <= demand.alive
        else:
            need = max(16.0, demand.need_mb)
            beside = after.slots - demand.alive
            room = memory.available_mb - RULES.reserve_mb - demand.growth_mb
            assert after.slots <= 1 or beside * need <= room + 1e-6
        if before is not None:
            assert after.slots <= before.slots + 1
            if after.slots == before.slots:
                assert (after.reason, after.changed_at) == (before.reason, before.changed_at)
            elif after.slots > before.slots:
                assert after.calm_since is not None
                assert at(second) - after.calm_since >= timedelta(seconds=10)
        before = after


@given(st.integers(0, 3), demands)
def test_calm_always_brings_it_back(slots, demand) -> None:
    """No wait without an end: with enough memory and time it reaches all that fits."""
    now, roomy = held(slots, calm=None, checks=1), Memory(1e6, 1e6)
    for minute in range(12):
        now = capacity(now, roomy, replace(demand, growth_mb=0), RULES, at(60 * minute))
    assert (now.slots, now.checks) == (RULES.most, RULES.checks)
