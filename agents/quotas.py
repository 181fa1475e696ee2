"""Quotas as values: where a window begins, when it resets, levels, estimates, money, words. Pure.

Amounts are tokens, money or runs as Decimals; times are aware datetimes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from math import ceil
from zoneinfo import ZoneInfo

#: Tokens of one turn before this profile was measured: a stated guess, never silently a fact.
FIRST_GUESS = {
    "decompose": 40_000,
    "tests": 40_000,
    "build": 60_000,
    "review": 30_000,
    "fix": 20_000,
}
#: Turns that have to be known before they replace the guess.
SAMPLES = 3
#: Share of a turn's tokens that the model writes, where only their sum is known.
OUTPUT_SHARE = Decimal("0.2")
WARN_SHARE = Decimal("0.8")
MILLION = Decimal(1_000_000)
MONEY_STEP = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Rule:
    """What people set: of whose, how much of what, within which time.

    `whose` begins its sentences, e.g. "The site's".
    """

    whose: str
    measure: str
    period: str
    limit: Decimal
    window_seconds: int | None = None
    time_zone: str = "UTC"
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Use:
    """What of a quota is spent and reserved right now."""

    spent: Decimal = Decimal(0)
    reserved: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Rates:
    """Money for a million tokens in and out."""

    input_per_million: Decimal
    output_per_million: Decimal


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one turn will need; money is None where no price is known at all.

    `is_guess` says that too few turns were measured; `is_priced` that the price is this model's.
    """

    tokens: int
    money: Decimal | None = None
    is_guess: bool = False
    is_priced: bool = True

    def of(self, measure: str) -> Decimal:
        """What to reserve of a quota with this measure."""
        if measure == "parallel":
            return Decimal(1)
        return Decimal(self.tokens) if measure == "tokens" else self.money or Decimal(0)


# --- Windows -------------------------------------------------------------------------------------


def window_start(
    period: str, now: datetime, *, window_seconds: int | None = None, time_zone: str = "UTC"
) -> datetime | None:
    """The first moment that still counts, in UTC; None for what has no window."""
    if period == "window":
        # In UTC first: in a zone, subtracting moves the hands of the clock instead of time.
        return now.astimezone(UTC) - timedelta(seconds=window_seconds or 0)
    if period not in ("day", "month"):
        return None
    today = now.astimezone(ZoneInfo(time_zone)).date()
    return _midnight(today if period == "day" else today.replace(day=1), time_zone)


def window_end(period: str, now: datetime, *, time_zone: str = "UTC") -> datetime | None:
    """When the day or month of `now` ends, in UTC; None for a rolling window."""
    if period not in ("day", "month"):
        return None
    today = now.astimezone(ZoneInfo(time_zone)).date()
    if period == "day":
        return _midnight(today + timedelta(days=1), time_zone)
    following = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return _midnight(following, time_zone)


def _midnight(day: date, time_zone: str) -> datetime:
    # A midnight that does not exist becomes the moment of the change, one that exists twice the
    # first of both: either way no moment of the day lies before it.
    return datetime.combine(day, time.min, tzinfo=ZoneInfo(time_zone)).astimezone(UTC)


def resets_at(
    rule: Rule, use: Use, need: Decimal, now: datetime, spent: Iterable[tuple[datetime, Decimal]]
) -> datetime | None:
    """When `need` fits again by time alone; None when it never does or nothing has to pass.

    `spent` are the moments and amounts that still count, in any order; only a rolling window
    reads them.
    """
    if need > rule.limit:
        return None
    if rule.period != "window":
        return window_end(rule.period, now, time_zone=rule.time_zone)
    length = timedelta(seconds=rule.window_seconds or 0)
    too_much = use.spent + use.reserved + need - rule.limit
    for at, amount in sorted(spent):
        if too_much <= 0:
            break
        too_much -= amount
        if too_much <= 0:
            # What lies ahead of a clock that was set back leaves no later than it came.
            return max(at.astimezone(UTC) + length, now)
    return None


# --- Levels, estimates, money --------------------------------------------------------------------


def level(spent: Decimal, limit: Decimal) -> str:
    """ "stop" at 100 %, "warn" from 80 %, else empty."""
    if spent >= limit:
        return "stop"
    return "warn" if spent >= limit * WARN_SHARE else ""


def percentile90(values: Sequence[int]) -> int:
    """The value that nine in ten do not exceed (nearest rank); `values` is not empty."""
    ordered = sorted(values)
    return ordered[ceil(0.9 * len(ordered)) - 1]


def estimate(
    kind: str, turns: Sequence[tuple[int, int]], rates: Rates | None, *, is_priced: bool = True
) -> Estimate:
    """What one turn of a kind will need, by the (input, output) tokens of earlier turns."""
    if len(turns) < SAMPLES:
        tokens = FIRST_GUESS.get(kind, max(FIRST_GUESS.values()))
        out = int(tokens * OUTPUT_SHARE)
        return Estimate(tokens, cost(rates, tokens - out, out), True, is_priced)
    tokens = max(1, percentile90([sum(turn) for turn in turns]))
    money = None
    if rates:
        found = sorted(cost(rates, *turn) or Decimal(0) for turn in turns)
        money = found[ceil(0.9 * len(found)) - 1]
    return Estimate(tokens, money, False, is_priced)


