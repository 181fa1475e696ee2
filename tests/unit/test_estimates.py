"""What a module will need, by runs that were similar; and in words what a quota makes of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import estimates, quotas
from agents.estimates import Past, Source, Wanted
from agents.quotas import Rates, Rule, Use

D = Decimal
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
RATES = Rates(D(3), D(15))
BUILD = Source("build", "executor", "fast-1", rates=RATES, is_priced=True)
FIX = replace(BUILD, kind="fix", role="orchestrator")


def runs(*tokens, size=None, cost=None):
    return tuple(Past(one, 0, size, cost) for one in tokens)


# --- Similar runs --------------------------------------------------------------------------------


def test_median_of_the_projects_own_runs_comes_first():
    source = replace(BUILD, own=runs(10, 20, 90), site=runs(*[1_000] * 50))
    step = estimates.step_of(source)
    assert (step.tokens, step.is_guess) == (20, False)
    assert step.basis == "median of 3 finished build runs of fast-1 in this project"


def test_the_sites_runs_count_where_the_project_has_too_few():
    step = estimates.step_of(replace(BUILD, own=runs(10, 20), site=runs(10, 20, 40, 60)))
    assert step.tokens == 30
    assert step.basis == "median of 4 finished build runs of fast-1 of the whole site"


def test_without_similar_runs_the_default_is_that_of_a_claim():
    step = estimates.step_of(replace(BUILD, own=runs(10), site=runs(10, 20)))
    guess = quotas.estimate("build", [], RATES)
    assert (step.tokens, step.money, step.is_guess) == (guess.tokens, guess.money, True)
    assert step.basis == "no similar run yet: a default of 60,000 tokens for a build run"


def test_runs_of_modules_about_as_long_come_before_all_others():
    own = runs(100, 110, 120, size=60.0) + runs(900, 910, 920, size=600.0) + runs(400)
    source = replace(BUILD, own=own)
    near = estimates.step_of(source, 50.0)
    assert near.tokens == 110 and near.basis.endswith("of modules estimated about as long")
    assert estimates.step_of(source, 1_000.0).tokens == 910
    # No such module was built, or nobody estimated this one: nothing is scaled.
    assert estimates.step_of(source, 5_000.0).tokens == 400
    assert estimates.step_of(source, None).tokens == 400


def test_runs_that_told_only_a_part_are_said():
    own = [*runs(10, 20), Past(90, 0, is_part=True)]
    assert estimates.step_of(replace(BUILD, own=own)).basis.endswith(
        "in this project; at least that, for 1 of them told only a part"
    )


@given(st.lists(st.integers(0, 10**9), max_size=9), st.lists(st.integers(0, 10**9), max_size=9))
def test_an_estimate_lies_within_what_it_goes_by(own, site):
    found, basis = estimates.similar(replace(BUILD, own=runs(*own), site=runs(*site)), 5.0)
    tokens = estimates.step_of(replace(BUILD, own=runs(*own), site=runs(*site)), 5.0).tokens
    assert bool(found) == bool(basis) == (max(len(own), len(site)) >= quotas.SAMPLES)
    if found:
        assert min(r.tokens for r in found) <= tokens <= max(r.tokens for r in found)


# --- How often -----------------------------------------------------------------------------------


def test_repetitions_of_merged_modules_are_counted_in():
    step = estimates.step_of(replace(BUILD, own=runs(100, 100, 100), runs=6, modules=4))
    assert step.tokens == 150 and step.money == D("0.00045")
    assert step.basis.endswith("; 6 runs for 4 merged modules here")


@pytest.mark.parametrize(
    ("count", "modules", "tokens", "said"),
    [
        (0, 2, 100, "counted once a module"),
        (1, 4, 25, "1 fix for 4 merged modules here"),
        (0, 4, 0, "0 fixes for 4 merged modules here"),
    ],
)
def test_fixes_are_expected_as_often_as_they_were_needed(count, modules, tokens, said):
    step = estimates.step_of(replace(FIX, own=runs(100, 100, 100), runs=count, modules=modules))
    assert step.tokens == tokens and step.basis.endswith(said)


# --- Money ---------------------------------------------------------------------------------------


def test_money_is_priced_told_unpriced_or_not_needed():
    own = tuple(Past(1_000, 100, None, D("0.5")) for _ in range(3))
    priced = estimates.step_of(replace(BUILD, own=own))
    assert (priced.money, priced.price) == (D("0.0045"), "priced")
    told = estimates.step_of(replace(BUILD, own=own, rates=None, is_priced=False))
    assert (told.money, told.price) == (D("0.5"), "told")
    bare = replace(BUILD, own=runs(1_000_000, 1_000_000, 1_000_000), is_priced=False)
    unpriced = estimates.step_of(bare)
    assert (unpriced.money, unpriced.price, unpriced.counted) == (None, "unpriced", D(3))
    replayed = estimates.step_of(replace(bare, is_replay=True))
    assert (replayed.money, replayed.price) == (None, "replayed")


def test_sums_never_take_unknown_money_for_nothing():
    priced = estimates.step_of(replace(BUILD, own=runs(10**6, 10**6, 10**6)))
    unpriced = replace(priced, money=None, price="unpriced")
    replayed = replace(priced, money=None, price="replayed")

    def said(*steps):
        return estimates.say_money(estimates.total_of(steps), "USD")

    assert said(priced, priced) == "6.00 USD"
    assert said(priced, unpriced) == "at least 3.00 USD"
    assert said(unpriced, replayed) == "unpriced"
    assert said(replayed) == "no price needed"
    assert said(priced, replayed) == "3.00 USD"
    assert said() == "nothing"


# --- A plan --------------------------------------------------------------------------------------


def test_a_module_needs_only_what_is_still_to_do():
    left = estimates.kinds_left
    assert left("waiting") == left("draft") == estimates.KINDS
    assert left("waiting", tests_given=True) == ("build", "review", "fix")
    assert left("needs_person", resume_to="building") == ("build", "review", "fix")
    assert left("fixing") == ("review", "fix")
    assert left("merging") == left("merged") == left("cancelled") == ()


def test_headline_says_how_much_is_a_guess():
    sources = {kind: replace(BUILD, kind=kind) for kind in estimates.KINDS}
    wanted = [Wanted("a", None, estimates.KINDS), Wanted("b", None, ("build",))]

    def said():
        rows = estimates.rows_of(wanted, sources)
        steps = [step for row in rows for step in row.steps.values()]
        return estimates.say_total(estimates.total_of(steps), len(rows), "USD")

    assert said() == (
        "About 210,000 tokens, 1.13 USD, for 2 modules: a first guess, for no similar run has"
        " finished yet."
    )
    sources["build"] = replace(BUILD, own=runs(10_000, 10_000, 10_000))
    assert said().startswith("About 110,000 tokens") and said().endswith("in part a first guess.")
    wanted = [Wanted("b", None, ("build",))]
    assert said() == "About 10,000 tokens, 0.03 USD, for 1 module, by similar runs."
    wanted = []
    assert said() == "Agents have nothing left to do for its modules."


# --- Quotas --------------------------------------------------------------------------------------


def rule(period="day", limit=1_000_000, **values):
    return Rule("The project's", values.pop("measure", "tokens"), period, D(limit), **values)


def test_what_fits_needs_no_word():
    assert estimates.shortfall(rule(), Use(D(500_000), D(0)), D(500_000), NOON) == ""


def test_what_does_not_fit_is_said_with_what_happens_then():
    said = estimates.shortfall(rule(), Use(D(500_000), D(100_000)), D(600_000), NOON)
    assert said == (
        "The project's tokens of today would not suffice: 400,000 of 1.0 million tokens are left,"
        " and the plan needs about 600,000. Work waits once that is used up and goes on at 00:00"
        " UTC, or when it is raised."
    )


def test_a_plan_larger_than_the_limit_takes_several_of_its_times():
    month = rule("month", 10, measure="money")
    said = estimates.shortfall(month, Use(), D(25), NOON)
    assert "10.00 of 10.00 USD is left" in said and "at least 3 months" in said
    rolling = rule("window", 100, window_seconds=18_000)
    said = estimates.shortfall(rolling, Use(), D(250), NOON)
    assert "as earlier use leaves the window" in said and "3 times 5 hours" in said
    assert "Nothing starts" in estimates.shortfall(rule(limit=0), Use(), D(1), NOON)
