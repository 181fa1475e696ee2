from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import record, simulation, telling, timeline
from agents.bounds import Bound, Measured, bound_of
from agents.economics import (
    PURPOSES,
    Lap,
    PlanFacts,
    RunFacts,
    Spent,
    economics,
    history,
    laps_of,
    purposes_of,
)
from projects.specs import ModuleSpec, Need


def run(module: str, kind: str, start: float, agent: float, gate: float = 0, **more) -> RunFacts:
    role = more.pop("role", "executor")
    ended = more.pop("ended", start + agent + gate)
    return RunFacts(module, kind, role, start, ended, agent, gate, **more)


def plan(runs, specs=(), ceiling: int = 2, finished: float | None = None, **more) -> PlanFacts:
    last = max((r.ended for r in runs), default=0.0) if finished is None else finished
    numbers = {"modules": len(specs), "merged": len(specs), "checks": 8, **more}
    return PlanFacts("shop", 1, 0.0, last, ceiling, specs=tuple(specs), runs=tuple(runs), **numbers)


SPECS = [
    ModuleSpec("a"),
    ModuleSpec("b", needs=(Need("a", "implementation"),)),
    ModuleSpec("c", lane="x"),
    ModuleSpec("d", lane="x"),
]
RUNS = [
    run("a", "build", 0, 4, 1, tokens_in=100, tokens_out=10, cost=Decimal("0.5")),
    run("b", "build", 5, 3, tokens_in=50),
    run("c", "build", 0, 4, role="", tokens_in=5),
    run("d", "tests", 4, 5, role="", tokens_out=5, parallel_only=True),
    run("", "decompose", 0, 1, role="", tokens_in=30),
    run("a", "merge", 9, 0, 2, role=""),
]


def test_figures_of_a_plan() -> None:
    found = economics(plan(RUNS, SPECS))
    assert found.wall_clock == 11 and found.sequential == 19
    assert found.bound == Bound(work=8, critical_path=10, longest_lane=9, merge_queue=2)
    assert (found.bound_seconds, found.bound.binds) == (10, "critical_path")
    assert found.speed_up == pytest.approx(19 / 11) and found.times_bound == pytest.approx(1.1)


def test_tokens_by_role_kind_and_module() -> None:
    found = economics(plan(RUNS, SPECS))
    assert (found.total.tokens_in, found.total.tokens_out, found.total.parallel_only) == (
        185,
        15,
        5,
    )
    assert found.total.parallel_share == 5 / 200
    assert found.by_role["executor"].tokens == 165  # a, b, and c by its kind
    assert found.by_role["planner"].parallel_only == 5
    assert found.by_role["orchestrator"].tokens == 30 and found.by_role["none"].tokens == 0
    assert found.by_kind["build"].tokens_in == 155
    assert found.by_module["a"].tokens == 110 and found.by_module["a"].runs == 2


def test_money_is_unpriced_and_tokens_unknown_rather_than_nothing() -> None:
    found = economics(plan(RUNS, SPECS))
    assert found.total.cost == Decimal("0.5") and found.total.unpriced == 1
    silent = economics(plan([run("a", "build", 0, 4)], SPECS))
    assert silent.total.cost is None and silent.total.unpriced == silent.total.unknown == 1
    told = run("a", "build", 0, 4, tokens_in=1_200, quality="last_step")
    part = economics(plan([told, run("a", "fix", 4, 5, tokens_in=1)], SPECS)).total
    assert (part.partial, telling.tokens(part)) == (1, "at least 1,201")
    own = economics(plan([run("a", "merge", 0, 0, 4, role="")], SPECS))
    assert own.total.unpriced == own.total.unknown == 0 and own.total.cost is None


def test_the_clock_starts_with_the_approval_and_not_with_the_proposal() -> None:
    asked = run("", "decompose", -500, 60, role="orchestrator", tokens_in=70)
    before, found = economics(plan(RUNS, SPECS)), economics(plan([asked, *RUNS], SPECS))
    assert (found.sequential, found.speed_up) == (before.sequential, before.speed_up)
    assert found.bound == before.bound and found.what_if == before.what_if
    assert found.total.tokens == before.total.tokens + 70
    drawn = {timeline.bars_chart(plan(runs, SPECS), str).svg for runs in (RUNS, [asked, *RUNS])}
    assert len(drawn) == 1


