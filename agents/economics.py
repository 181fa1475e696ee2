"""What a plan cost and how near it came to the best possible time. Pure: runs in, values out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from projects.forecast import CEILINGS, critical_path, simulate
from projects.order import Order
from projects.specs import IMPLEMENTATION, ModuleSpec, Need

MERGE = "merge"

ROLES_OF_KIND = {
    "tests": "planner",
    "build": "executor",
    "review": "orchestrator",
    "fix": "orchestrator",
    "decompose": "orchestrator",
}


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run that ended. Times are seconds on any one clock; `module` is empty for a plan's own.

    `agent_seconds` is the time at work on a slot, `gate_seconds` that of its checks. Tokens of a
    run with `parallel_only` would not exist in sequence (conflict repairs, splits).
    """

    module: str
    kind: str
    role: str
    started: float
    ended: float
    agent_seconds: float
    gate_seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    parallel_only: bool = False

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended - self.started)

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


@dataclass(frozen=True, slots=True)
class Measured:
    """What the lower bound needs of a run; merges of one `branch` go one at a time."""

    module: str
    kind: str
    agent_seconds: float
    gate_seconds: float = 0.0
    lane: str = ""
    branch: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens in and out, and of their sum those that exist only because of parallelism."""

    tokens_in: int = 0
    tokens_out: int = 0
    parallel_only: int = 0

    @property
    def total(self) -> int:
        return self.tokens_in + self.tokens_out

    def plus(self, run: RunFacts) -> Tokens:
        return Tokens(
            self.tokens_in + run.tokens_in,
            self.tokens_out + run.tokens_out,
            self.parallel_only + (run.tokens if run.parallel_only else 0),
        )


@dataclass(frozen=True, slots=True)
class Bound:
    """The least wall-clock that is possible, in seconds, by each of its reasons."""

    work: float  #: agents' time / ceiling
    critical_path: float  #: the longest chain of needs, gates included
    longest_lane: float
    merge_queue: float

    @property
    def seconds(self) -> float:
        return max(self.work, self.critical_path, self.longest_lane, self.merge_queue)

    @property
    def binds(self) -> str:
        """work, critical_path, longest_lane or merge_queue: the largest, the first of equals."""
        return max(("work", "critical_path", "longest_lane", "merge_queue"), key=self._value)

    def _value(self, name: str) -> float:
        return float(getattr(self, name))


@dataclass(frozen=True, slots=True)
class Economics:
    """The figures of a plan; all times in seconds."""

    wall_clock: float
    sequential: float
    bound: Bound
    tokens: Tokens
    by_role: dict[str, Tokens]
    by_kind: dict[str, Tokens]
    by_module: dict[str, Tokens]
    seconds_by_module: dict[str, float]
    what_if: dict[int, float]

    @property
    def speed_up(self) -> float:
        """Sum of run times / wall-clock; 1.0 while nothing ran."""
        return self.sequential / self.wall_clock if self.wall_clock > 0 else 1.0

    @property
    def times_bound(self) -> float:
        """Wall-clock / lower bound: 1.0 is the best possible."""
        return self.wall_clock / self.bound.seconds if self.bound.seconds > 0 else 1.0

    @property
    def paid(self) -> bool:
        """Whether running in parallel was worth it: a tenth faster, without a tenth more tokens."""
        extra = self.tokens.parallel_only * 10 <= self.tokens.total
        return self.speed_up >= 1.1 and extra


def economics(
    runs: Sequence[RunFacts],
    specs: Sequence[ModuleSpec],
    ceiling: int,
    *,
    wall_clock: float | None = None,
    curve: bool = True,
) -> Economics:
    """Work out a plan's figures from its runs.

    `specs` are the modules as approved (lanes and needs); `wall_clock` is from approval to done,
    by default from the first start to the last end. Without `curve`, `what_if` is empty.
    """
    if wall_clock is None:
        first = min((run.started for run in runs), default=0.0)
        wall_clock = max((run.ended for run in runs), default=first) - first
    order = Order(specs)
    after = {slug: found.needs_to_start for slug, found in order.counters.items()}
    return Economics(
        wall_clock=wall_clock,
        sequential=sum(run.seconds for run in runs),
        bound=bound_of(_measured(runs, order), after=after, ceiling=ceiling),
        tokens=_total(runs),
        by_role=_grouped(runs, lambda run: run.role or ROLES_OF_KIND.get(run.kind, "none")),
        by_kind=_grouped(runs, lambda run: run.kind),
        by_module=_grouped(runs, lambda run: run.module),
        seconds_by_module=module_seconds(runs),
        what_if=what_if(runs, specs) if curve else {},
    )


def module_seconds(runs: Sequence[RunFacts | Measured]) -> dict[str, float]:
    """Seconds of all runs a module, gates and merges included; runs of the plan itself left out."""
    seconds: dict[str, float] = defaultdict(float)
    for run in runs:
        if run.module:
            seconds[run.module] += run.agent_seconds + run.gate_seconds
    return dict(seconds)


def lower_bound(
    runs: Sequence[Measured], *, after: Mapping[str, Collection[str]], ceiling: int
) -> float:
    """The least wall-clock in seconds; `after`: module -> those merged before it could start."""
    return bound_of(runs, after=after, ceiling=ceiling).seconds


def bound_of(
    runs: Sequence[Measured], *, after: Mapping[str, Collection[str]], ceiling: int
) -> Bound:
    """The least wall-clock with these run times, by its reasons: no schedule could be faster."""
    seconds = module_seconds(runs)
    lane_of = {run.module: run.lane for run in runs if run.module and run.lane}
    lanes: dict[str, float] = defaultdict(float)
    for module, lane in lane_of.items():
        lanes[lane] += seconds[module]
    queues: dict[str, float] = defaultdict(float)
    for run in runs:
        if run.kind == MERGE:
            queues[run.branch] += run.agent_seconds + run.gate_seconds
    return Bound(
        work=sum(run.agent_seconds for run in runs) / max(1, ceiling),
        critical_path=_longest_chain(seconds, after),
        longest_lane=max(lanes.values(), default=0.0),
        merge_queue=max(queues.values(), default=0.0),
    )


def _longest_chain(seconds: Mapping[str, float], after: Mapping[str, Collection[str]]) -> float:
    specs = [
        ModuleSpec(
            module, needs=tuple(Need(other, IMPLEMENTATION) for other in after.get(module, ()))
        )
        for module in dict.fromkeys((*seconds, *after))
    ]
    known = {spec.slug: seconds.get(spec.slug, 0.0) for spec in specs}
    return critical_path(specs, known)[1]


def _measured(runs: Sequence[RunFacts], order: Order) -> list[Measured]:
    return [
        Measured(
            module=run.module,
            kind=run.kind,
            agent_seconds=run.agent_seconds,
            gate_seconds=run.gate_seconds,
            lane=order.lane_of.get(run.module, ""),
            branch=run.module.rpartition("/")[0],
        )
        for run in runs
    ]


def what_if(runs: Sequence[RunFacts], specs: Sequence[ModuleSpec]) -> dict[int, float]:
    """Simulated wall-clock of the recorded durations for ceilings 1 to 20, in seconds."""
    known = module_seconds(runs)
    seconds = {spec.slug: known.get(spec.slug, 0.0) for spec in specs}
    order = Order(specs)
    return {ceiling: simulate(specs, seconds, ceiling, order) for ceiling in CEILINGS}


def _total(runs: Sequence[RunFacts]) -> Tokens:
    total = Tokens()
    for run in runs:
        total = total.plus(run)
    return total


def _grouped(runs: Sequence[RunFacts], key: Callable[[RunFacts], str]) -> dict[str, Tokens]:
    groups: dict[str, Tokens] = {}
    for run in runs:
        name = key(run)
        groups[name] = groups.get(name, Tokens()).plus(run)
    return groups
