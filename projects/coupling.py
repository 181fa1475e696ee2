"""Recognise modules that belong into one lane, by evidence. Pure: edges in, suggestions out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from projects import globs
from projects.order import components, lane_list
from projects.specs import ModuleSpec

Reason = Literal["overlap", "import_cycle", "typing_cycle", "cochange", "hot_file"]
Strength = Literal["apply", "propose", "hint"]

STRENGTHS: tuple[Strength, ...] = ("apply", "propose", "hint")
EVIDENCE_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ImportEdge:
    """One file imports another; `line` is 0 where it is not known."""

    importer_file: str
    imported_file: str
    typing_only: bool = False
    line: int = 0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where evidence begins to count; measured on real histories (docs/decisions.md)."""

    cochange_support: int = 5  #: commits that touched both modules
    cochange_confidence: float = 0.3  #: those, by all commits of the module with fewer
    files_per_commit: int = 30  #: larger commits are sweeps and say nothing
    hot_modules: int = 3  #: other modules that a file changed with before it is hot


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Modules that could share a lane, why, and what shows it.

    `apply`: policy may make it a lane at once; `propose`: only a person; `hint`: worth a look.
    """

    modules: tuple[str, ...]
    reason: Reason
    evidence: tuple[str, ...]
    strength: Strength


def suggest(
    specs: Sequence[ModuleSpec],
    imports: Sequence[ImportEdge],
    cochange: Sequence[frozenset[str]],
    thresholds: Thresholds = Thresholds(),
    *,
    tracked: Iterable[str] = (),
) -> list[Suggestion]:
    """All suggestions, the strongest first; modules that share a lane already give none.

    `cochange` are the files of each commit of the history, `tracked` the files of the plan's
    commit (needed to see overlaps).
    """
    touched = (file for edge in imports for file in (edge.importer_file, edge.imported_file))
    changed = (file for files in cochange for file in files)
    files = globs.Files({*tracked, *touched, *changed})
    owners = _Owners(specs, files)
    together = {module: lane.name for lane in lane_list(specs) for module in lane.modules}
    found = [
        *_overlaps(specs, owners, set(tracked)),
        *_cycles(imports, owners),
        *_cochanges(cochange, owners, thresholds),
        *_hot_files(cochange, owners, thresholds),
    ]
    kept = [one for one in found if one.reason == "hot_file" or not _settled(one, together)]
    return sorted(kept, key=lambda one: STRENGTHS.index(one.strength))


def _settled(suggestion: Suggestion, together: Mapping[str, str]) -> bool:
    lanes = {together.get(module) for module in suggestion.modules}
    return len(lanes) == 1 and None not in lanes


class _Owners:
    """Which modules a file belongs to, by owned and by test paths."""

    def __init__(self, specs: Sequence[ModuleSpec], files: globs.Files) -> None:
        self.of_code: dict[str, list[str]] = defaultdict(list)
        self.of_tests: dict[str, list[str]] = defaultdict(list)
        for spec in specs:
            for path in files.matched(_sound(spec.owns)):
                self.of_code[path].append(spec.slug)
            for path in files.matched(_sound(spec.tests)):
                self.of_tests[path].append(spec.slug)

    def any_of(self, path: str) -> list[str]:
        return self.of_tests.get(path) or self.of_code.get(path) or []


def _sound(patterns: Sequence[str]) -> list[str]:
    return [glob for glob in patterns if globs.fault(glob) is None]


def _overlaps(
    specs: Sequence[ModuleSpec], owners: _Owners, tracked: set[str]
) -> Iterable[Suggestion]:
    parents = {spec.slug: spec.parent for spec in specs}
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, slugs in owners.of_code.items():
        for a, b in combinations(slugs, 2) if path in tracked else ():
            if a != parents[b] and b != parents[a]:
                shared[a, b].append(path)
    for pair, paths in shared.items():
        evidence = [f"both own {path}" for path in sorted(paths)]
        yield Suggestion(pair, "overlap", _shown(evidence), "apply")


def _cycles(imports: Sequence[ImportEdge], owners: _Owners) -> Iterable[Suggestion]:
    """Circles of imports between modules: at run time, with the tests' imports, for types only."""
    rounds: tuple[tuple[bool, bool, Reason, Strength], ...] = (
        (False, False, "import_cycle", "apply"),
        (True, False, "import_cycle", "propose"),
        (True, True, "typing_cycle", "hint"),
    )
    seen: list[frozenset[str]] = []
    for with_tests, with_typing, reason, strength in rounds:
        edges: dict[str, set[str]] = defaultdict(set)
        shown: dict[tuple[str, str], str] = {}
        for edge in imports:
            if edge.typing_only and not with_typing:
                continue
            if not with_tests and edge.importer_file in owners.of_tests:
                continue
            for a in owners.any_of(edge.importer_file):
                for b in owners.of_code.get(edge.imported_file, ()):
                    if a != b:
                        edges[a].add(b)
                        edges[b] |= set()
                        shown.setdefault((a, b), _say(edge))
        ordered = {module: sorted(edges[module]) for module in sorted(edges)}
        for knot in components(ordered):
            members = frozenset(knot)
            if not any(members <= other for other in seen):
                seen.append(members)
                inside = [text for (a, b), text in shown.items() if {a, b} <= members]
                yield Suggestion(tuple(sorted(knot)), reason, _shown(inside), strength)


