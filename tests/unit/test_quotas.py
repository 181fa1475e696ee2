from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import quotas
from agents.quotas import Estimate, Rates, Rule, Use

D = Decimal
BERLIN = "Europe/Berlin"
ZONES = ["UTC", BERLIN, "America/New_York", "America/Havana", "Asia/Beirut", "Asia/Kathmandu",
         "Australia/Lord_Howe", "Pacific/Apia"]  # fmt: skip


def at(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def rule(period="day", limit=1_000_000, **values):
    return Rule("The site's", values.pop("measure", "tokens"), period, D(limit), **values)


# --- Windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "begins", "ends"),
    [
        ("2026-11-25 12:00", "2026-11-24T23:00Z", "2026-11-25T23:00Z"),
        ("2026-11-25 00:00", "2026-11-24T23:00Z", "2026-11-25T23:00Z"),
        # Clocks went forward at two on this day, which has 23 hours, and back on the other.
        ("2026-03-29 12:00", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        ("2026-10-25 12:00", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
    ],
)
def test_a_day_begins_and_ends_at_midnight_of_its_zone(now, begins, ends):
    moment = at(now, BERLIN)
    start = quotas.window_start("day", moment, time_zone=BERLIN)
    end = quotas.window_end("day", moment, time_zone=BERLIN)
    assert start == datetime.fromisoformat(begins.replace("Z", "+00:00"))
    assert end == datetime.fromisoformat(ends.replace("Z", "+00:00"))


@pytest.mark.parametrize(
    ("now", "begins", "ends"),
    [
        ("2026-02-28 23:59", "2026-02-01", "2026-03-01"),
        ("2028-02-29 00:00", "2028-02-01", "2028-03-01"),
        ("2026-12-31 23:59", "2026-12-01", "2027-01-01"),
        ("2026-01-31 10:00", "2026-01-01", "2026-02-01"),
    ],
)
def test_a_month_begins_on_its_first(now, begins, ends):
    moment = at(now)
    assert quotas.window_start("month", moment) == at(begins)
    assert quotas.window_end("month", moment) == at(ends)


def test_midnight_that_does_not_exist_is_the_moment_of_the_change():
    # Beirut's clocks go from 00:00 to 01:00 on this day.
    now = at("2026-03-29 05:00", "Asia/Beirut")
    assert quotas.window_start("day", now, time_zone="Asia/Beirut") == at("2026-03-28 22:00")


def test_midnight_that_exists_twice_is_the_first_of_both():
    # Havana's clocks go from 01:00 back to 00:00 on this day.
    now = datetime(2026, 11, 1, 0, 30, fold=1, tzinfo=ZoneInfo("America/Havana"))
    start = quotas.window_start("day", now, time_zone="America/Havana")
    assert start == at("2026-11-01 04:00")
    assert now - start == timedelta(minutes=90)


def test_a_rolling_window_reaches_back_through_a_change_of_clocks():
    now = at("2026-03-29 04:00", BERLIN)
    start = quotas.window_start("window", now, window_seconds=3_600 * 4, time_zone=BERLIN)
    assert start == at("2026-03-28 22:00")
    assert now.astimezone(UTC) - start == timedelta(hours=4)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)),  # noqa: DTZ001
    st.sampled_from(ZONES),
    st.sampled_from(["day", "month"]),
)
def test_every_moment_lies_in_its_own_window(naive, zone, period):
    now = naive.replace(tzinfo=UTC)
    start = quotas.window_start(period, now, time_zone=zone)
    end = quotas.window_end(period, now, time_zone=zone)
    assert start is not None
    assert end is not None
    assert start <= now < end
    assert quotas.window_start(period, end, time_zone=zone) == end, "no gap between two windows"
    just_before = end - timedelta(microseconds=1)
    assert quotas.window_start(period, just_before, time_zone=zone) == start


def test_parallel_runs_have_no_window():
    assert quotas.window_start("now", at("2026-01-01")) is None


# --- When it starts again ------------------------------------------------------------------------


def test_a_rolling_window_starts_again_when_enough_has_left():
    now = at("2026-11-25 12:00")
    spent = [(now - timedelta(minutes=minutes), D(300)) for minutes in (50, 10, 30)]
    five = rule("window", 1000, window_seconds=3_600)
    until = quotas.resets_at(five, Use(D(900)), D(300), now, spent)
    assert until == now + timedelta(minutes=10), "the oldest 300 are enough"
    until = quotas.resets_at(five, Use(D(900)), D(600), now, spent)
    assert until == now + timedelta(minutes=30), "now the two oldest have to leave"


def test_a_need_above_the_limit_never_fits_by_waiting():
    now = at("2026-11-25 12:00")
    for period in ("day", "window"):
        one = rule(period, 100, window_seconds=60 if period == "window" else None)
        assert quotas.resets_at(one, Use(), D(101), now, []) is None


def test_a_clock_that_was_set_back_waits_no_longer_than_the_window_of_what_it_knows():
    now = at("2026-11-25 12:00")
    future = [(now + timedelta(minutes=20), D(100))]
    until = quotas.resets_at(
        rule("window", 100, window_seconds=60), Use(D(100)), D(50), now, future
    )
    assert until == now + timedelta(minutes=21)


