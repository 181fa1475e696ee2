"""What is wrong with a plan or with a split, by module and field."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Protocol

from projects import globs, provides
from projects.order import Order, lane_cycles, need_cycles
from projects.specs import KINDS, ModuleSpec, Problem

MOST_PROBLEMS = 200
FILES_SHOWN = 5
FILES_KEPT = 50

SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}(/[a-z0-9][a-z0-9_-]{0,39}){0,3}")


class SplitPolicy(Protocol):
    """How far a project lets modules split without asking a person."""

    @property
    def depth(self) -> int: ...
    @property
    def modules(self) -> int: ...


@dataclass(frozen=True, slots=True)
class SplitVerdict:
    """Whether a split is valid (`problems` is empty) and why a person must approve it, if so."""

    problems: tuple[Problem, ...]
    needs_person: str | None = None


def validate(
    specs: Sequence[ModuleSpec], tracked: Iterable[str], project_checks: Sequence[str] = ()
) -> list[Problem]:
    """Everything that keeps a plan from approval; at most 200 problems.

    `tracked` are the paths of the commit the plan starts from, `project_checks` its commands.
    """
    files = tracked if isinstance(tracked, globs.Files) else globs.Files(tracked)
    unique = list({spec.slug: spec for spec in specs}.values())
    problems = [*_plan_problems(specs, project_checks)]
    for spec in specs:
        problems += _module_problems(spec, {s.slug for s in unique})
        problems += _glob_problems(spec, files)
    order = Order(unique)
    problems += _cycle_problems(order)
    usable = [_usable(spec, files) for spec in unique]
    for found in (_owner_overlaps, _test_overlaps):
        for problem in found(usable, order, files):
            problems.append(problem)
            if len(problems) >= MOST_PROBLEMS:
                return problems[:MOST_PROBLEMS]
    return problems[:MOST_PROBLEMS]


def _plan_problems(specs: Sequence[ModuleSpec], project_checks: Sequence[str]) -> Iterator[Problem]:
    if not specs:
        yield Problem(None, "modules", "the plan has no modules; add at least one")
    if any(not command.strip() for command in project_checks):
        yield Problem(None, "checks", "a project check is empty; write a command or remove it")
    seen: set[str] = set()
    for spec in specs:
        if spec.slug in seen:
            yield Problem(spec.slug, "slug", "is used by two modules; rename one of them")
        seen.add(spec.slug)


def _module_problems(spec: ModuleSpec, known: set[str]) -> Iterator[Problem]:
    if not SLUG.fullmatch(spec.slug):
        yield Problem(
            spec.slug, "slug", "must be 1 to 40 of a-z, 0-9, - and _, a letter or digit first"
        )
    if spec.parent and spec.parent not in known:
        yield Problem(spec.slug, "parent", f"there is no module {spec.parent!r}")
    for need in spec.needs:
        if need.module == spec.slug:
            yield Problem(spec.slug, "needs", "a module cannot need itself; remove this need")
        elif need.module not in known:
            yield Problem(spec.slug, "needs", f"there is no module {need.module!r}")
        if need.kind not in KINDS:
            wanted = ", ".join(KINDS)
            yield Problem(spec.slug, "needs", f"{need.kind!r} is no kind of need; use {wanted}")
    if not any(command.strip() for command in spec.checks):
        yield Problem(
            spec.slug, "checks", "has no checks; add at least one command that proves it works"
        )
    elif not all(command.strip() for command in spec.checks):
        yield Problem(spec.slug, "checks", "a check is empty; write a command or remove it")
    for clause in spec.provides:
        try:
            provides.parse(clause)
        except provides.ProvideError as error:
            yield Problem(spec.slug, "provides", str(error))


def _glob_problems(spec: ModuleSpec, files: globs.Files) -> Iterator[Problem]:
    if not any(not glob.startswith("!") for glob in spec.owns):
        yield Problem(spec.slug, "owns", "owns no path; name the files that it may change")
    for field, patterns in (("owns", spec.owns), ("tests", spec.tests)):
        for glob in patterns:
            if fault := globs.fault(glob, files):
                yield Problem(spec.slug, field, f"{glob!r} {fault}")
            elif field == "owns" and not glob.startswith("!"):
                yield from _unmatched(spec, glob, files)
    given = [g for g in spec.tests if not g.startswith("!") and not globs.fault(g, files)]
    if spec.tests_given and not (given and any(files.matched((g,)) for g in given)):
        yield Problem(spec.slug, "tests", "are marked as given, but no tracked file matches them")


def _unmatched(spec: ModuleSpec, glob: str, files: globs.Files) -> Iterator[Problem]:
    if files.matched((glob,)) or spec.parent:
        return
    if globs.is_wild(glob):
        yield Problem(spec.slug, "owns", f"{glob!r} matches no tracked file")
    elif not provides.declares(spec.provides, glob.strip("/")):
        yield Problem(
            spec.slug,
            "owns",
            f"{glob!r} matches no tracked file; if the module is to create it, let 'provides'"
            " say what will be in it (a Python path, or 'text: ...' naming the file)",
        )


def _usable(spec: ModuleSpec, files: globs.Files) -> ModuleSpec:
    owns = tuple(glob for glob in spec.owns if not globs.fault(glob, files))
    tests = tuple(glob for glob in spec.tests if not globs.fault(glob, files))
    return replace(spec, owns=owns, tests=tests)


def _cycle_problems(order: Order) -> Iterator[Problem]:
    cycles = need_cycles(order)
    for cycle in cycles:
        members = tuple(cycle[:-1])
        yield Problem(
            members[0],
            "needs",
            f"{' → '.join(cycle)} need each other in a circle. Remove one of these needs, or put"
            f" {' and '.join(members)} into one lane (make the need 'coupled')",
            offer=members,
        )
    # Reachability means nothing while there are circles.
    for cycle in [] if cycles else lane_cycles(order):
        members = tuple(dict.fromkeys(cycle))
        names = ", ".join(dict.fromkeys(order.lane_of[slug] for slug in members))
        yield Problem(
            members[0],
            "lane",
            f"the lanes {names} would wait for each other by {' → '.join(cycle)}."
            " Put these modules into one lane, or make one need 'implementation'",
            offer=members,
        )


def _owner_overlaps(
    specs: Sequence[ModuleSpec], order: Order, files: globs.Files
) -> Iterator[Problem]:
    owners = _by_path(specs, "owns", files)
    shared: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path, slugs in owners.items():
        if len(slugs) > 1:
            shared[tuple(slugs)].append(path)
    both: dict[tuple[str, str], list[str]] = defaultdict(list)
    for sharers, common in shared.items():
        for a, b in combinations(sharers, 2):
            if len(both) > MOST_PROBLEMS:
                break
            if order.may_run_together(a, b):
                both[a, b] += common
    for (a, b), paths in both.items():
        yield _overlap(a, b, f"both own {_some(paths)}", tuple(sorted(paths)))
    for a, b, glob in _meetings(specs, "owns", "owns"):
        a, b = sorted((a, b), key=order.index.__getitem__)
        if (a, b) not in both and order.may_run_together(a, b):
            both[a, b] = []
            yield _overlap(a, b, f"both could create files under {glob!r}", ())


def _overlap(a: str, b: str, what: str, paths: tuple[str, ...]) -> Problem:
    return Problem(
        b,
        "owns",
        f"overlaps with {a}: {what}, and they may run at the same time. Give each path to one"
        " module, couple the two (one lane), or let one need the other's implementation",
        files=paths[:FILES_KEPT],
        offer=(a, b),
    )


def _some(paths: Sequence[str]) -> str:
    shown = ", ".join(sorted(paths)[:FILES_SHOWN])
    rest = len(paths) - FILES_SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown


def _meetings(
    specs: Sequence[ModuleSpec], ours: str, theirs: str
) -> Iterator[tuple[str, str, str]]:
    """Pairs of modules of which the first takes whole what a glob of the second could match.

    A directory index keeps this near linear: only equal globs and enclosing directories meet.
    """
    takers: dict[str, list[ModuleSpec]] = defaultdict(list)
    for spec in specs:
        for glob in getattr(spec, ours):
            tree = globs.subtree_of(glob)
            takers["" if glob == "**" else glob if tree is None else f"{tree}/"].append(spec)
    seen: set[tuple[str, str]] = set()
    for spec in specs:
        for glob in getattr(spec, theirs):
            if glob.startswith("!"):
                continue
            for key in _enclosing(glob):
                for other in takers.get(key, ())[:MOST_PROBLEMS]:
                    pair = (other.slug, spec.slug)
                    if other.slug == spec.slug or pair in seen:
                        continue
                    if globs.inside(getattr(other, ours), glob):
                        seen.add(pair)
                        yield other.slug, spec.slug, glob


def _enclosing(glob: str) -> Iterator[str]:
    yield glob
    yield ""
    parts = globs.territory(glob).split("/")
    for size in range(1, len(parts) + 1):
        yield "/".join(parts[:size]) + "/"


def _test_overlaps(
    specs: Sequence[ModuleSpec], order: Order, files: globs.Files
) -> Iterator[Problem]:
    """Owned paths that hold another module's tests, and tests that two modules would write."""
    testers, owners = _by_path(specs, "tests", files), _by_path(specs, "owns", files)
    for (owner, tester), paths in _held(specs, testers, owners, files).items():
        yield Problem(
            owner,
            "owns",
            f"holds tests of {tester}: {_some(paths)}. Take them out of the owned paths (a glob"
            " that begins with '!' does it)",
            files=tuple(sorted(paths)[:FILES_KEPT]),
        )
    for (a, b), paths in _written_twice(specs, testers, order).items():
        yield Problem(
            b,
            "tests",
            f"overlap with the tests of {a}: {_some(paths)}, and both may be written at the same"
            " time. Give each file to one module, or couple the two",
            files=tuple(sorted(paths)[:FILES_KEPT]),
            offer=(a, b),
        )