def _say(edge: ImportEdge) -> str:
    where = f"{edge.importer_file}:{edge.line}" if edge.line else edge.importer_file
    return f"{where} imports {edge.imported_file}{' for types' if edge.typing_only else ''}"


def _cochanges(
    commits: Sequence[frozenset[str]], owners: _Owners, thresholds: Thresholds
) -> Iterable[Suggestion]:
    alone: Counter[str] = Counter()
    both: Counter[tuple[str, str]] = Counter()
    files: dict[tuple[str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
    for commit in commits:
        if len(commit) > thresholds.files_per_commit:
            continue
        paths: dict[str, str] = {}
        for path in sorted(commit):
            for module in [] if is_hot_name(path) else owners.any_of(path):
                paths.setdefault(module, path)
        alone.update(paths.keys())
        for a, b in combinations(sorted(paths), 2):
            both[a, b] += 1
            files[a, b][paths[a], paths[b]] += 1
    for (a, b), support in both.items():
        fewer = min(alone[a], alone[b])
        confidence = support / fewer
        if support < thresholds.cochange_support or confidence < thresholds.cochange_confidence:
            continue
        evidence = [f"{support} of {fewer} commits of the rarer one touched both"]
        for (one, other), count in files[a, b].most_common(EVIDENCE_SHOWN - 1):
            evidence.append(f"{one} and {other} changed together {count} times")
        yield Suggestion((a, b), "cochange", _shown(evidence), "propose")


_HOT_STEMS = ("changelog", "changes", "history", "news", "authors", "contributors")
_HOT_NAMES = frozenset(
    {
        "__init__.py",
        "pyproject.toml",
        "setup.py",
        "setup.cfg",
        "package.json",
        "cargo.toml",
        "go.mod",
    }
)
_HOT_LOCKS = frozenset({"package-lock.json", "pnpm-lock.yaml", "go.sum", "npm-shrinkwrap.json"})


def is_hot_name(path: str) -> bool:
    """Whether a file is of the kind that every change touches: changelogs, locks, manifests."""
    name = path.rpartition("/")[2].lower()
    return (
        name in _HOT_NAMES
        or name in _HOT_LOCKS
        or name.endswith(".lock")
        or name.split(".")[0] in _HOT_STEMS
    )


def _hot_files(
    commits: Sequence[frozenset[str]], owners: _Owners, thresholds: Thresholds
) -> Iterable[Suggestion]:
    """Files of the hot kind that changed along with several other modules."""
    along: dict[str, Counter[str]] = defaultdict(Counter)
    for commit in commits:
        hots = [path for path in commit if path in owners.of_code and is_hot_name(path)]
        others = {m for p in commit if hots and not is_hot_name(p) for m in owners.any_of(p)}
        for hot in hots:
            along[hot].update(others - set(owners.of_code[hot]))
    for path, near in sorted(along.items()):
        if len(near) >= thresholds.hot_modules:
            names = [module for module, _ in near.most_common(EVIDENCE_SHOWN)]
            evidence = [
                f"{path} changed together with {len(near)} other modules ({', '.join(names)});"
                " give it a lane of its own, or leave it to the orchestrator"
            ]
            yield Suggestion(tuple(owners.of_code[path]), "hot_file", _shown(evidence), "hint")


def _shown(evidence: Sequence[str]) -> tuple[str, ...]:
    rest = len(evidence) - EVIDENCE_SHOWN
    return (*evidence[:EVIDENCE_SHOWN], *([f"and {rest} more"] if rest > 0 else []))
