"""What the modules of a plan will need of tokens and money, by runs that were similar. Pure.

One rule, beside the one that a claim reserves by (`quotas.estimate`): both look at earlier runs of
the same kind, backend and model, trust them from `quotas.SAMPLES` on, and fall back to the same
first guess and the same prices. A claim asks what one turn may need at most, so that no budget is
overrun; a plan asks what a module is likely to need, so here whole runs and their median count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from math import ceil
from statistics import median

from agents import quotas
from agents.quotas import MONEY_STEP, SAMPLES, Rates, Rule, Use

#: What agents do for a module, in order.
KINDS = ("tests", "build", "review", "fix")
#: Sizes that differ by no more than this factor count as near.
NEAR = 2.0
#: Where the price of a step comes from.
PRICED, TOLD, UNPRICED, REPLAYED = "priced", "told", "unpriced", "replayed"

_LEFT = {
    "draft": KINDS,
    "waiting": KINDS,
    "planning": KINDS,
    "building": KINDS[1:],
    "built": KINDS[2:],
    "reviewing": KINDS[2:],
    "fixing": KINDS[2:],
}


@dataclass(frozen=True, slots=True)
class Past:
    """A finished run: its tokens, its module's estimate in seconds, and the money it told.

    `is_part` says that its agent told less than it used.
    """

    tokens_in: int
    tokens_out: int
    size: float | None = None
    cost: Decimal | None = None
    is_part: bool = False

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of one kind of run, and of who would do it.

    `own` are runs of this project, `site` of all projects, the newest first. `runs` finished runs
    of the kind were needed for `modules` merged modules of the project, repetitions included.
    `rates` are the model's price, or the dearest entered one where `is_priced` is false.
    """

    kind: str
    role: str
    who: str
    provider_id: int | None = None
    own: Sequence[Past] = ()
    site: Sequence[Past] = ()
    runs: int = 0
    modules: int = 0
    rates: Rates | None = None
    is_priced: bool = False
    is_replay: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """A module, its estimate in seconds if people gave one, and the kinds of runs still to do."""

    slug: str
    size: float | None
    kinds: Sequence[str]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """All runs of one kind for a module; `money` is None where it is unknown, never 0 for it.

    `counted` is what a quota of money would count: the dearest price where none is known.
    """

    kind: str
    role: str
    provider_id: int | None
    tokens: int
    money: Decimal | None
    counted: Decimal
    price: str
    basis: str
    is_guess: bool


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of steps; `money` is that of the steps whose money is known, None without any."""

    tokens: int = 0
    money: Decimal | None = None
    unpriced: int = 0
    replayed: int = 0
    guessed: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One module with what it still needs, by kind."""

    wanted: Wanted
    steps: dict[str, Step]

    @property
    def total(self) -> Total:
        return total_of(self.steps.values())


def kinds_left(status: str, *, resume_to: str = "", tests_given: bool = False) -> tuple[str, ...]:
    """The kinds of runs that a module in a status still needs; given tests need no planner."""
    found = _LEFT.get(resume_to if status == "needs_person" else status, ())
    return tuple(kind for kind in found if not (tests_given and kind == "tests"))


def rows_of(wanted: Iterable[Wanted], sources: dict[str, Source]) -> list[Row]:
    """Each module with its steps; `sources` has one for every kind."""
    known: dict[tuple[str, float | None], Step] = {}
    rows = []
    for one in wanted:
        steps = {}
        for kind in one.kinds:
            key = (kind, one.size)
            if key not in known:
                known[key] = step_of(sources[kind], one.size)
            steps[kind] = known[key]
        rows.append(Row(one, steps))
    return rows


def total_of(steps: Iterable[Step]) -> Total:
    found = list(steps)
    known = [step.money for step in found if step.money is not None]
    return Total(
        tokens=sum(step.tokens for step in found),
        money=sum(known, Decimal(0)) if known else None,
        unpriced=sum(step.price == UNPRICED for step in found),
        replayed=sum(step.price == REPLAYED for step in found),
        guessed=sum(step.is_guess for step in found),
        steps=len(found),
    )


# --- One step ------------------------------------------------------------------------------------


def similar(source: Source, size: float | None) -> tuple[Sequence[Past], str]:
    """The runs to go by, and what they are in words; none while fewer than SAMPLES are alike.

    The project's own come before the site's, and those of modules of about the same size before
    all of them. Sizes are people's estimates; without enough of these nothing is scaled.
    """
    for runs, where in ((source.own, "in this project"), (source.site, "of the whole site")):
        if len(runs) < SAMPLES:
            continue
        near = [run for run in runs if _is_near(run.size, size)]
        said = f"finished {source.kind} runs of {source.who} {where}"
        if len(near) >= SAMPLES:
            runs, said = near, f"{said}, of modules estimated about as long"
        return runs, f"median of {len(runs)} {said}{_parts(runs)}"
    return (), ""


def _parts(runs: Sequence[Past]) -> str:
    count = sum(run.is_part for run in runs)
    return f"; at least that, for {count} of them told only a part" if count else ""