def test_later_turns_and_attempts_after_findings_are_rework() -> None:
    laps = (Lap(4, 1, 60, 6), Lap(2, 1, 40, 4))
    runs = [
        run("a", "tests", 0, 3, 1, id=1),
        run("a", "build", 4, 6, 2, id=2, laps=laps, tokens_in=100, tokens_out=10,
            cost=Decimal("1.1")),
        run("a", "review", 12, 2, id=3),
        run("a", "fix", 14, 1, id=4),
        run("a", "review", 15, 2, id=5),
        run("a", "merge", 17, 0, 1, role="", id=6),
    ]  # fmt: skip
    found = economics(plan(runs, [ModuleSpec("a")]))
    assert purposes_of(runs) == {
        1: {"test"}, 2: {"code", "rework"}, 3: {"review"}, 4: {"fix"}, 5: {"rework"},
        6: {"coordination"},
    }  # fmt: skip
    assert found.by_purpose["code"].tokens == 66 and found.by_purpose["rework"].tokens == 44
    assert found.by_purpose["code"].cost == Decimal("0.66")
    assert found.rework.seconds == 3 + 1 + 2 and found.rework.runs == 3
    assert list(found.by_purpose) == [p for p in PURPOSES if p in found.by_purpose]


def test_what_a_crash_cut_off_is_no_rework_when_done_again() -> None:
    runs = [
        run("a", "build", 0, 3, id=1, status="interrupted"),
        run("a", "build", 4, 5, id=2),
        run("a", "build", 9, 5, id=3),
    ]
    assert purposes_of(runs) == {1: {"code"}, 2: {"code"}, 3: {"rework"}}


@pytest.mark.parametrize(
    ("owner", "purpose"),
    [("tutti", "code"), ("provider", "code"), ("agent", "rework"), ("", "rework")],
)
def test_only_what_the_agent_failed_makes_the_next_attempt_rework(owner, purpose) -> None:
    failed = run("a", "build", 0, 3, id=1, status="failed", reason_owner=owner)
    assert purposes_of([failed, run("a", "build", 4, 5, id=2)])[2] == {purpose}


def test_turns_sum_up_to_their_run_whatever_they_say() -> None:
    odd = run("a", "build", 0, 9, 4, laps=(Lap(4, 1, None, None), Lap()), tokens_in=7)
    first, last = laps_of(odd)
    assert (first.agent_seconds, last.agent_seconds, last.gate_seconds) == (4, 5, 3)
    assert (last.tokens_in, last.tokens_out) == (7, 0)
    assert laps_of(run("a", "merge", 0, 0, 2, role="")) == (Lap(0, 2, None, None),)


def test_parallel_that_did_not_pay_is_told() -> None:
    assert economics(plan(RUNS, SPECS)).paid
    (slow,) = economics(plan(RUNS, SPECS, finished=18)).why_not
    assert "18 s" in slow and "19 s" in slow
    costly = [*RUNS, run("a", "fix", 11, 1, tokens_in=50, parallel_only=True)]
    (tokens,) = economics(plan(costly, SPECS)).why_not
    assert tokens.startswith("22% of its tokens")


@pytest.mark.parametrize(
    ("runs", "specs", "ceiling", "finished", "why"),
    [
        ([run("a", "build", 0, 9)], [ModuleSpec("a")], 1, 9, "only one run was allowed"),
        ([run("a", "build", 0, 9)], [ModuleSpec("a")], 5, 40, "it waited"),
        (RUNS[:2], SPECS[:2], 5, 8, "need each other"),
        ([run(m, "build", 4 * n, 4) for n, m in enumerate("cd")], SPECS[2:], 5, 8, "coupled"),
        ([run(m, "merge", 4 * n, 0, 4, role="") for n, m in enumerate("ab")],
         [ModuleSpec("a"), ModuleSpec("b")], 5, 8, "merges"),
        ([run(m, "build", n, 4) for n, m in enumerate("ab")],
         [ModuleSpec("a"), ModuleSpec("b")], 2, 7.5, "hardly more work"),
    ],
)  # fmt: skip
def test_why_it_did_not_pay(runs, specs, ceiling, finished, why) -> None:
    (said,) = economics(plan(runs, specs, ceiling, finished)).why_not
    assert why in said


