"""What a plan cost and how near it came to the best possible time. Pure: facts in, values out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property

from agents import simulation
from agents.bounds import Bound, Measured, bound_of
from projects.forecast import say_seconds
from projects.order import Order
from projects.specs import ModuleSpec

ROLES_OF_KIND = {
    "tests": "planner",
    "build": "executor",
    "review": "orchestrator",
    "fix": "orchestrator",
    "decompose": "orchestrator",
}
#: The kind of run that proposes a plan: it is over before the approval, when the clock starts.
BEFORE = "decompose"
#: What a run's first turn is for; later turns and attempts after findings are rework.
PURPOSE_OF_KIND = {
    "decompose": "plan",
    "tests": "test",
    "build": "code",
    "review": "review",
    "fix": "fix",
}
PURPOSES = ("plan", "test", "code", "review", "fix", "rework", "coordination")
REPEATABLE = ("test", "code", "review")

#: Less than this much faster, or more than this share of tokens more, and parallel did not pay.
WORTH_SPEED_UP = 1.1
WORTH_TOKENS = 0.1


@dataclass(frozen=True, slots=True)
class Lap:
    """One turn of a run: seconds of the agent and of its gate, tokens; None = not known."""

    agent_seconds: float = 0.0
    gate_seconds: float = 0.0
    tokens_in: int | None = None
    tokens_out: int | None = None
    #: When the agent began, in seconds after the run's start; None when it is not known.
    at: float | None = None

    @property
    def tokens(self) -> int:
        return (self.tokens_in or 0) + (self.tokens_out or 0)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run that ended. Times are seconds on any one clock; `module` is empty for a plan's own.

    `agent_seconds` is the time at work on a slot, `gate_seconds` that of its checks. Tokens and
    cost are None where nobody told them. Tokens of a run with `parallel_only` would not exist in
    sequence (conflict repairs, splits). `laps` are its turns; empty counts as one.
    """

    module: str
    kind: str
    role: str
    started: float
    ended: float
    agent_seconds: float
    gate_seconds: float = 0.0
    tokens_in: int | None = None
    tokens_out: int | None = None
    parallel_only: bool = False
    cost: Decimal | None = None
    status: str = "succeeded"
    number: int = 1
    backend: str = ""
    model: str = ""
    needs_slot: bool = True
    waited_seconds: float = 0.0
    laps: tuple[Lap, ...] = ()
    id: int = 0
    quality: str = ""
    #: By whose fault it failed; empty where nobody said.
    reason_owner: str = ""

    @property
    def seconds(self) -> float:
        """Time of agent and gates, without what it waited."""
        return self.agent_seconds + self.gate_seconds

    @property
    def tokens(self) -> int:
        return (self.tokens_in or 0) + (self.tokens_out or 0)

    @property
    def has_agent(self) -> bool:
        return bool(self.role) and self.needs_slot

    @property
    def knows_tokens(self) -> bool:
        return self.tokens_in is not None or self.tokens_out is not None

    @property
    def is_attempt(self) -> bool:
        """Whether the same again is rework: not after what a crash, say, or Tutti cut off."""
        failed = self.status == "failed" and self.reason_owner in ("agent", "")
        return failed or self.status == "succeeded"

    @property
    def tells_part(self) -> bool:
        """Whether its agent told only a part of the tokens that it used."""
        return self.knows_tokens and self.quality == "last_step"


@dataclass(frozen=True, slots=True)
class Spent:
    """Runs, seconds, tokens and money of a group; of tokens and money, what is parallel only.

    `unknown` counts agents' runs whose tokens nobody told, `partial` those that told only a part,
    `unpriced` those without a price.
    `cost` is None while no run of the group has a price.
    """

    runs: int = 0
    agent_seconds: float = 0.0
    gate_seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    parallel_only: int = 0
    unknown: int = 0
    cost: Decimal | None = None
    parallel_cost: Decimal | None = None
    unpriced: int = 0
    partial: int = 0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    @property
    def seconds(self) -> float:
        return self.agent_seconds + self.gate_seconds

    @property
    def parallel_share(self) -> float:
        """Share of tokens that exist only because of parallelism, 0 to 1."""
        return self.parallel_only / self.tokens if self.tokens else 0.0


