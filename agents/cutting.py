"""Cut a repository into modules by its packages and imports alone, without any model. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from agents import testsetup
from agents.codebase import Codebase, is_test, kilobytes, test_folder
from projects import globs
from projects.coupling import Suggestion, Thresholds, suggest
from projects.order import components
from projects.planfile import (
    ModulePart,
    NeedPart,
    PlanFile,
    ProjectCheck,
    ProjectPart,
    TestPaths,
)
from projects.specs import CONTRACT, COUPLED, IMPLEMENTATION, ModuleSpec

#: So many modules people can still look over; more files are grouped.
MOST_MODULES = 12
#: A folder with more than this share of all code is cut further.
DOMINANT = 0.4
MOST_FOLDERS_DEEP = 6
MOST_PROVIDES = 200
#: What a plan file takes for one module; what is left over belongs to nobody until people say so.
MOST_TESTS = 200
MOST_OWNED = 500
#: Bytes below which files join what imports them.
SMALL = 2_000
MOST_UNITS = 300
MOST_TRIED = 20

_USUAL = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}/){0,3}[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}")

K = TypeVar("K", bound=Hashable)


@dataclass
class Unit:
    """Files that become one module: single ones, or whole folders."""

    files: set[str]
    folders: set[str] = field(default_factory=set)
    tests: set[str] = field(default_factory=set)
    slug: str = ""


def cut(code: Codebase, most: int = MOST_MODULES) -> PlanFile:
    """A plan of at most `most` modules; empty when the repository holds no code."""
    units = _grouped(_units(code), code, most)
    _name(units, code)
    _give_tests(units, code)
    owner = {path: unit for unit in units for path in unit.files}
    needs = _needs(units, code, owner)
    folders = {folder for unit in units for folder in unit.folders}
    modules = [
        _module(unit, needs[unit.slug], code, sorted(folders - unit.folders)) for unit in units
    ]
    checks = [ProjectCheck(run=run, at=at) for run, at in testsetup.project_checks(code)]
    return PlanFile(project=ProjectPart(checks=checks if modules else []), modules=modules)


# Units.


def _units(code: Codebase) -> list[Unit]:
    """Folders and files of about one size: what is larger than its share is cut further."""
    files = [path for path in code.code() if _may_own(path)]
    whole = [path for path in files if not _is_door(path, code)] or files
    total = sum(code.sizes[path] for path in whole) or 1
    found: list[Unit] = []
    work: list[tuple[str, list[str], int]] = [("", whole, 0)]
    while work:
        folder, inside, depth = work.pop()
        here = [path for path in inside if path.rpartition("/")[0] == folder]
        found += [Unit({path}) for path in here]
        for name, below in _below(folder, inside).items():
            share = sum(code.sizes[path] for path in below) / total
            is_open = len(below) > 1 and share > DOMINANT and depth < MOST_FOLDERS_DEEP
            if is_open or len(below) == 1:
                work.append((name, below, depth + 1))
            else:
                found.append(Unit(set(below), {name}))
    return sorted(found, key=lambda unit: min(unit.files))


def _may_own(path: str) -> bool:
    """Whether a plan can name a file; the usual names need no look at the glob."""
    return bool(_USUAL.fullmatch(path)) or globs.fault(_plain(path)) is None


def _is_door(path: str, code: Codebase) -> bool:
    """A package's __init__ that only hands names on: all would change it, so nobody owns it."""
    return path.rpartition("/")[2] == "__init__.py" and code.sizes[path] < 5_000


def _below(folder: str, files: Iterable[str]) -> dict[str, list[str]]:
    """Files by the folder directly below `folder` that they lie in."""
    found: dict[str, list[str]] = defaultdict(list)
    start = f"{folder}/" if folder else ""
    for path in files:
        name, _, rest = path.removeprefix(start).partition("/")
        if rest:
            found[start + name].append(path)
    return found


