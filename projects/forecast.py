"""How long a plan would take: paths, layers, simulated wall-clock, and why not faster."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from projects.order import Lane, Order, lane_list
from projects.specs import ModuleSpec, seconds_of

CEILINGS = range(1, 21)


@dataclass(frozen=True, slots=True)
class LaneReport:
    """A lane, why it is one, and the seconds it takes one after another."""

    name: str
    modules: tuple[str, ...]
    reasons: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """Why not more parallel. All times in seconds; `wall_clock` by ceiling, 1 to 20."""

    layers: tuple[tuple[str, ...], ...]
    critical_path: tuple[str, ...]
    critical_seconds: float
    lanes: tuple[LaneReport, ...]
    wall_clock: dict[int, float]
    sentences: tuple[str, ...]


def path_lengths(
    specs: Sequence[ModuleSpec],
    seconds: Mapping[str, float] | None = None,
    order: Order | None = None,
) -> dict[str, float]:
    """Seconds from a module's start to the end of the longest path through it.

    A contract dependent runs meanwhile, so only what comes after it counts; the rest of the
    module's lane counts, since it waits.
    """
    order = order or Order(specs)
    seconds = seconds_of(specs, seconds)
    after_start: dict[str, list[str]] = defaultdict(list)
    after_finish: dict[str, list[str]] = defaultdict(list)
    for slug in order.slugs:
        for other in order.counters[slug].needs_to_start:
            after_start[other].append(slug)
        for other in order.counters[slug].needs_to_finish:
            after_finish[other].append(slug)
    lane_total = {
        lane: sum(seconds[slug] for slug in order.names(bits))
        for lane, bits in order.lane_bits.items()
    }
    lengths: dict[str, float] = {}
    tails: dict[str, float] = {}
    for slug in reversed(order.topological):
        ahead = [lengths.get(other, 0.0) for other in after_start[slug]]
        beside = [tails.get(other, 0.0) for other in after_finish[slug]]
        tails[slug] = max([0.0, *ahead, *beside])
        lengths[slug] = seconds[slug] + max(
            tails[slug], _lane_rest(order, slug, seconds, lane_total)
        )
    return lengths


def _lane_rest(
    order: Order, slug: str, seconds: Mapping[str, float], lane_total: Mapping[str, float]
) -> float:
    lane = order.lane_of.get(slug)
    if lane is None:
        return 0.0
    earlier = order.names(order.lane_bits[lane] & order.reach[slug])
    return lane_total[lane] - seconds[slug] - sum(seconds[other] for other in earlier)


def layers(specs: Sequence[ModuleSpec], order: Order | None = None) -> list[list[str]]:
    """Modules by the earliest round they can start in; a contract need does not delay a start."""
    order = order or Order(specs)
    level: dict[str, int] = {}
    starts: dict[str, int] = {}
    for slug in order.topological:
        found = order.counters[slug]
        starts[slug] = max((level.get(o, 0) + 1 for o in found.needs_to_start), default=0)
        level[slug] = max([starts[slug], *(level.get(o, 0) for o in found.needs_to_finish)])
    rows: list[list[str]] = [[] for _ in range(max(starts.values(), default=-1) + 1)]
    for slug in order.slugs:
        rows[starts[slug]].append(slug)
    return rows


def critical_path(
    specs: Sequence[ModuleSpec],
    seconds: Mapping[str, float] | None = None,
    order: Order | None = None,
) -> tuple[list[str], float]:
    """The chain of needs that no number of agents makes shorter, and its seconds."""
    order = order or Order(specs)
    seconds = seconds_of(specs, seconds)
    begun: dict[str, float] = {}
    ended: dict[str, float] = {}
    start_after: dict[str, str | None] = {}
    end_after: dict[str, str | None] = {}
    for slug in order.topological:
        found = order.counters[slug]
        first = _latest(found.needs_to_start, ended)
        begun[slug] = ended[first] if first else 0.0
        last = _latest(found.needs_to_finish, ended)
        own = begun[slug] + seconds[slug]
        waits = last is not None and ended[last] > own
        ended[slug] = ended[last] if waits and last else own
        start_after[slug], end_after[slug] = first, last if waits else None
    link = _latest(order.slugs, ended)
    chain: list[str] = []
    while link is not None:
        chain.append(link)
        link = end_after[link] or start_after[link]
    return list(reversed(chain)), max(ended.values(), default=0.0)


def _latest(slugs: Iterable[str], ended: Mapping[str, float]) -> str | None:
    # Members of a circle are not all known yet; leaving those out keeps every chain finite.
    known = sorted(slug for slug in slugs if slug in ended)
    return max(known, key=ended.__getitem__, default=None)


class _Simulation:
    """List scheduling by events: people's priority first, then the longest path to the end."""

    def __init__(
        self, specs: Sequence[ModuleSpec], seconds: Mapping[str, float], order: Order
    ) -> None:
        self.order, self.seconds = order, seconds
        self.lengths = path_lengths(specs, seconds, order)
        self.start_left = {s: len(c.needs_to_start) for s, c in order.counters.items()}
        self.finish_left = {s: len(c.needs_to_finish) for s, c in order.counters.items()}
        self.after_start: dict[str, list[str]] = defaultdict(list)
        self.after_finish: dict[str, list[str]] = defaultdict(list)
        for slug, found in order.counters.items():
            for other in found.needs_to_start:
                self.after_start[other].append(slug)
            for other in found.needs_to_finish:
                self.after_finish[other].append(slug)
        self.ready: list[tuple[int, float, int, str]] = []
        self.parked: dict[str, list[str]] = defaultdict(list)
        self.taken: set[str] = set()
        self.worked: set[str] = set()
        self.merged: set[str] = set()
        for slug, left in self.start_left.items():
            if not left:
                self.offer(slug)

    def offer(self, slug: str) -> None:
        priority = self.order.specs[slug].priority
        place = self.order.index[slug]
        heapq.heappush(self.ready, (-priority, -self.lengths[slug], place, slug))

    def next_startable(self) -> str | None:
        """Take the best module whose lane is free, and its lane; those with a taken lane wait."""
        while self.ready:
            slug = heapq.heappop(self.ready)[-1]
            lane = self.order.lane_of.get(slug)
            if lane is None:
                return slug
            if lane not in self.taken:
                self.taken.add(lane)
                return slug
            self.parked[lane].append(slug)
        return None

    def work_done(self, slug: str) -> None:
        self.worked.add(slug)
        pending = [slug] if not self.finish_left[slug] else []
        for done in pending:
            self.merged.add(done)
            self._free_lane(done)
            for other in self.after_start[done]:
                self.start_left[other] -= 1
                if not self.start_left[other]:
                    self.offer(other)
            for other in self.after_finish[done]:
                self.finish_left[other] -= 1
                if not self.finish_left[other] and other in self.worked:
                    pending.append(other)

    def _free_lane(self, slug: str) -> None:
        lane = self.order.lane_of.get(slug)
        if lane is not None:
            self.taken.discard(lane)
            for waiting in self.parked.pop(lane, ()):
                self.offer(waiting)

    def run(self, ceiling: int) -> float:
        clock, running, at_work = 0.0, list[tuple[float, int, str]](), 0
        while True:
            while at_work < ceiling and (slug := self.next_startable()) is not None:
                at_work += 1
                end = clock + self.seconds[slug]
                heapq.heappush(running, (end, self.order.index[slug], slug))
            if not running:
                break
            clock, _, slug = heapq.heappop(running)
            at_work -= 1
            self.work_done(slug)
        if len(self.merged) < len(self.order.slugs):
            stuck = [slug for slug in self.order.slugs if slug not in self.merged]
            raise ValueError(f"the plan never ends: {', '.join(stuck[:5])} wait for each other")
        return clock