@given(st.lists(st.tuples(st.integers(0, 3_599), st.integers(1, 500)), min_size=1, max_size=20),
       st.integers(1, 1000))  # fmt: skip
def test_at_the_reset_it_really_fits_and_not_before(entries, need):
    now = at("2026-11-25 12:00")
    spent = [(now - timedelta(seconds=ago), D(amount)) for ago, amount in entries]
    total = sum((amount for _, amount in spent), D(0))
    one = rule("window", 1000, window_seconds=3_600)
    until = quotas.resets_at(one, Use(total), D(need), now, spent)
    if total + need <= 1000:
        return
    assert until is not None
    # What began exactly a window ago still counts, so the moment after is the first that fits.
    left = sum((a for t, a in spent if t > until - timedelta(hours=1)), D(0))
    before = sum((a for t, a in spent if t >= until - timedelta(hours=1)), D(0))
    assert left + need <= 1000 < before + need


# --- Levels, estimates, money --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spent", "level"),
    [(0, ""), (79, ""), (80, "warn"), (99, "warn"), (100, "stop"), (150, "stop")],
)
def test_80_percent_warns_and_100_stops(spent, level):
    assert quotas.level(D(spent), D(100)) == level


def test_a_limit_of_nothing_stops():
    assert quotas.level(D(0), D(0)) == "stop"


def test_before_three_turns_are_known_a_guess_is_said_to_be_one():
    found = quotas.estimate("build", [(10, 1)] * 2, None)
    assert (found.tokens, found.is_guess, found.money) == (60_000, True, None)
    assert quotas.estimate("unheard-of", [], None).tokens == 60_000


def test_nine_in_ten_turns_need_no_more_than_the_estimate():
    turns = [(n * 100, 0) for n in range(1, 11)]
    found = quotas.estimate("build", turns, Rates(D(10), D(50)))
    assert (found.tokens, found.is_guess) == (900, False)
    assert found.money == D("0.009")


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=3, max_size=60))
def test_an_estimate_is_one_of_what_was_measured(turns):
    found = quotas.estimate("build", turns, None)
    sums = [sum(turn) for turn in turns]
    assert found.tokens in sums or found.tokens == 1
    assert sum(one <= found.tokens for one in sums) >= 0.9 * len(sums)


def test_unknown_tokens_or_prices_cost_an_unknown_sum():
    rates = Rates(D(3), D(15))
    assert quotas.cost(rates, 1_000_000, 100_000) == D("4.5")
    assert quotas.cost(rates, None, 5) is None
    assert quotas.cost(None, 5, 5) is None


def test_the_dearest_price_stands_in_for_one_that_is_missing():
    cheap, dear = Rates(D(1), D(2)), Rates(D(15), D(75))
    assert quotas.dearest([cheap, dear]) == dear
    assert quotas.dearest([]) is None


def test_what_is_reserved_follows_the_measure():
    one = Estimate(500, D("0.25"))
    assert [one.of(m) for m in ("parallel", "tokens", "money")] == [1, 500, D("0.25")]
    assert Estimate(500).of("money") == 0


# --- Words ---------------------------------------------------------------------------------------


def test_the_sentence_says_which_quota_how_much_and_until_when():
    now = at("2026-11-25 20:00", BERLIN)
    day = rule("day", 1_000_000, time_zone=BERLIN)
    until = quotas.window_end("day", now, time_zone=BERLIN)
    assert quotas.used_up(day, Use(D(1_200_000)), until, now) == (
        "The site's tokens of today are used up (1.2 of 1.0 million); it starts again at 00:00"
        " Europe/Berlin."
    )
    month = rule("month", 20, measure="money")
    until = quotas.window_end("month", now)
    assert quotas.used_up(month, Use(D("20.5")), until, now) == (
        "The site's money of this month is used up (20.50 of 20.00 USD); it starts again at"
        " 1 December, 00:00 UTC."
    )
    window = rule("window", 5_000, window_seconds=5 * 3_600)
    assert quotas.used_up(window, Use(D(5_000)), None, now) == (
        "The site's tokens of the last 5 hours are used up (5,000 of 5,000); it starts again when"
        " the limit is raised."
    )


def test_other_sentences_say_what_to_do():
    now = at("2026-11-25 20:00")
    parallel = rule("now", 3, measure="parallel")
    assert quotas.held_up(parallel, Use(D(0), D(3))) == (
        "The site's limit of 3 parallel runs is reached; the next starts when one ends."
    )
    assert "raise the limit" in quotas.too_small(rule(limit=10), "build", Estimate(50, None, True))
    assert "at a first guess" in quotas.too_small(rule(limit=10), "build", Estimate(50, None, True))
    assert "85 % used (850 of 1,000)" in quotas.warning(rule(limit=1000), Use(D(850)), None, now)
    assert "Enter prices" in quotas.unpriced(rule(measure="money"))


@pytest.mark.parametrize(
    ("seconds", "words"), [(60, "minute"), (3_600, "hour"), (7_200, "2 hours"), (90, "90 seconds"),
                           (172_800, "2 days")]
)  # fmt: skip
def test_windows_in_words(seconds, words):
    assert quotas.duration(seconds) == words
