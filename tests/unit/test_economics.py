from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.economics import (
    Bound,
    Measured,
    RunFacts,
    Tokens,
    economics,
    lower_bound,
    what_if,
)
from projects.specs import ModuleSpec, Need


def run(module: str, kind: str, start: float, agent: float, gate: float = 0, **more) -> RunFacts:
    role = more.pop("role", "executor")
    return RunFacts(module, kind, role, start, start + agent + gate, agent, gate, **more)


SPECS = [
    ModuleSpec("a"),
    ModuleSpec("b", needs=(Need("a", "implementation"),)),
    ModuleSpec("c", lane="x"),
    ModuleSpec("d", lane="x"),
]
RUNS = [
    run("a", "build", 0, 4, 1, tokens_in=100, tokens_out=10),
    run("b", "build", 5, 3, tokens_in=50),
    run("c", "build", 0, 4, role="", tokens_in=5),
    run("d", "tests", 4, 5, role="", tokens_out=5, parallel_only=True),
    run("", "decompose", 0, 1, role="", tokens_in=30),
    run("a", "merge", 9, 0, 2, role=""),
]


def test_figures_of_a_plan() -> None:
    found = economics(RUNS, SPECS, 2)
    assert found.wall_clock == 11 and found.sequential == 20
    assert found.bound == Bound(work=8.5, critical_path=10, longest_lane=9, merge_queue=2)
    assert (found.bound.seconds, found.bound.binds) == (10, "critical_path")
    assert found.speed_up == pytest.approx(20 / 11) and found.times_bound == pytest.approx(1.1)
    assert found.seconds_by_module == {"a": 7, "b": 3, "c": 4, "d": 5}


def test_tokens_by_role_kind_and_module() -> None:
    found = economics(RUNS, SPECS, 2)
    assert found.tokens == Tokens(185, 15, 5) and found.tokens.total == 200
    assert found.by_role["executor"].total == 165  # a, b, and c by its kind
    assert found.by_role["planner"] == Tokens(0, 5, 5)
    assert found.by_role["orchestrator"].total == 30 and found.by_role["none"].total == 0
    assert found.by_kind["build"].tokens_in == 155
    assert found.by_module["a"] == Tokens(100, 10, 0)


def test_parallel_that_did_not_pay_is_told() -> None:
    assert economics(RUNS, SPECS, 2).paid
    assert not economics(RUNS, SPECS, 2, wall_clock=19).paid
    costly = [*RUNS, run("a", "fix", 11, 1, tokens_in=50, parallel_only=True)]
    assert not economics(costly, SPECS, 2).paid


def test_nothing_ran_yet() -> None:
    found = economics([], SPECS, 0, curve=False)
    assert (found.wall_clock, found.sequential, found.speed_up, found.times_bound) == (0, 0, 1, 1)
    assert found.bound.seconds == 0 and found.what_if == {}


def test_lower_bound_of_measured_runs() -> None:
    runs = [
        Measured("a", "build", 4, 1),
        Measured("b", "build", 3, lane="x"),
        Measured("c", "build", 9, lane="x"),
        Measured("a", "merge", 0, 3, branch="m"),
        Measured("b", "merge", 0, 2, branch="m"),
        Measured("c", "merge", 0, 4, branch="other"),
    ]
    assert lower_bound(runs, after={}, ceiling=5) == 18  # the lane x
    assert lower_bound(runs, after={"c": {"a"}, "ghost": {"b"}}, ceiling=5) == 21
    assert lower_bound(runs[:1], after={}, ceiling=0) == 5
    queue = [Measured("a", "merge", 0, 3), Measured("b", "merge", 0, 3)]
    assert lower_bound(queue, after={"a": {"b"}, "b": {"a"}}, ceiling=1) >= 6


def test_curve_falls_to_the_critical_path() -> None:
    curve = what_if(RUNS, SPECS)
    assert list(curve) == list(range(1, 21)) and curve[1] == 19 and curve[20] == 10


@st.composite
def histories(draw):
    count = draw(st.integers(1, 7))
    specs, runs = [], []
    for n in range(count):
        needed = draw(st.sets(st.integers(0, n - 1), max_size=2)) if n else set()
        needs = tuple(Need(f"m{k}", draw(st.sampled_from(["contract", "implementation"])))
                      for k in sorted(needed))  # fmt: skip
        specs.append(ModuleSpec(f"m{n}", needs=needs, lane=draw(st.sampled_from(["", "x"]))))
        runs.append(run(f"m{n}", "build", 0, draw(st.integers(1, 9)), draw(st.integers(0, 3))))
    return specs, runs


@given(histories(), st.integers(1, 8))
def test_bound_is_below_every_simulated_time(history, ceiling: int) -> None:
    specs, runs = history
    found = economics(runs, specs, ceiling)
    assert found.bound.seconds <= found.what_if[ceiling] + 1e-9
    assert max(found.what_if.values()) <= sum(r.seconds for r in runs) + 1e-9
    # More agents may be slower by an anomaly of list scheduling, never beyond twice.
    pairs = zip(found.what_if.values(), list(found.what_if.values())[1:], strict=False)
    assert all(after <= 2 * before + 1e-9 for before, after in pairs)
