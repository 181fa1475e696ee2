"""How long a plan's recorded runs would have taken with another ceiling. Pure.

The engine's rules in small: slots are given back while gates run, checks have a limit of their
own, a branch takes one merge at a time, a lane one module, and what is nearly done goes first.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from projects.forecast import CEILINGS, path_lengths
from projects.order import Order
from projects.specs import ModuleSpec

#: As the scheduler orders wanted runs; what is not named comes before new modules.
PLACE = {"merge": 0, "review": 1, "fix": 2, "recheck": 3, "build": 4, "tests": 5}
#: A module gets this far only when all that it needs is merged.
AFTER_NEEDS = frozenset({"recheck", "review", "fix", "merge"})
MERGE = "merge"


@dataclass(frozen=True, slots=True)
class Step:
    """A recorded run: its turns as (seconds before the gate, seconds of the gate)."""

    kind: str
    laps: tuple[tuple[float, float], ...]
    needs_slot: bool = True


@dataclass(frozen=True, slots=True)
class History:
    """What is simulated: the runs of each module in order, and the plan's own around them."""

    specs: Sequence[ModuleSpec]
    steps: Mapping[str, Sequence[Step]]
    checks: int = 1
    before_seconds: float = 0.0
    after_seconds: float = 0.0


@dataclass
class Part:
    """A module of the simulation."""

    steps: Sequence[Step]
    rank: tuple[int, float]
    lane: str = ""
    branch: str = ""
    start_left: int = 0
    finish_left: int = 0
    after_start: list[int] = field(default_factory=list)
    after_finish: list[int] = field(default_factory=list)
    children: list[int] = field(default_factory=list)
    step: int = 0
    lap: int = 0
    is_waiting: bool = True
    is_held: bool = False
    is_done: bool = False


def curve(history: History, ceilings: Iterable[int] = CEILINGS) -> dict[int, float]:
    """Simulated wall-clock in seconds by ceiling; it never rises, for slots may stay unused."""
    order = Order(history.specs)
    lengths = path_lengths(history.specs, None, order)
    found: dict[int, float] = {}
    best, enough = float("inf"), False
    for ceiling in ceilings:
        if not enough:
            engine = Engine(history, order, lengths, ceiling)
            best = min(best, engine.run())
            # Nothing ever waited for a slot, so more of them change nothing.
            enough = engine.most < ceiling
        found[ceiling] = best
    return found


def wall_clock(history: History, ceiling: int) -> float:
    """Simulated wall-clock in seconds with exactly this ceiling."""
    order = Order(history.specs)
    lengths = path_lengths(history.specs, None, order)
    return Engine(history, order, lengths, ceiling).run()


