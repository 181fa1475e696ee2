"""Who waits for whom: lanes, what starts after what, and cycles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from projects.specs import CONTRACT, COUPLED, IMPLEMENTATION, ModuleSpec

#: What a graph is made of: slugs here, keys of rows elsewhere.
Node = TypeVar("Node", str, int)


@dataclass(frozen=True, slots=True)
class Counters:
    """What must be merged before a module starts, and what before it is done."""

    needs_to_start: frozenset[str]
    needs_to_finish: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lane:
    """Modules that never run together, in plan order, and why."""

    name: str
    modules: tuple[str, ...]
    reasons: tuple[str, ...]


class DisjointSets:
    """Union-find over slugs; the first of two roots in plan order stays root."""

    def __init__(self, items: Iterable[str]) -> None:
        self._rank = {item: rank for rank, item in enumerate(items)}
        self._parent = {item: item for item in self._rank}

    def find(self, item: str) -> str:
        while (parent := self._parent[item]) != item:
            self._parent[item] = self._parent[parent]
            item = parent
        return item

    def union(self, a: str, b: str) -> None:
        first, second = sorted((self.find(a), self.find(b)), key=self._rank.__getitem__)
        self._parent[second] = first


def lane_list(specs: Sequence[ModuleSpec]) -> list[Lane]:
    """The lanes of a plan: modules coupled with each other, or that name the same lane."""
    sets, together, reasons = (
        DisjointSets(s.slug for s in specs),
        set[str](),
        list[tuple[str, str]](),
    )
    known, named = {s.slug for s in specs}, dict[str, str]()
    for spec in specs:
        for need in spec.needs:
            if need.kind == COUPLED and need.module in known and need.module != spec.slug:
                sets.union(spec.slug, need.module)
                together |= {spec.slug, need.module}
                reasons.append((spec.slug, f"{spec.slug} and {need.module} are declared coupled"))
        if spec.lane:
            sets.union(spec.slug, named.setdefault(spec.lane, spec.slug))
            together.add(spec.slug)
    members: dict[str, list[ModuleSpec]] = defaultdict(list)
    for spec in {s.slug: s for s in specs if s.slug in together}.values():
        members[sets.find(spec.slug)].append(spec)
    why: dict[str, list[str]] = defaultdict(list)
    for slug, reason in reasons:
        why[sets.find(slug)].append(reason)
    return [_lane(root, found, why[root]) for root, found in members.items()]


def _lane(root: str, members: Sequence[ModuleSpec], reasons: Sequence[str]) -> Lane:
    names = list(dict.fromkeys(spec.lane for spec in members if spec.lane))
    named = [
        f"{', '.join(s.slug for s in members if s.lane == name)} name the lane {name!r}"
        for name in names
    ]
    slugs = tuple(spec.slug for spec in members)
    # No lane that people name can hold a colon, so a made-up name never joins one by accident.
    return Lane(names[0] if names else f"coupled:{root}", slugs, (*dict.fromkeys(reasons), *named))


def lanes(specs: Sequence[ModuleSpec]) -> dict[str, str]:
    """Slug -> lane, for modules that are in one."""
    return {slug: lane.name for lane in lane_list(specs) for slug in lane.modules}


class Order:
    """The order of a plan, worked out once; unknown modules and self needs are left out.

    Sets of modules are bits of one integer, which keeps a thousand modules near linear.
    """

    def __init__(
        self, specs: Sequence[ModuleSpec], lane_of: Mapping[str, str] | None = None
    ) -> None:
        self.specs = {spec.slug: spec for spec in specs}
        self.slugs = list(self.specs)
        self.index = {slug: place for place, slug in enumerate(self.slugs)}
        self.lane_of = dict(lanes(specs) if lane_of is None else lane_of)
        self.lane_bits: dict[str, int] = defaultdict(int)
        for slug, lane in self.lane_of.items():
            if slug in self.index:
                self.lane_bits[lane] |= 1 << self.index[slug]

    def needed(self, slug: str) -> list[tuple[str, str]]:
        """(module, kind) of the contract and implementation needs, one a module, stronger first."""
        kinds: dict[str, str] = {}
        for need in self.specs[slug].needs:
            ordering = need.kind in (CONTRACT, IMPLEMENTATION)
            known = need.module in self.index and need.module != slug
            if ordering and known and kinds.get(need.module) != IMPLEMENTATION:
                kinds[need.module] = need.kind
        return list(kinds.items())

    @cached_property
    def topological(self) -> list[str]:
        """Needed modules before those that need them; members of a cycle come last, as planned."""
        waiting = {slug: len(self.needed(slug)) for slug in self.slugs}
        dependents: dict[str, list[str]] = defaultdict(list)
        for slug in self.slugs:
            for other, _ in self.needed(slug):
                dependents[other].append(slug)
        done = [slug for slug in self.slugs if not waiting[slug]]
        for slug in done:
            for dependent in dependents[slug]:
                waiting[dependent] -= 1
                if not waiting[dependent]:
                    done.append(dependent)
        placed = set(done)
        return done + [slug for slug in self.slugs if slug not in placed]

    @cached_property
    def reach(self) -> dict[str, int]:
        """For each module the bits of all modules it needs, directly or through others."""
        bits: dict[str, int] = {}
        for slug in self.topological:
            found = 0
            for other, _ in self.needed(slug):
                found |= 1 << self.index[other] | bits.get(other, 0)
            bits[slug] = found
        return bits

    @cached_property
    def counters(self) -> dict[str, Counters]:
        """What each module needs to start and to finish, by the rules of lanes.

        A lane stays taken until its module is merged. So whatever a module needs of its own lane,
        directly or through others, must be merged before it starts, or both would wait forever.
        """
        found = {}
        for slug in self.slugs:
            needed = self.needed(slug)
            own_lane = self.lane_bits.get(self.lane_of.get(slug, ""), 0) & ~(1 << self.index[slug])
            start = {other for other, kind in needed if kind == IMPLEMENTATION}
            start |= set(self.names(self.reach[slug] & own_lane))
            found[slug] = Counters(frozenset(start), frozenset({o for o, _ in needed} - start))
        return found

    def names(self, bits: int) -> list[str]:
        """The slugs of a set of bits, in plan order."""
        found = []
        while bits:
            lowest = bits & -bits
            found.append(self.slugs[lowest.bit_length() - 1])
            bits ^= lowest
        return found

    @cached_property
    def before(self) -> dict[str, int]:
        """For each module the bits of those that are certainly merged before it starts."""
        bits = {}
        for slug in self.slugs:
            found = 0
            for other in self.counters[slug].needs_to_start:
                found |= 1 << self.index[other] | self.reach[other]
            bits[slug] = found
        return bits

    def may_run_together(self, a: str, b: str) -> bool:
        """Whether two modules could have runs at the same time."""
        if a == b or (a in self.lane_of and self.lane_of[a] == self.lane_of.get(b)):
            return False
        if a.startswith(b + "/") or b.startswith(a + "/"):
            return False
        return not (self.before[a] >> self.index[b] & 1 or self.before[b] >> self.index[a] & 1)


def counters(
    specs: Sequence[ModuleSpec], lane_of: Mapping[str, str] | None = None
) -> dict[str, Counters]:
    """Per module the slugs that must be merged before it starts and before it finishes."""
    return Order(specs, lane_of).counters


def may_run_together(specs: Sequence[ModuleSpec], a: str, b: str) -> bool:
    """Whether two modules of a plan could have runs at the same time."""
    return Order(specs).may_run_together(a, b)


def components(edges: Mapping[Node, Iterable[Node]]) -> list[list[Node]]:
    """Strongly connected components of more than one node (Tarjan, without recursion)."""
    number: dict[Node, int] = {}
    low: dict[Node, int] = {}
    stack: list[Node] = []
    on_stack: set[Node] = set()
    found: list[list[Node]] = []
    for root in edges:
        if root in number:
            continue
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(edges[root]))]
        while work:
            node, rest = work[-1]
            child = next(rest, None)
            if child is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    _close(node, stack, on_stack, found)
            elif child not in number:
                number[child] = low[child] = len(number)
                stack.append(child)
                on_stack.add(child)
                work.append((child, iter(edges.get(child, ()))))
            elif child in on_stack:
                low[node] = min(low[node], number[child])
    return found


def _close(node: Node, stack: list[Node], on_stack: set[Node], found: list[list[Node]]) -> None:
    place = stack.index(node) if stack[-1] != node else len(stack) - 1
    component = stack[place:]
    del stack[place:]
    on_stack.difference_update(component)
    if len(component) > 1:
        found.append(component)


def shortest_cycle(edges: Mapping[str, Iterable[str]], within: Iterable[str]) -> list[str]:
    """A short cycle among `within` (one component), from its first member, closed at the end."""
    inside = set(within)
    start = min(inside)
    came: dict[str, str] = {}
    queue = [start]
    for node in queue:
        for child in edges.get(node, ()):
            if child == start:
                path = [node]
                while path[-1] != start:
                    path.append(came[path[-1]])
                return [*reversed(path), start]
            if child in inside and child not in came:
                came[child] = node
                queue.append(child)
    return []


def need_cycles(order: Order) -> list[list[str]]:
    """One cycle for each knot of contract and implementation needs, closed at the end."""
    edges = {slug: [other for other, _ in order.needed(slug)] for slug in order.slugs}
    return [shortest_cycle(edges, knot) for knot in components(edges)]


def lane_cycles(order: Order) -> list[list[str]]:
    """Groups of modules that lanes could lock against each other, closed at the end.

    A module holds its lane until it is merged. If it then waits for a module of another lane
    whose holder waits, in turn, for this lane, nothing would ever go on.
    """
    suspects = _suspect_lanes(order)
    members = [slug for slug in order.slugs if order.lane_of.get(slug) in suspects]
    edges: dict[str, list[str]] = {}
    for slug in members:
        waits = order.names(_waits_while_holding(order, slug))
        edges[f"held {slug}"] = [f"free {o}" for o in waits if order.lane_of.get(o) in suspects]
        mates = order.names(order.lane_bits[order.lane_of[slug]])
        edges[f"free {slug}"] = [
            f"held {mate}"
            for mate in mates
            if mate != slug and not order.reach[mate] >> order.index[slug] & 1
        ]
    cycles = [shortest_cycle(edges, knot) for knot in components(edges)]
    return [[*dict.fromkeys(node[5:] for node in c), c[0][5:]] for c in cycles if c]


def _waits_while_holding(order: Order, slug: str) -> int:
    """Bits of what a started module still waits for."""
    bits = 0
    for other in order.counters[slug].needs_to_finish:
        bits |= 1 << order.index[other] | order.reach[other]
    return bits & ~order.before[slug]


def _suspect_lanes(order: Order) -> set[str]:
    edges: dict[str, set[str]] = defaultdict(set)
    for slug, lane in order.lane_of.items():
        if slug in order.index:
            waits = _waits_while_holding(order, slug)
            edges[lane] |= {
                other for other, bits in order.lane_bits.items() if other != lane and bits & waits
            }
    return {lane for knot in components(edges) for lane in knot}