def _by_path(specs: Sequence[ModuleSpec], field: str, files: globs.Files) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for spec in specs:
        for path in files.matched(getattr(spec, field)):
            if len(found[path]) < MOST_PROBLEMS:
                found[path].append(spec.slug)
    return found


_Shared = dict[tuple[str, str], list[str]]


def _held(
    specs: Sequence[ModuleSpec],
    testers: dict[str, list[str]],
    owners: dict[str, list[str]],
    files: globs.Files,
) -> _Shared:
    """(owner, tester) -> the tester's tests that the owner owns, tests to come included."""
    found: _Shared = defaultdict(list)
    for path, slugs in testers.items():
        owning = owners.get(path, [])
        for tester in slugs if owning else ():
            for owner in owning if tester not in owning else ():
                if not _related(owner, tester):
                    found[owner, tester].append(path)
    for owner, tester, glob in _meetings(specs, "owns", "tests"):
        known = (owner, tester) in found or _related(owner, tester)
        if not known and not files.matched((glob,)):
            found[owner, tester].append(glob)
    return found


def _written_twice(
    specs: Sequence[ModuleSpec], testers: dict[str, list[str]], order: Order
) -> _Shared:
    given = {spec.slug for spec in specs if spec.tests_given}
    found: _Shared = defaultdict(list)
    for path, slugs in testers.items():
        for a, b in combinations(slugs, 2):
            if not {a, b} <= given and order.may_run_together(a, b):
                found[a, b].append(path)
    return found