def test_nothing_ran_yet() -> None:
    found = economics(PlanFacts("shop", 1, None, None, 0, 1, (), (), 0, 0), with_curve=False)
    assert (found.wall_clock, found.sequential, found.speed_up, found.times_bound) == (0, 0, 1, 1)
    assert found.bound_seconds == 0 and found.what_if == {} and found.paid
    assert found.total == found.rework == Spent() and found.today is None


def test_lower_bound_of_measured_runs() -> None:
    runs = [
        Measured("a", "build", 4, 1),
        Measured("b", "build", 3, lane="x"),
        Measured("c", "build", 9, lane="x"),
        Measured("a", "merge", 0, 3, branch="m"),
        Measured("b", "merge", 0, 2, branch="m"),
        Measured("c", "merge", 0, 4, branch="other"),
    ]
    assert bound_of(runs, after={}, ceiling=5).seconds == 18  # the lane x
    assert bound_of(runs, after={"c": {"a"}, "ghost": {"b"}}, ceiling=5).seconds == 21
    assert bound_of(runs[:1], after={}, ceiling=0).seconds == 5
    queue = [Measured("a", "merge", 0, 3), Measured("b", "merge", 0, 3)]
    assert bound_of(queue, after={"a": {"b"}, "b": {"a"}}, ceiling=1).seconds >= 6


def test_curve_falls_to_the_critical_path() -> None:
    curve = economics(plan(RUNS, SPECS)).what_if
    assert list(curve) == list(range(1, 21)) and curve[20] == 10
    # Two seconds of gates cost no slot.
    assert curve[1] == 4 + 3 + 4 + 5


def simulated(steps: dict[str, list[simulation.Step]], ceiling: int, specs=None, **more) -> float:
    specs = specs or [ModuleSpec(slug) for slug in steps]
    return simulation.wall_clock(simulation.History(specs, steps, **more), ceiling)


def test_slots_are_given_back_while_gates_run() -> None:
    step = simulation.Step("build", ((2, 3), (2, 3)))
    assert simulated({"a": [step]}, 1) == 10
    assert simulated({"a": [step], "b": [step]}, 1, checks=2) == 12
    assert simulated({"a": [step], "b": [step]}, 1, checks=1) == 14


def test_merges_go_one_at_a_time_and_have_a_check_of_their_own() -> None:
    merge = simulation.Step("merge", ((1, 4),), needs_slot=False)
    assert simulated({"a": [merge], "b": [merge]}, 5, checks=1) == 10
    build = simulation.Step("build", ((1, 9),))
    assert simulated({"a": [build], "b": [merge]}, 5, checks=1) == 10


def test_plan_wide_runs_are_before_and_after() -> None:
    step = simulation.Step("build", ((5, 0),))
    assert simulated({"a": [step]}, 1, before_seconds=2, after_seconds=3) == 10


def test_a_part_starts_after_its_parent_split_and_the_parent_waits_for_it() -> None:
    specs = [ModuleSpec("a"), ModuleSpec("a/x", parent="a"), ModuleSpec("a/y", parent="a")]
    build = simulation.Step("build", ((4, 0),))
    recheck = simulation.Step("recheck", ((0, 1),), needs_slot=False)
    steps = {"a": [build, recheck], "a/x": [build], "a/y": [build]}
    assert simulated(steps, 2, specs) == 9 and simulated(steps, 1, specs) == 13


def test_built_modules_wait_for_what_they_need_before_their_review() -> None:
    specs = [ModuleSpec("a"), ModuleSpec("b", needs=(Need("a", "contract"),))]
    build, review = simulation.Step("build", ((9, 0),)), simulation.Step("review", ((1, 0),))
    quick = simulation.Step("build", ((2, 0),))
    assert simulated({"a": [build], "b": [quick, review]}, 5, specs) == 10


def test_a_record_that_ends_in_the_middle_does_not_hang() -> None:
    specs = [
        ModuleSpec("a", needs=(Need("b", "implementation"),)),
        ModuleSpec("b", needs=(Need("a", "implementation"),)),
        ModuleSpec("c", needs=(Need("a", "contract"),)),
    ]
    steps = {
        "a": [simulation.Step("build", ((1, 0),))],
        "c": [simulation.Step("review", ((2, 0),))],
    }
    assert simulated(steps, 2, specs) >= 2
    assert simulated({}, 3, [ModuleSpec("a")]) == 0