def _grouped(units: list[Unit], code: Codebase, most: int) -> list[Unit]:
    """Merge the smallest into what it has most to do with, until there are few enough."""
    crowd = _Crowd(_chunked(units, code), code)
    while len(crowd.alive) > 1:
        small = min(crowd.alive, key=lambda key: (crowd.sizes[key], key))
        is_crowded = len(crowd.alive) > max(most, 1)
        if not is_crowded and crowd.sizes[small] >= SMALL:
            break
        near = crowd.near(small, among_all=is_crowded)
        if near is None:
            # Nothing imports it or is imported by it: small as it is, it stands alone.
            crowd.sizes[small] = SMALL
        else:
            crowd.merge(small, near)
    return sorted(crowd.alive.values(), key=lambda unit: min(unit.files))


def _chunked(units: list[Unit], code: Codebase) -> list[Unit]:
    """At most three hundred units: of very many, neighbours by path are put together."""
    if len(units) <= MOST_UNITS:
        return units
    share = sum(_size(unit, code) for unit in units) / MOST_UNITS
    found: list[Unit] = []
    for unit in units:
        if found and _folder(found[-1]) == _folder(unit) and _size(found[-1], code) < share:
            found[-1].files |= unit.files
            found[-1].folders |= unit.folders
        else:
            found.append(unit)
    return found


class _Crowd:
    """Units that are being merged, with who imports whom among them."""

    def __init__(self, units: Sequence[Unit], code: Codebase) -> None:
        self.alive = dict(enumerate(units))
        self.sizes = {key: _size(unit, code) for key, unit in self.alive.items()}
        self.weights: dict[tuple[int, int], int] = defaultdict(int)
        self.out: dict[int, set[int]] = {key: set() for key in self.alive}
        place = {path: key for key, unit in self.alive.items() for path in unit.files}
        for edge in code.imports:
            a, b = place.get(edge.importer_file), place.get(edge.imported_file)
            if a is not None and b is not None and a != b:
                self.weights[min(a, b), max(a, b)] += 1
                if not edge.typing_only:
                    self.out[a].add(b)

    def near(self, small: int, *, among_all: bool) -> int | None:
        """The unit that has most to do with it; one that makes no circle, if there is one."""
        best = sorted(
            (key for key in self.alive if key != small and (among_all or self._tie(small, key))),
            key=lambda key: (
                -self._tie(small, key),
                _folder(self.alive[key]) != _folder(self.alive[small]),
                self.sizes[key],
                key,
            ),
        )
        free = next((key for key in best[:MOST_TRIED] if not self._circles(small, key)), None)
        return free if free is not None or not among_all else best[0]

    def merge(self, gone: int, into: int) -> None:
        unit = self.alive.pop(gone)
        self.alive[into].files |= unit.files
        self.alive[into].folders |= unit.folders
        self.sizes[into] += self.sizes.pop(gone)
        self.out[into] = (self.out[into] | self.out.pop(gone)) - {into, gone}
        for key, targets in self.out.items():
            if gone in targets:
                targets.discard(gone)
                targets |= {into} - {key}
        for (a, b), weight in list(self.weights.items()):
            if gone in (a, b):
                del self.weights[a, b]
                other = b if a == gone else a
                if other != into:
                    self.weights[min(other, into), max(other, into)] += weight

    def _tie(self, a: int, b: int) -> float:
        """Imports between them, counted less the larger the other already is."""
        weight = self.weights.get((min(a, b), max(a, b)), 0)
        return weight / (1 + self.sizes[b] / 20_000)

    def _circles(self, a: int, b: int) -> bool:
        """Whether one reaches the other by way of a third: merged, that third would be coupled."""
        return any(
            _reaches(self.out, middle, end)
            for start, end in ((a, b), (b, a))
            for middle in self.out[start] - {end, start}
        )


def _size(unit: Unit, code: Codebase) -> int:
    return sum(code.sizes[path] for path in unit.files)


def _folder(unit: Unit) -> str:
    return min(unit.folders or unit.files).rpartition("/")[0]


def _name(units: Sequence[Unit], code: Codebase) -> None:
    """Slugs after the largest file or folder of each unit."""
    taken: set[str] = set()
    for unit in units:
        largest = max(sorted(unit.files), key=lambda path: code.sizes[path])
        place = next((one for one in sorted(unit.folders) if largest.startswith(one + "/")), "")
        name = _word(place or largest)
        wanted = name
        for number in range(2, 1_000):
            if wanted not in taken:
                break
            wanted = f"{name[:36]}-{number}"
        unit.slug = wanted
        taken.add(wanted)