def _related(a: str, b: str) -> bool:
    return a.startswith(b + "/") or b.startswith(a + "/")


def check_split(
    parent: ModuleSpec,
    children: Sequence[ModuleSpec],
    policy: SplitPolicy | Mapping[str, int],
    depth: int,
    *,
    tracked: Iterable[str] = (),
    others: Sequence[ModuleSpec] = (),
    lane: str | None = None,
) -> SplitVerdict:
    """Judge a split: `depth` is the children's (1 for those of a module of the plan).

    `others` are the plan's modules (which children may need), `lane` the parent's lane by
    coupling. Within the policy it goes on at once, else `needs_person` says why it waits.
    """
    problems = [*_split_problems(parent, children, lane or parent.lane)]
    named = [replace(child, parent=parent.slug) for child in children]
    near = [spec for spec in others if spec.slug != parent.slug]
    known = {spec.slug for spec in (*named, *near)}
    files = globs.Files(tracked)
    for child in named:
        problems += _module_problems(child, {*known, parent.slug})
        problems += _glob_problems(child, files)
    problems += _duplicates(named)
    order = Order([*near, *({c.slug: c for c in named}.values())])
    problems += _cycle_problems(order)
    usable = [_usable(child, files) for child in named]
    problems += [*_owner_overlaps(usable, order, files), *_test_overlaps(usable, order, files)]
    reasons = []
    deepest, most = _limit(policy, "depth"), _limit(policy, "modules")
    if depth > deepest:
        reasons.append(f"it is {depth} deep, the project's policy allows {deepest}")
    if len(children) > most:
        reasons.append(f"it has {len(children)} modules, the policy allows {most}")
    return SplitVerdict(tuple(problems), "; ".join(reasons) or None)


def _limit(policy: SplitPolicy | Mapping[str, int], name: str) -> int:
    """A limit of a policy, as an object or as stored; what it does not say is not allowed."""
    if isinstance(policy, Mapping):
        return policy.get(name, 0)
    return int(getattr(policy, name))


def _duplicates(children: Sequence[ModuleSpec]) -> Iterator[Problem]:
    return (p for p in _plan_problems(children, ()) if p.field == "slug")


def _split_problems(
    parent: ModuleSpec, children: Sequence[ModuleSpec], lane: str
) -> Iterator[Problem]:
    if lane:
        yield Problem(
            parent.slug,
            "lane",
            f"is in the lane {lane}; a module of a lane cannot split, since its parts would hold"
            " up the lane. Take it out of the lane first",
        )
    if len(children) < 2:
        yield Problem(parent.slug, "modules", "a split needs at least two modules")
    for child in children:
        if not child.slug.startswith(parent.slug + "/"):
            yield Problem(child.slug, "slug", f"must begin with '{parent.slug}/'")
        if any(need.module == parent.slug for need in child.needs):
            yield Problem(child.slug, "needs", "a part cannot need the module that it is part of")
        for glob in child.owns:
            if not glob.startswith("!") and not globs.inside(parent.owns, glob):
                yield Problem(child.slug, "owns", f"{glob!r} lies outside what {parent.slug} owns")
        for glob in child.tests:
            allowed = (*parent.owns, *parent.tests)
            if not glob.startswith("!") and not globs.inside(allowed, glob):
                yield Problem(
                    child.slug, "tests", f"{glob!r} lies outside the tests of {parent.slug}"
                )