def test_the_simulation_is_near_what_the_demo_took() -> None:
    # What the demo on boltons wrote of itself, on a machine that had much else to do.
    events = record.read_file(Path(__file__).parent / "data" / "boltons_demo.jsonl")
    facts = record.facts(events, project="boltons")
    found = economics(facts)
    assert (facts.modules, facts.merged, facts.ceiling) == (23, 23, 5)
    assert found.bound.seconds <= found.wall_clock
    assert found.today == pytest.approx(found.wall_clock, rel=0.1)


@st.composite
def histories(draw):
    """Runs as an engine without waits leaves them, for modules with needs and lanes."""
    count = draw(st.integers(1, 7))
    specs: list[ModuleSpec] = []
    runs: list[RunFacts] = []
    seconds = st.integers(0, 9)
    for n in range(count):
        needed = draw(st.sets(st.integers(0, n - 1), max_size=2)) if n else set()
        needs = tuple(Need(f"m{k}", draw(st.sampled_from(["contract", "implementation"])))
                      for k in sorted(needed))  # fmt: skip
        specs.append(ModuleSpec(f"m{n}", needs=needs, lane=draw(st.sampled_from(["", "x"]))))
        at = 0.0
        for kind in draw(st.lists(st.sampled_from(["tests", "build", "review", "merge"]),
                                  max_size=4)):  # fmt: skip
            has_agent = kind != "merge"
            parts = [
                Lap(draw(seconds) if has_agent else 0, draw(seconds), draw(seconds), 1)
                for _ in range(draw(st.integers(1, 2)))
            ]
            cost = draw(st.none() | st.decimals(0, 9, places=6, allow_nan=False))
            made = run(
                f"m{n}", kind, at, sum(p.agent_seconds for p in parts),
                sum(p.gate_seconds for p in parts), role="executor" if has_agent else "",
                needs_slot=has_agent, laps=tuple(parts), tokens_in=sum(p.tokens_in for p in parts),
                tokens_out=len(parts), parallel_only=draw(st.booleans()), id=len(runs) + 1,
                cost=cost, status=draw(st.sampled_from(["succeeded", "failed", "stalled"])),
            )  # fmt: skip
            runs.append(made)
            at = made.ended
    return specs, runs


@given(histories(), st.integers(1, 20), st.integers(1, 4))
def test_bound_is_below_every_schedule_and_the_curve_never_rises(history_of, ceiling, checks):
    specs, runs = history_of
    facts = plan(runs, specs, ceiling, checks=checks)
    found = economics(facts)
    curve = list(found.what_if.values())
    assert found.bound.seconds <= found.what_if[ceiling] + 1e-9
    assert all(after <= before for before, after in pairwise(curve))
    assert curve[0] <= found.sequential + 1e-9
    assert simulation.wall_clock(history(facts), ceiling) >= found.what_if[ceiling] - 1e-9


@given(histories(), st.integers(1, 20), st.floats(0, 1000))
def test_bound_is_never_above_the_wall_clock(history_of, ceiling: int, finished: float) -> None:
    specs, runs = history_of
    found = economics(plan(runs, specs, ceiling, finished), with_curve=False)
    assert 0 <= found.bound_seconds <= found.wall_clock


@given(histories())
def test_every_table_sums_up_to_the_total(history_of) -> None:
    specs, runs = history_of
    found = economics(plan(runs, specs), with_curve=False)
    for groups in (found.by_role, found.by_kind, found.by_module, found.by_purpose):
        rows = list(groups.values())
        assert sum(r.tokens_in for r in rows) == found.total.tokens_in == sum(
            r.tokens_in for r in runs
        )  # fmt: skip
        assert sum(r.parallel_only for r in rows) == found.total.parallel_only
        assert sum(r.seconds for r in rows) == pytest.approx(found.sequential)
        assert sum(r.cost or 0 for r in rows) == sum(r.cost or 0 for r in runs)
    assert sum(r.runs for r in found.by_module.values()) == found.total.runs == len(runs)