@dataclass
class Sum:
    """A group while it is added up; 5,000 frozen values on the way would be slow."""

    runs: set[int] = field(default_factory=set)
    agent_seconds: float = 0.0
    gate_seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    parallel_only: int = 0
    cost: Decimal | None = None
    parallel_cost: Decimal | None = None
    unknown: set[int] = field(default_factory=set)
    unpriced: set[int] = field(default_factory=set)
    partial: set[int] = field(default_factory=set)

    def add(self, place: int, run: RunFacts, lap: Lap, cost: Decimal | None) -> None:
        self.runs.add(place)
        self.agent_seconds += lap.agent_seconds
        self.gate_seconds += lap.gate_seconds
        self.tokens_in += lap.tokens_in or 0
        self.tokens_out += lap.tokens_out or 0
        if run.parallel_only:
            self.parallel_only += lap.tokens
        if cost is not None:
            self.cost = (self.cost or Decimal(0)) + cost
            if run.parallel_only:
                self.parallel_cost = (self.parallel_cost or Decimal(0)) + cost
        elif run.has_agent:
            self.unpriced.add(place)
        if run.has_agent and not run.knows_tokens:
            self.unknown.add(place)
        if run.tells_part:
            self.partial.add(place)

    def spent(self) -> Spent:
        return Spent(
            runs=len(self.runs),
            agent_seconds=self.agent_seconds,
            gate_seconds=self.gate_seconds,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            parallel_only=self.parallel_only,
            unknown=len(self.unknown),
            cost=self.cost,
            parallel_cost=self.parallel_cost,
            unpriced=len(self.unpriced),
            partial=len(self.partial),
        )


@dataclass(frozen=True)
class PlanFacts:
    """All that the figures of a plan are made of; moments in seconds since 1970.

    `ceiling` is the greatest that people allowed while it ran, `ceilings` what really was allowed
    over time, `checks` how many checks could run at once. `modules` are those not cancelled.
    """

    project: str
    number: int
    began: float | None
    finished: float | None
    ceiling: int
    checks: int
    specs: tuple[ModuleSpec, ...]
    runs: tuple[RunFacts, ...]
    modules: int
    merged: int
    ceilings: tuple[tuple[float, int], ...] = ()

    @cached_property
    def is_replayed(self) -> bool:
        return any(run.backend == "replay" for run in self.runs)

    @cached_property
    def wall_clock(self) -> float:
        """Seconds from approval to done; as long as it runs, to the last run's end."""
        if self.began is None:
            return 0.0
        ended = self.finished
        if ended is None:
            ended = max((run.ended for run in self.runs), default=self.began)
        return max(0.0, ended - self.began)


