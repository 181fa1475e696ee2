"""A repository in a few thousand words, for an orchestrator that cuts a goal into modules. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import combinations

from agents import testsetup
from agents.codebase import Codebase, is_test, kilobytes
from agents.cutting import cut
from projects.coupling import is_hot_name
from projects.order import components

LONGEST = 60_000
MOST_FOLDERS = 60
MOST_FILES = 400
MOST_PAIRS = 40
MOST_NAMES = 12
#: Commits with more files are sweeps and say nothing.
FILES_PER_COMMIT = 30


def outline(code: Codebase) -> str:
    """Folders, files with sizes and imports, circles, what changed together, tests and checks."""
    parts = [
        ("Folders", _folders(code)),
        ("Code, the largest first: size, what it imports, how many import it, tests that import it",
         _files(code)),
        ("Circles of imports", _circles(code)),
        ("Files that changed together", _together(code)),
        ("How it is tested", _tests(code)),
        ("Cut by imports alone, as a start", _mechanical(code)),
    ]  # fmt: skip
    text = "\n\n".join(f"## {title}\n" + "\n".join(lines) for title, lines in parts if lines)
    if code.missing:
        text += f"\n\nImports are not known: {code.missing}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n… cut off here"


def _folders(code: Codebase) -> list[str]:
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for path, found in code.sizes.items():
        parts = path.split("/")[:-1]
        for depth in range(1, min(len(parts), 3) + 1):
            folder = "/".join(parts[:depth])
            count[folder] += 1
            size[folder] += found
    shown = sorted(size, key=lambda folder: (-size[folder], folder))[:MOST_FOLDERS]
    lines = [f"{name}/ {count[name]} files, {kilobytes(size[name])}" for name in sorted(shown)]
    return lines + _more(len(size) - len(shown))


def _files(code: Codebase) -> list[str]:
    imports: dict[str, set[str]] = defaultdict(set)
    users: dict[str, set[str]] = defaultdict(set)
    for edge in code.imports:
        if not edge.typing_only:
            imports[edge.importer_file].add(edge.imported_file)
            users[edge.imported_file].add(edge.importer_file)
    files = sorted(code.code(), key=lambda path: (-code.sizes[path], path))
    lines = []
    for path in files[:MOST_FILES]:
        tests = sorted(one for one in users[path] if is_test(one))
        parts = [f"{path} {kilobytes(code.sizes[path])}"]
        if imports[path]:
            parts.append(f"imports {_some(imports[path])}")
        if count := len(users[path]) - len(tests):
            parts.append(f"imported by {count}")
        if tests:
            parts.append(f"tested by {_some(tests)}")
        lines.append("; ".join(parts))
    return lines + _more(len(files) - MOST_FILES)


def _circles(code: Codebase) -> list[str]:
    edges: dict[str, set[str]] = defaultdict(set)
    for edge in code.imports:
        if not edge.typing_only and not is_test(edge.importer_file):
            edges[edge.importer_file].add(edge.imported_file)
            edges[edge.imported_file] |= set()
    ordered = {path: sorted(edges[path]) for path in sorted(edges)}
    return [_some(knot) for knot in components(ordered)][:MOST_PAIRS]


def _together(code: Codebase) -> list[str]:
    both: Counter[tuple[str, str]] = Counter()
    for commit in code.together:
        known = [path for path in commit if path in code.sizes and not is_hot_name(path)]
        if len(commit) <= FILES_PER_COMMIT:
            both.update(combinations(sorted(known), 2))
    often = [(pair, count) for pair, count in both.most_common(MOST_PAIRS) if count >= 3]
    return [f"{a} and {b}: {count} commits" for (a, b), count in often]


def _tests(code: Codebase) -> list[str]:
    tests = [path for path in code.tests() if testsetup.is_test_file(path)]
    lines = [f"Set-up: {_some(code.setup)}"] if code.setup else []
    if tests:
        lines.append(f"{len(tests)} test files, such as {_some(tests)}")
    return lines + [f"{run} (at: {at})" for run, at in testsetup.project_checks(code)]


def _mechanical(code: Codebase) -> list[str]:
    return [
        f"{module.slug}: owns {_some(module.owns)}; needs "
        + (", ".join(f"{need.module} ({need.kind})" for need in module.needs) or "nothing")
        + f"; checks {'; '.join(module.checks) or 'none known'}"
        for module in cut(code).modules
    ]


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    shown = ", ".join(listed[:MOST_NAMES])
    rest = len(listed) - MOST_NAMES
    return f"{shown} and {rest} more" if rest > 0 else shown


def _more(rest: int) -> list[str]:
    return [f"… and {rest} more"] if rest > 0 else []