def _is_near(one: float | None, other: float | None) -> bool:
    if not one or not other:
        return False
    return max(one, other) <= NEAR * min(one, other)


def times_of(source: Source) -> tuple[Decimal, str]:
    """How many such runs a module takes, repetitions included, and by what that is said.

    One of each, a fix too, until enough modules were merged in this project.
    """
    if source.modules < SAMPLES:
        return Decimal(1), "counted once a module" if source.kind == "fix" else ""
    times = Decimal(source.runs) / source.modules
    if times == 1 and source.kind != "fix":
        return times, ""
    what = "fix" if source.kind == "fix" else "run"
    many = what if source.runs == 1 else f"{what}es" if what == "fix" else f"{what}s"
    return times, f"{source.runs} {many} for {source.modules} merged modules here"


def step_of(source: Source, size: float | None = None) -> Step:
    """What all runs of one kind for a module will need."""
    runs, basis = similar(source, size)
    times, repeated = times_of(source)
    if runs:
        tokens = round(median(run.tokens for run in runs))
        counted = _median_cost(runs, source.rates)
    else:
        guess = quotas.estimate(source.kind, (), source.rates, is_priced=source.is_priced)
        tokens, counted = guess.tokens, guess.money
        basis = f"no similar run yet: a default of {tokens:,} tokens for a {source.kind} run"
    money, price = _money(source, runs, counted)
    if money is not None:
        counted = money
    return Step(
        kind=source.kind,
        role=source.role,
        provider_id=source.provider_id,
        tokens=round(tokens * times),
        money=None if money is None else _rounded(money * times),
        counted=_rounded((counted or Decimal(0)) * times),
        price=price,
        basis="; ".join(part for part in (basis, repeated) if part),
        is_guess=not runs and times > 0,
    )


def _median_cost(runs: Sequence[Past], rates: Rates | None) -> Decimal | None:
    if rates is None:
        return None
    costs = [quotas.cost(rates, run.tokens_in, run.tokens_out) or Decimal(0) for run in runs]
    return median(costs)


def _money(
    source: Source, runs: Sequence[Past], counted: Decimal | None
) -> tuple[Decimal | None, str]:
    """Money of one run and where it comes from: the entered price, else what agents told."""
    if source.is_priced:
        return counted, PRICED
    if source.is_replay:
        return None, REPLAYED
    told = [run.cost for run in runs if run.cost is not None]
    if len(told) >= SAMPLES:
        return median(told), TOLD
    return None, UNPRICED


def _rounded(money: Decimal) -> Decimal:
    return money.quantize(MONEY_STEP, ROUND_HALF_UP)


# --- Words ---------------------------------------------------------------------------------------


def say_money(total: Total, currency: str) -> str:
    """The money of a sum; what has no price is said, never counted as nothing."""
    if total.money is None:
        if total.unpriced:
            return "unpriced"
        return "no price needed" if total.replayed else "nothing"
    return f"{'at least ' if total.unpriced else ''}{total.money:,.2f} {currency}"


def say_total(total: Total, modules: int, currency: str) -> str:
    """The headline of a plan: tokens, money, modules, and how much of it is a guess."""
    if not total.steps:
        return "Agents have nothing left to do for its modules."
    money = say_money(total, currency)
    if total.money is None:
        money = {"unpriced": "money unpriced"}.get(money, money)
    many = "1 module" if modules == 1 else f"{modules} modules"
    said = f"About {total.tokens:,} tokens, {money}, for {many}"
    if total.guessed == total.steps:
        return f"{said}: a first guess, for no similar run has finished yet."
    return f"{said}, in part a first guess." if total.guessed else f"{said}, by similar runs."


def shortfall(rule: Rule, use: Use, need: Decimal, now: datetime) -> str:
    """What happens because a quota leaves less than a plan needs; empty when it is enough."""
    left = max(Decimal(0), rule.limit - use.spent - use.reserved)
    if need <= left:
        return ""
    is_money = rule.measure == "money"
    unit, are = (rule.currency, "is") if is_money else ("tokens", "are")
    wanted, have, limit = (
        quotas.amount(value, rule.measure, unit="full") for value in (need, left, rule.limit)
    )
    said = (
        f"{rule.whose} {quotas.what(rule)} would not suffice: {have} of {limit} {unit} {are} left,"
        f" and the plan needs about {wanted}."
    )
    return f"{said} {_then(rule, need, now)}"


def _then(rule: Rule, need: Decimal, now: datetime) -> str:
    if rule.limit <= 0:
        return "Nothing starts until the limit is raised."
    end = quotas.window_end(rule.period, now, time_zone=rule.time_zone)
    goes_on = (
        f"at {quotas.clock(end, now, rule.time_zone)}"
        if end
        else "as earlier use leaves the window"
    )
    windows = ceil(need / rule.limit)
    period = {"day": "days", "month": "months"}.get(
        rule.period, f"times {quotas.duration(rule.window_seconds or 0)}"
    )
    takes = (
        f" The limit stretches the plan over at least {windows} {period}." if windows > 1 else ""
    )
    return f"Work waits once that is used up and goes on {goes_on}, or when it is raised.{takes}"