def cost(
    rates: Rates | None, input_tokens: int | None, output_tokens: int | None
) -> Decimal | None:
    """Money for these tokens; None where the price or the tokens are unknown."""
    if rates is None or input_tokens is None:
        return None
    money = (
        rates.input_per_million * input_tokens + rates.output_per_million * (output_tokens or 0)
    ) / MILLION
    return money.quantize(MONEY_STEP, ROUND_HALF_UP)


def dearest(rates: Iterable[Rates]) -> Rates | None:
    """The price that an unpriced model is counted with: never too little."""
    return max(rates, key=lambda one: one.input_per_million + one.output_per_million, default=None)


# --- Words ---------------------------------------------------------------------------------------


def amount(value: Decimal, measure: str, *, scale: Decimal | None = None, unit: str = "") -> str:
    """A figure as people say it; `scale` is the figure beside it, so that both share a unit."""
    if measure == "money":
        return f"{value:,.2f}"
    if measure == "parallel":
        return f"{int(value)}"
    by = scale if scale is not None else value
    if by >= MILLION:
        return f"{value / MILLION:,.1f}{' million' if unit else ''}"
    return f"{int(value):,}"


def used(rule: Rule, value: Decimal) -> str:
    """Use beside the limit: "1.2 of 1.0 million", "12.30 of 10.00 USD"."""
    have = amount(value, rule.measure, scale=rule.limit)
    limit = amount(rule.limit, rule.measure, unit="full")
    return f"{have} of {limit}" + (f" {rule.currency}" if rule.measure == "money" else "")


def what(rule: Rule) -> str:
    """The quota in words: "tokens of today", "money of the last 5 hours"."""
    if rule.measure == "parallel":
        return "parallel runs"
    when = {"day": "today", "month": "this month"}.get(rule.period)
    return f"{rule.measure} of {when or 'the last ' + duration(rule.window_seconds or 0)}"


def duration(seconds: int) -> str:
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            count = seconds // size
            return f"{count} {name}s" if count > 1 else name
    return f"{seconds} seconds"


def clock(at: datetime, now: datetime, time_zone: str) -> str:
    """A moment in a zone, with its date when that is not today: "00:00 Europe/Berlin"."""
    zone = ZoneInfo(time_zone)
    local, today = at.astimezone(zone), now.astimezone(zone).date()
    # Midnight at the end of today needs no date, everybody knows which one is meant.
    near = local.date() == today or (local - timedelta(minutes=1)).date() == today
    day = "" if near else f"{local.day} {local:%B}, "
    return f"{day}{local:%H:%M} {time_zone}"


def used_up(rule: Rule, use: Use, until: datetime | None, now: datetime) -> str:
    """Nothing more fits, whatever the runs at work give back."""
    begin = f"{rule.whose} {what(rule)} {_are(rule)} used up ({used(rule, use.spent)});"
    if until is None:
        return f"{begin} it starts again when the limit is raised."
    return f"{begin} it starts again at {clock(until, now, rule.time_zone)}."


def held_up(rule: Rule, use: Use) -> str:
    """Nothing more fits until runs at work give back what they do not need."""
    if rule.measure == "parallel":
        return (
            f"{rule.whose} limit of {int(rule.limit)} parallel {_runs(int(rule.limit))} is reached;"
            " the next starts when one ends."
        )
    return (
        f"{rule.whose} {what(rule)} {_are(rule)} spent or reserved by runs at work"
        f" ({used(rule, use.spent + use.reserved)}); the next starts when one of them gives back."
    )


def too_small(rule: Rule, kind: str, found: Estimate) -> str:
    """One turn alone does not fit under the limit."""
    need = amount(found.of(rule.measure), rule.measure, unit="full")
    limit = amount(rule.limit, rule.measure, unit="full")
    unit = f" {rule.currency}" if rule.measure == "money" else " tokens"
    about = "at a first guess" if found.is_guess else "by what was measured"
    return (
        f"A turn of kind {kind} needs {need}{unit} {about}, and {_lower(rule.whose)}"
        f" {what(rule)} {_are(rule)} limited to {limit}: raise the limit."
    )


def warning(rule: Rule, use: Use, until: datetime | None, now: datetime) -> str:
    share = int(use.spent * 100 / rule.limit) if rule.limit else 100
    end = f" until {clock(until, now, rule.time_zone)}" if until else ""
    return (
        f"{rule.whose} {what(rule)} {_are(rule)} {share} % used ({used(rule, use.spent)});"
        f" at 100 % nothing starts{end}."
    )


def unpriced(rule: Rule) -> str:
    return (
        f"{rule.whose} {what(rule)} can't be counted: no model has a price. Enter prices, then the"
        " limit holds."
    )


def _are(rule: Rule) -> str:
    return "is" if rule.measure == "money" else "are"


def _runs(count: int) -> str:
    return "run" if count == 1 else "runs"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:] if text.startswith("The ") else text