@dataclass(frozen=True)
class Economics:
    """The figures of a plan; all times in seconds."""

    ceiling: int
    wall_clock: float
    sequential: float
    bound: Bound
    total: Spent
    by_role: dict[str, Spent]
    by_kind: dict[str, Spent]
    by_module: dict[str, Spent]
    by_purpose: dict[str, Spent]
    rework: Spent
    is_replayed: bool
    what_if: dict[int, float]

    @property
    def bound_seconds(self) -> float:
        """The lower bound; what was measured is possible, so never above the wall-clock.

        A lane that people opened, or a need that they dropped meanwhile, would else show here.
        """
        return min(self.bound.seconds, self.wall_clock) if self.wall_clock else 0.0

    @property
    def speed_up(self) -> float:
        """Sum of run times / wall-clock; 1.0 while nothing ran."""
        return self.sequential / self.wall_clock if self.wall_clock > 0 else 1.0

    @property
    def times_bound(self) -> float:
        """Wall-clock / lower bound: 1.0 is the best possible."""
        return self.wall_clock / self.bound_seconds if self.bound_seconds > 0 else 1.0

    def having(self, what_if: dict[int, float]) -> Economics:
        """The same figures with a curve."""
        return replace(self, what_if=what_if)

    @property
    def today(self) -> float | None:
        """The simulated wall-clock with the ceiling that the plan had."""
        return self.what_if.get(min(max(self.what_if, default=1), self.ceiling))

    @property
    def paid(self) -> bool:
        """Whether running in parallel was worth it: a tenth faster, without a tenth more tokens."""
        return not self.why_not

    @property
    def why_not(self) -> list[str]:
        """Sentences why parallel did not pay; empty when it did, or when nothing ran yet."""
        said: list[str] = []
        if not self.total.runs or self.wall_clock <= 0:
            return said
        if self.speed_up < WORTH_SPEED_UP:
            said.append(
                f"It took {say_seconds(self.wall_clock)}, one run after another would have taken "
                f"{say_seconds(self.sequential)}: {self._why_slow()}."
            )
        if self.total.parallel_share > WORTH_TOKENS:
            said.append(
                f"{self.total.parallel_share:.0%} of its tokens exist only because work ran in "
                "parallel: repairs of conflicts and of what broke when it was merged, and splits."
            )
        return said

    def _why_slow(self) -> str:
        if self.ceiling <= 1:
            return "only one run was allowed at once"
        if self.times_bound >= 2:
            return (
                f"it waited, for {self.times_bound:.1f} times as long as was needed; look at what "
                "bound the ceiling and at what waited for people"
            )
        return {
            "work": "there was hardly more work than one agent's",
            "critical_path": "its modules need each other one after another",
            "longest_lane": "its modules are coupled and went one after another in a lane",
            "merge_queue": "most of its time went into merges, which go one at a time",
        }[self.bound.binds]


def economics(facts: PlanFacts, *, with_curve: bool = True) -> Economics:
    """Work out a plan's figures. Without the curve, `what_if` is empty."""
    runs = facts.runs
    order = Order(facts.specs)
    parts = list(_parts(runs))
    purposes = grouped(parts, lambda part: part[3])
    rework = [part for part in parts if part[3] in ("fix", "rework")]
    return Economics(
        ceiling=facts.ceiling,
        wall_clock=facts.wall_clock,
        sequential=sum(run.seconds for run in runs if run.kind != BEFORE),
        bound=_bound(facts, order),
        total=_sum(parts),
        by_role=grouped(parts, lambda part: role_of(part[1])),
        by_kind=grouped(parts, lambda part: part[1].kind),
        by_module=grouped(parts, lambda part: part[1].module),
        by_purpose={name: purposes[name] for name in PURPOSES if name in purposes},
        rework=_sum(rework),
        is_replayed=facts.is_replayed,
        what_if=simulation.curve(history(facts)) if with_curve else {},
    )


def role_of(run: RunFacts) -> str:
    return run.role or ROLES_OF_KIND.get(run.kind, "none")


#: Place of the run, the run, one of its turns, the purpose of that, and its money.
Part = tuple[int, RunFacts, Lap, str, Decimal | None]


def _parts(runs: Sequence[RunFacts]) -> Iterable[Part]:
    """Every turn of every run with its purpose; sums over them are the sums over the runs."""
    ended: dict[tuple[str, str], int] = defaultdict(int)
    for place, run in enumerate(sorted(runs, key=lambda run: (run.started, run.id))):
        first = PURPOSE_OF_KIND.get(run.kind, "coordination")
        again = ended[run.module, run.kind] > 0
        if run.is_attempt:
            ended[run.module, run.kind] += 1
        laps = laps_of(run)
        costs = _costs(run, laps)
        for turn, (lap, cost) in enumerate(zip(laps, costs, strict=True)):
            is_rework = first in REPEATABLE and (again or turn > 0)
            yield place, run, lap, "rework" if is_rework else first, cost