def _word(path: str) -> str:
    """ "src/pkg/_json.py" -> "json"."""
    parts = path.split("/")
    stem = parts[-1].rsplit(".", 1)[0] if "." in parts[-1] else parts[-1]
    if stem in ("__init__", "index", "mod", "main") and len(parts) > 1:
        stem = parts[-2]
    word = re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_")
    return word[:40] or "module"


# Tests, needs and lanes.


def _give_tests(units: Sequence[Unit], code: Codebase) -> None:
    """Each test file to the one unit that its name says, or that alone it imports."""
    owner = {path: unit for unit in units for path in unit.files}
    imported: dict[str, set[str]] = defaultdict(set)
    for edge in code.imports:
        if edge.imported_file in owner:
            imported[edge.importer_file].add(owner[edge.imported_file].slug)
    stems = {_stem(path): unit for unit in units for path in sorted(unit.files)}
    by_slug = {unit.slug: unit for unit in units}
    for path in code.tests():
        if not _may_own(path) or not testsetup.is_test_file(path):
            continue
        named = _named(path, stems)
        if named is None and len(imported[path]) == 1:
            named = by_slug[next(iter(imported[path]))]
        if named is not None and len(named.tests) < MOST_TESTS:
            named.tests.add(path)


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rsplit(".", 1)[0].strip("_").lower()


def _named(path: str, stems: dict[str, Unit]) -> Unit | None:
    """The unit with the longest file name that the test's name begins with."""
    name = re.sub(r"^test_|_test$|[._](?:test|spec)$", "", _stem(path))
    # Stems and name are in small letters; another letter or digit would make it a longer word.
    ends = [at for at in range(1, len(name) + 1) if not re.match("[a-z0-9]", name[at:])]
    fitting = [name[:at] for at in ends if name[:at] in stems]
    return stems[max(fitting, key=len)] if fitting else None


_Needs = dict[str, dict[str, str]]


def _needs(units: Sequence[Unit], code: Codebase, owner: dict[str, Unit]) -> _Needs:
    """Slug -> needed slug -> kind: what imports each other in a circle is coupled."""
    direct, by_tests = _edges(units, code, owner)
    lanes = [set(knot) for knot in components(direct)]
    moved = _moved_together(units, code)
    needs: _Needs = {unit.slug: {} for unit in units}
    for a, targets in direct.items():
        for b in targets:
            if any({a, b} <= lane for lane in lanes):
                if a not in needs[b]:
                    needs[a][b] = COUPLED
            elif frozenset((a, b)) in moved:
                needs[a][b] = IMPLEMENTATION
            else:
                needs[a][b] = CONTRACT
    for a, targets in by_tests.items():
        for b in targets:
            # A test that reaches back must not close a circle that the code does not have.
            if b not in needs[a] and not _reaches(direct, b, a):
                needs[a][b] = CONTRACT
                direct[a].append(b)
    return needs