class Engine:
    """One simulation by events; `most` is how many slots were wanted at once, up to the ceiling."""

    def __init__(
        self, history: History, order: Order, lengths: Mapping[str, float], ceiling: int
    ) -> None:
        self.ceiling, self.history = max(1, ceiling), history
        self.clock, self.used, self.most = 0.0, 0, 0
        self.count = 0
        self.events: list[tuple[float, int, bool, int]] = []
        self.again: deque[int] = deque()
        self.wanting: list[tuple[int, int, float, float, int]] = []
        self.fresh: list[tuple[int, float, int]] = []
        self.parked: dict[str, list[int]] = defaultdict(list)
        self.lanes: set[str] = set()
        self.merges: dict[str, list[tuple[int, float, float, int]]] = defaultdict(list)
        self.merging: set[str] = set()
        self.free_checks, self.merge_check = max(1, history.checks), True
        self.on_merge_check: set[int] = set()
        self.check_queue: deque[int] = deque()
        self.ended: list[int] = []
        self.merge_check_queue: deque[int] = deque()
        self.parts = _parts(history, order, lengths)

    def run(self) -> float:
        self.clock = self.history.before_seconds
        for number, part in enumerate(self.parts):
            if not part.start_left:
                self.offer(number)
        while True:
            if self.ended:
                self.settle()
            if self.used < self.ceiling:
                self.dispatch()
            elif self.fresh or self.wanting or self.again:
                self.most = self.ceiling
            if not self.events:
                if not self.unstick():
                    break
                continue
            self.clock, _, is_gate, number = heapq.heappop(self.events)
            if is_gate:
                self.gate_done(number)
            else:
                self.agent_done(number)
        return self.clock + self.history.after_seconds

    # What may start

    def offer(self, number: int) -> None:
        """A module that nothing holds up any more; its lane is looked at when its turn comes."""
        part = self.parts[number]
        if part.steps:
            heapq.heappush(self.fresh, (*part.rank, number))
        elif not part.is_done:
            self.ended.append(number)

    def dispatch(self) -> None:
        while self.again and self.used < self.ceiling:
            self.begin(self.again.popleft(), takes=True)
        while self.wanting and self.used < self.ceiling:
            self.begin(heapq.heappop(self.wanting)[-1], takes=True)
        while self.fresh and self.used < self.ceiling:
            number = heapq.heappop(self.fresh)[-1]
            part = self.parts[number]
            if part.lane and part.lane in self.lanes:
                self.parked[part.lane].append(number)
                continue
            if part.lane:
                self.lanes.add(part.lane)
            part.is_waiting = False
            if part.steps[0].kind in AFTER_NEEDS:
                self.advance(number)
            else:
                self.begin(number, takes=part.steps[0].needs_slot)
        while self.wanting and self.used < self.ceiling:
            self.begin(heapq.heappop(self.wanting)[-1], takes=True)
        if self.again or self.wanting or self.fresh:
            self.most = self.ceiling

    def unstick(self) -> bool:
        """Let a module go on that waits for what the record never finished; False when all did."""
        for number, part in enumerate(self.parts):
            if part.is_done:
                continue
            if part.is_held:
                part.finish_left = 0
                self.go_on(number)
            else:
                part.start_left = 0
                self.lanes.discard(part.lane)
                self.offer(number)
            return True
        return False

    # One module

    def begin(self, number: int, *, takes: bool) -> None:
        part = self.parts[number]
        if takes:
            self.used += 1
            self.most = max(self.most, self.used)
        self.later(part.steps[part.step].laps[part.lap][0], False, number)

    def later(self, seconds: float, is_gate: bool, number: int) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.clock + seconds, self.count, is_gate, number))

    def agent_done(self, number: int) -> None:
        part = self.parts[number]
        step = part.steps[part.step]
        self.used -= step.needs_slot
        if step.laps[part.lap][1] <= 0:
            self.lap_done(number)
        elif step.kind == MERGE and not self.free_checks and self.merge_check:
            self.merge_check = False
            self.on_merge_check.add(number)
            self.later(step.laps[part.lap][1], True, number)
        elif self.free_checks:
            self.free_checks -= 1
            self.later(step.laps[part.lap][1], True, number)
        else:
            (self.merge_check_queue if step.kind == MERGE else self.check_queue).append(number)

    def gate_done(self, number: int) -> None:
        if number in self.on_merge_check:
            self.on_merge_check.discard(number)
            self.merge_check = True
        else:
            self.free_checks += 1
        self.next_check()
        self.lap_done(number)

    def next_check(self) -> None:
        for queue in (self.merge_check_queue, self.check_queue):
            if queue and self.free_checks:
                self.free_checks -= 1
            elif queue and queue is self.merge_check_queue and self.merge_check:
                self.merge_check = False
                self.on_merge_check.add(queue[0])
            else:
                continue
            number = queue.popleft()
            part = self.parts[number]
            self.later(part.steps[part.step].laps[part.lap][1], True, number)

    def lap_done(self, number: int) -> None:
        part = self.parts[number]
        step = part.steps[part.step]
        part.lap += 1
        if part.lap < len(step.laps):
            if step.needs_slot:
                self.again.append(number)
            else:
                self.begin(number, takes=False)
            return
        part.step, part.lap = part.step + 1, 0
        if step.kind == MERGE:
            self.merging.discard(part.branch)
            self.next_merge(part.branch)
        if part.children and self.past_split(part):
            children, part.children = part.children, []
            for child in children:
                self.start_need_done(child)
        self.advance(number)

    def advance(self, number: int) -> None:
        part = self.parts[number]
        if part.step == len(part.steps):
            self.ended.append(number)
        elif part.finish_left and part.steps[part.step].kind in AFTER_NEEDS:
            part.is_held = True
        else:
            self.go_on(number)

    def past_split(self, part: Part) -> bool:
        return part.step == len(part.steps) or part.steps[part.step].kind in AFTER_NEEDS

    def go_on(self, number: int) -> None:
        part = self.parts[number]
        part.is_held = False
        step = part.steps[part.step]
        if step.kind == MERGE:
            heapq.heappush(self.merges[part.branch], (*part.rank, self.clock, number))
            self.next_merge(part.branch)
        elif not step.needs_slot:
            self.begin(number, takes=False)
        else:
            place = PLACE.get(step.kind, 9)
            heapq.heappush(self.wanting, (place, *part.rank, self.clock, number))

    def next_merge(self, branch: str) -> None:
        if self.merges[branch] and branch not in self.merging:
            self.merging.add(branch)
            self.begin(heapq.heappop(self.merges[branch])[-1], takes=False)

    def settle(self) -> None:
        """Let those go on that waited for modules which are merged now."""
        while self.ended:
            part = self.parts[self.ended.pop(0)]
            if part.is_done:
                continue
            part.is_done = True
            if part.lane and not part.is_waiting:
                self.lanes.discard(part.lane)
                for waiting in self.parked.pop(part.lane, ()):
                    self.offer(waiting)
            for other in part.after_start:
                self.start_need_done(other)
            for other in part.after_finish:
                waits = self.parts[other]
                waits.finish_left -= 1
                if waits.finish_left <= 0 and waits.is_held:
                    self.go_on(other)

    def start_need_done(self, number: int) -> None:
        part = self.parts[number]
        part.start_left -= 1
        if part.start_left == 0 and part.is_waiting:
            self.offer(number)


def _parts(history: History, order: Order, lengths: Mapping[str, float]) -> list[Part]:
    parts = [
        Part(
            steps=history.steps.get(slug, ()),
            rank=(-order.specs[slug].priority, -lengths[slug]),
            lane=order.lane_of.get(slug, ""),
            branch=order.specs[slug].parent,
        )
        for slug in order.slugs
    ]
    for slug, found in order.counters.items():
        number = order.index[slug]
        for other in found.needs_to_start:
            parts[order.index[other]].after_start.append(number)
        for other in found.needs_to_finish:
            parts[order.index[other]].after_finish.append(number)
        parts[number].start_left += len(found.needs_to_start)
        parts[number].finish_left += len(found.needs_to_finish)
        parent = order.index.get(order.specs[slug].parent)
        if parent is not None:
            parts[parent].children.append(number)
            parts[parent].finish_left += 1
            parts[number].start_left += 1
            parts[number].after_finish.append(parent)
    return parts
