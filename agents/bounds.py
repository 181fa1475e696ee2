"""The least time that a plan's runs could take, by each reason that keeps it from less. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from projects.forecast import critical_path
from projects.specs import IMPLEMENTATION, ModuleSpec, Need

MERGE = "merge"

#: The reasons in words, in the order that decides between equals.
BOUNDS = {
    "work": "the agents' time shared by the ceiling",
    "critical_path": "the longest chain of needs",
    "longest_lane": "the longest lane",
    "merge_queue": "the merge queue",
}


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
class Bound:
    """The least wall-clock that is possible, in seconds, by each of its reasons.

    `own` are the plan's runs before and after all modules; they come on top of the largest.
    """

    work: float  #: agents' time / ceiling
    critical_path: float  #: the longest chain of needs, gates included
    longest_lane: float
    merge_queue: float
    own: float = 0.0

    @property
    def seconds(self) -> float:
        return self.own + max(self._value(name) for name in BOUNDS)

    @property
    def binds(self) -> str:
        """work, critical_path, longest_lane or merge_queue: the largest, the first of equals."""
        return max(BOUNDS, key=self._value)

    def _value(self, name: str) -> float:
        return float(getattr(self, name))


def module_seconds(runs: Sequence[Measured]) -> dict[str, float]:
    """Seconds of all runs a module, gates and merges included; runs of the plan itself left out."""
    seconds: dict[str, float] = defaultdict(float)
    for run in runs:
        if run.module:
            seconds[run.module] += run.agent_seconds + run.gate_seconds
    return dict(seconds)


def bound_of(
    runs: Sequence[Measured], *, after: Mapping[str, Collection[str]], ceiling: int
) -> Bound:
    """The least wall-clock with these run times, by its reasons: no schedule could be faster.

    `after`: module to those that are merged before it can start.
    """
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