def _edges(
    units: Sequence[Unit], code: Codebase, owner: dict[str, Unit]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    direct: dict[str, set[str]] = {unit.slug: set() for unit in units}
    tests: dict[str, set[str]] = {unit.slug: set() for unit in units}
    tester = {path: unit for unit in units for path in unit.tests}
    for edge in code.imports:
        target = owner.get(edge.imported_file)
        if target is None or edge.typing_only:
            continue
        for source, kept in ((owner, direct), (tester, tests)):
            unit = source.get(edge.importer_file)
            if unit is not None and unit is not target:
                kept[unit.slug].add(target.slug)
    return (
        {slug: sorted(found) for slug, found in direct.items()},
        {slug: sorted(found) for slug, found in tests.items()},
    )


def _reaches(edges: Mapping[K, Iterable[K]], start: K, end: K) -> bool:
    seen, work = {start}, [start]
    while work:
        here = work.pop()
        if here == end:
            return True
        new = [slug for slug in edges[here] if slug not in seen]
        seen.update(new)
        work += new
    return False


def _moved_together(units: Sequence[Unit], code: Codebase) -> set[frozenset[str]]:
    """Pairs whose files changed together so often that one interface does not part them."""
    specs = [ModuleSpec(unit.slug, owns=tuple(_owns(unit, code))) for unit in units]
    found: list[Suggestion] = suggest(specs, (), code.together, Thresholds())
    return {frozenset(one.modules) for one in found if one.reason == "cochange"}


# Modules.


def _module(
    unit: Unit, needs: dict[str, str], code: Codebase, foreign: Sequence[str]
) -> ModulePart:
    tests = sorted(unit.tests) or _new_tests(unit, foreign, code)
    return ModulePart(
        slug=unit.slug,
        title=_title(unit),
        brief=_brief(unit, needs, code),
        owns=_owns(unit, code),
        tests=TestPaths(paths=[_plain(path) for path in tests]),
        provides=_provides(unit),
        needs=[NeedPart(module=slug, kind=kind) for slug, kind in sorted(needs.items())],  # type: ignore[arg-type]
        checks=testsetup.checks(tests, sorted(unit.files), code),
    )


def _new_tests(unit: Unit, foreign: Sequence[str], code: Codebase) -> list[str]:
    """Where tests would be written, out of the folders that other modules own."""
    files = sorted(unit.files)
    for folder in (testsetup.usual_folder(code), *sorted(unit.folders), "tests"):
        place = f"{folder}/tests" if folder in unit.folders else folder
        if not any(f"{place}/".startswith(f"{other}/") for other in foreign):
            return testsetup.new_tests(unit.slug, files, place)
    return testsetup.new_tests(unit.slug, files, "tests")


def _title(unit: Unit) -> str:
    names = sorted(unit.folders) + sorted(
        path for path in unit.files if not any(path.startswith(f + "/") for f in unit.folders)
    )
    short = [name.rpartition("/")[2] for name in names]
    return f"{', '.join(short[:4])}{f' and {len(short) - 4} more' if len(short) > 4 else ''}"[:300]


def _brief(unit: Unit, needs: dict[str, str], code: Codebase) -> str:
    words = {
        CONTRACT: "imports",
        IMPLEMENTATION: "imports, and its history changed with",
        COUPLED: "imports in a circle with",
    }
    count = f"{len(unit.files)} file{'s' if len(unit.files) > 1 else ''}"
    parts = [f"Cut by imports: {count}, {kilobytes(_size(unit, code))}."]
    if len(_owns(unit, code)) == MOST_OWNED:
        parts.append(f"It owns the {MOST_OWNED} that a module can name; see to the others.")
    for kind, word in words.items():
        named = sorted(slug for slug, found in needs.items() if found == kind)
        if named:
            parts.append(f"It {word} {', '.join(named)}.")
    parts.append("Write here what of the goal this module does.")
    return " ".join(parts)


def _owns(unit: Unit, code: Codebase) -> list[str]:
    found = [
        _plain(path)
        for path in sorted(unit.files)
        if not any(path.startswith(f"{folder}/") for folder in unit.folders)
    ]
    for folder in sorted(unit.folders):
        found.append(f"{_plain(folder)}/**")
        found += [f"!{glob}" for glob in _foreign_tests(unit, folder, code)]
    # Single files come first: whole folders are what is kept.
    return found[-MOST_OWNED:]


def _foreign_tests(unit: Unit, folder: str, code: Codebase) -> list[str]:
    """Globs of the tests below a folder that are not the unit's own: whole folders, then files."""
    found: list[str] = []
    for path in sorted(code.sizes):
        if path.startswith(f"{folder}/") and is_test(path) and path not in unit.tests:
            tests = test_folder(path)
            whole = len(tests) > len(folder) and not any(
                own.startswith(f"{tests}/") for own in unit.tests
            )
            glob = f"{_plain(tests)}/**" if whole else _plain(path)
            if glob not in found:
                found.append(glob)
    return found[:MOST_PROVIDES]


def _provides(unit: Unit) -> list[str]:
    """The Python modules themselves: what they hold stays importable."""
    names = []
    for path in sorted(unit.files):
        dotted = re.sub(r"^(?:src|lib)/", "", path).removesuffix(".py").removesuffix("/__init__")
        parts = dotted.split("/")
        if path.endswith(".py") and all(part.isidentifier() for part in parts):
            names.append(".".join(parts))
    return names[:MOST_PROVIDES]


def _plain(path: str) -> str:
    """A path as a glob that matches it alone."""
    return re.sub(r"([\\*?\[\]!#])", r"\\\1", path)