def simulate(
    specs: Sequence[ModuleSpec],
    seconds: Mapping[str, float] | None,
    ceiling: int,
    order: Order | None = None,
) -> float:
    """Predicted wall-clock in seconds with `ceiling` agents; ValueError for a plan with a cycle.

    A module that is built but waits for an interface holds its lane, not a slot.
    """
    return _Simulation(specs, seconds_of(specs, seconds), order or Order(specs)).run(
        max(1, ceiling)
    )


def why_not_more_parallel(
    specs: Sequence[ModuleSpec], ceiling: int = 5, seconds: Mapping[str, float] | None = None
) -> Report:
    """What keeps a valid plan from running more at once; ValueError for a plan with a cycle."""
    order = Order(specs)
    known = seconds_of(specs, seconds)
    chain, length = critical_path(specs, known, order)
    lanes = tuple(_lane_report(lane, known) for lane in lane_list(specs))
    curve = {count: simulate(specs, known, count, order) for count in CEILINGS}
    rows = tuple(tuple(row) for row in layers(specs, order))
    sentences = _sentences(rows, chain, length, lanes, curve, ceiling, sum(known.values()))
    return Report(rows, tuple(chain), length, lanes, curve, tuple(sentences))


def _lane_report(lane: Lane, seconds: Mapping[str, float]) -> LaneReport:
    total = sum(seconds[slug] for slug in lane.modules)
    return LaneReport(lane.name, lane.modules, lane.reasons, total)


def _sentences(
    rows: Sequence[Sequence[str]],
    chain: Sequence[str],
    length: float,
    lanes: Sequence[LaneReport],
    curve: Mapping[int, float],
    ceiling: int,
    work: float,
) -> list[str]:
    count = sum(len(row) for row in rows)
    if not count:
        return ["The plan has no modules yet."]
    said = [f"{len(rows[0])} of {count} modules can start at once."]
    if len(chain) > 1:
        said.append(
            f"The critical path {' → '.join(chain)} takes {say_seconds(length)};"
            " no number of agents makes it shorter."
        )
    for lane in lanes:
        if len(lane.modules) > 1:
            said.append(
                f"Lane {lane.name} runs {', '.join(lane.modules)} one after another,"
                f" {say_seconds(lane.seconds)} in all: {'; '.join(lane.reasons)}."
            )
    best = min(curve.values())
    enough = min(agents for agents, wall in curve.items() if wall <= best * 1.001)
    now = curve[min(max(1, ceiling), max(curve))]
    said.append(
        f"With {ceiling} at once the plan takes about {say_seconds(now)}"
        f" instead of {say_seconds(work)} one after another."
    )
    if enough <= ceiling:
        said.append(f"More than {enough} at once would not make it faster.")
    else:
        said.append(f"{enough} at once would take about {say_seconds(best)}; more gain nothing.")
    return said


def say_seconds(seconds: float) -> str:
    """A duration for people: "45 s", "12 min", "3 h 5 min"."""
    if seconds < 120:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