def purposes_of(runs: Sequence[RunFacts]) -> dict[int, set[str]]:
    """Run id to what its turns were for."""
    found: dict[int, set[str]] = defaultdict(set)
    for _, run, _, purpose, _ in _parts(runs):
        found[run.id].add(purpose)
    return found


def laps_of(run: RunFacts) -> tuple[Lap, ...]:
    """The run's turns, made to sum up to the run: what no turn knows is the last one's."""
    *earlier, last = run.laps or (Lap(),)
    tokens_in = (run.tokens_in or 0) - sum(lap.tokens_in or 0 for lap in earlier)
    tokens_out = (run.tokens_out or 0) - sum(lap.tokens_out or 0 for lap in earlier)
    rest = replace(
        last,
        agent_seconds=run.agent_seconds - sum(lap.agent_seconds for lap in earlier),
        gate_seconds=run.gate_seconds - sum(lap.gate_seconds for lap in earlier),
        tokens_in=tokens_in if run.knows_tokens else None,
        tokens_out=tokens_out if run.knows_tokens else None,
    )
    return (*earlier, rest)


def _costs(run: RunFacts, laps: Sequence[Lap]) -> list[Decimal | None]:
    """The run's money by its turns' tokens; the last takes what rounding leaves."""
    if run.cost is None:
        return [None] * len(laps)
    total = sum(lap.tokens for lap in laps)
    costs = [(run.cost * lap.tokens / total if total else Decimal(0)) for lap in laps[:-1]]
    rounded = [cost.quantize(Decimal("0.000001")) for cost in costs]
    return [*rounded, run.cost - sum(rounded, Decimal(0))]


def _sum(parts: Iterable[Part]) -> Spent:
    return grouped(parts, lambda part: "")[""] if (parts := list(parts)) else Spent()


def grouped(parts: Iterable[Part], key: Callable[[Part], str]) -> dict[str, Spent]:
    sums: dict[str, Sum] = defaultdict(Sum)
    for part in parts:
        place, run, lap, _, cost = part
        sums[key(part)].add(place, run, lap, cost)
    return {name: found.spent() for name, found in sums.items()}


# --- The lower bound -----------------------------------------------------------------------------


def _bound(facts: PlanFacts, order: Order) -> Bound:
    after = {slug: found.needs_to_start for slug, found in order.counters.items()}
    measured = [
        Measured(
            module=run.module,
            kind=run.kind,
            agent_seconds=run.agent_seconds,
            gate_seconds=run.gate_seconds,
            lane=order.lane_of.get(run.module, ""),
            branch=run.module.rpartition("/")[0],
        )
        for run in facts.runs
        if run.module
    ]
    own = sum(run.seconds for run in facts.runs if run.kind in ("prepare", "finish"))
    found = bound_of(measured, after=after, ceiling=facts.ceiling)
    return replace(found, own=own)


# --- What if -------------------------------------------------------------------------------------


def history(facts: PlanFacts) -> simulation.History:
    """The plan's runs as the simulation takes them: what a run did beside agent and gates counts.

    Such time (clones, commits, merges' git) is on the slot of a run that has one.
    """
    steps: dict[str, list[simulation.Step]] = defaultdict(list)
    own = {"prepare": 0.0, "finish": 0.0}
    for run in sorted(facts.runs, key=lambda run: (run.started, run.id)):
        whole = max(run.seconds, run.ended - run.started - run.waited_seconds)
        if run.module:
            laps = laps_of(run)
            beside = (whole - run.seconds) / len(laps)
            pairs = tuple(
                (max(0.0, lap.agent_seconds) + beside, max(0.0, lap.gate_seconds)) for lap in laps
            )
            takes = run.needs_slot and run.kind != simulation.MERGE
            steps[run.module].append(simulation.Step(run.kind, pairs, takes))
        elif run.kind in own:
            own[run.kind] += whole
    return simulation.History(
        specs=facts.specs,
        steps=steps,
        checks=facts.checks,
        before_seconds=own["prepare"],
        after_seconds=own["finish"],
    )
