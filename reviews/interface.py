"""Declared interfaces against real code: missing, different, unfinished, or reached past."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projects import globs, provides
from projects.provides import Provide, ProvideError
from reviews.analysis import AnalysisError, analyse, packages, python_files
from reviews.checks import Runner, Stop, never

Promises = Mapping[str, tuple[Sequence[str], Sequence[str]]]
"""Module -> the paths it owns, and what it provides."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A breach of a contract's interface; `line` is None where the thing is not there."""

    path: str
    line: int | None
    clause: str
    message: str


def readable(clauses: Iterable[str]) -> list[Provide]:
    """The Python lines among what a module provides; text is left to people."""
    found = []
    for clause in clauses:
        try:
            provide = provides.parse(clause)
        except ProvideError:
            continue  # Refused when the plan was validated; an older contract may still hold it.
        if not provide.is_text:
            found.append(provide)
    return found


def unchecked(clauses: Iterable[str]) -> list[str]:
    """The lines that no machine checks, for the page to say so."""
    return [clause for clause in clauses if clause.strip().lower().startswith("text:")]


def check_interface(
    clauses: Sequence[str],
    tree: Path,
    runner: Runner,
    *,
    environment: Path | None = None,
    stop: Stop = never,
) -> list[Remark]:
    """Compare a checkout with what its module provides; skeleton bodies left in it count too."""
    return _remarks(_interface_job(clauses), tree, runner, environment, stop)


def check_imports(
    owns: Sequence[str],
    promises: Promises,
    tree: Path,
    runner: Runner,
    *,
    environment: Path | None = None,
    stop: Stop = never,
) -> list[Remark]:
    """Imports of a module's files that reach past what other modules provide.

    `promises`: module -> (owned paths, provides). Modules that declare no Python are not checked.
    """
    return _remarks(_imports_job(owns, promises, tree), tree, runner, environment, stop)


def check_code(
    clauses: Sequence[str],
    owns: Sequence[str],
    promises: Promises,
    tree: Path,
    runner: Runner,
    *,
    environment: Path | None = None,
    stop: Stop = never,
) -> list[Remark]:
    """Both checks of a module's code with one start of a process."""
    job = {**_interface_job(clauses), **_imports_job(owns, promises, tree)}
    return _remarks(job, tree, runner, environment, stop)


def _interface_job(clauses: Sequence[str]) -> dict[str, Any]:
    declared = [
        {"clause": one.clause, "path": one.path, "signature": one.signature, "word": one.word}
        for one in readable(clauses)
    ]
    return {"provides": declared} if declared else {}


def _imports_job(owns: Sequence[str], promises: Promises, tree: Path) -> dict[str, Any]:
    if not any(readable(clauses) for _, clauses in promises.values()):
        return {}
    files = python_files(tree)
    names = _promised(promises, files)
    ours = [path for path in files.matched(list(owns)) if path not in names]
    if not names or not ours:
        return {}
    return {"promises": names, "files": ours, "packages": packages(files)}


def _promised(promises: Promises, files: globs.Files) -> dict[str, dict[str, Any]]:
    """File -> its module and the names that this module provides of it ("" for all)."""
    found: dict[str, dict[str, Any]] = {}
    known = frozenset(files.paths)
    for module, (owns, clauses) in promises.items():
        names: dict[str, set[str]] = defaultdict(set)
        for provide in readable(clauses):
            place = provides.file_of(provide.path, known)
            if place is not None:
                names[place[0]].add(place[1].split(".")[0])
        if names:
            for path in files.matched(list(owns)):
                found[path] = {"module": module, "names": sorted(names.get(path, set()))}
    return found


def _remarks(
    job: dict[str, Any], tree: Path, runner: Runner, environment: Path | None, stop: Stop
) -> list[Remark]:
    if not job:
        return []
    try:
        answer = analyse(job, tree, runner, environment=environment, stop=stop)
        found = [*answer.get("interface", []), *answer.get("reach", [])]
        return [Remark(r["path"], r["line"], r["clause"], r["message"]) for r in found]
    except AnalysisError as error:
        return [Remark(error.path, None, "provides", str(error))]


# The skeleton.


def skeleton(
    clauses: Sequence[str], existing: Collection[str], owns: Sequence[str] = ()
) -> dict[str, str]:
    """Code for declared Python interfaces whose files do not exist yet: path -> source.

    Signatures raise NotImplementedError. `existing` are the paths of the tree (a mapping by path
    will do); no path of it is ever in the result. `owns` may name the new files exactly.
    """
    taken = set(existing)
    plain = [glob.strip("/") for glob in owns if not globs.is_wild(glob)]
    members: dict[str, _Node] = {}
    for provide in readable(clauses):
        if _has_file(provide, taken):
            continue
        path, name = provides.file_of(provide.path, plain) or _new_file(provide, taken)
        if path not in taken:
            members.setdefault(path, _Node()).add(name, provide)
    sources = {path: _source(node) for path, node in members.items()}
    return {**_packages(sources, taken), **sources}


def _has_file(provide: Provide, taken: set[str]) -> bool:
    place = provides.file_of(provide.path, taken)
    if place is None:
        return False
    # "package.new.name" is found in the package's __init__.py, but speaks of a module beside it.
    first, dot, _ = place[1].partition(".")
    return not (place[0].endswith("__init__.py") and dot and not first[:1].isupper())


class _Node:
    """A name of the skeleton with what lies inside it."""

    def __init__(self) -> None:
        self.provide: Provide | None = None
        self.inside: dict[str, _Node] = {}

    def add(self, name: str, provide: Provide) -> None:
        node = self
        for part in [part for part in name.split(".") if part]:
            node = node.inside.setdefault(part, _Node())
        node.provide = provide


def _new_file(provide: Provide, taken: set[str]) -> tuple[str, str]:
    """Where a new module goes: below the longest package that exists, else at the root.

    A capital letter begins a class, everything before it is packages and the module.
    """
    parts = provide.path.split(".")
    classes = [place for place, part in enumerate(parts) if place and part[:1].isupper()]
    size = classes[0] if classes else max(1, len(parts) - 1)
    if provide.signature is None and not classes and not provide.word:
        size = len(parts)
    inside = ".".join(parts[size:])
    for root in provides.ROOTS:
        folder = f"{root}{parts[0]}/"
        if any(path.startswith(folder) for path in taken):
            return f"{root}{'/'.join(parts[:size])}.py", inside
    return f"{'/'.join(parts[:size])}.py", inside


def _packages(sources: Mapping[str, str], taken: set[str]) -> dict[str, str]:
    """Empty __init__.py files for the new folders that new modules lie in."""
    found: dict[str, str] = {}
    folders = {path.rpartition("/")[0] for path in taken}
    for path in sources:
        parts = path.split("/")[:-1]
        for size in range(1, len(parts) + 1):
            folder = "/".join(parts[:size])
            has_files = any(known == folder or known.startswith(folder + "/") for known in folders)
            if f"{folder}/" not in provides.ROOTS and not has_files:
                found[f"{folder}/__init__.py"] = ""
    return {path: text for path, text in found.items() if path not in sources}


def _source(node: _Node) -> str:
    lines = ["from __future__ import annotations", ""]
    for name, child in node.inside.items():
        lines += ["", *_declare(name, child, inside_class=False), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _declare(name: str, node: _Node, *, inside_class: bool) -> list[str]:
    provide = node.provide
    word = provide.word if provide else ""
    signature = provide.signature if provide else None
    looks_like_class = (
        bool(node.inside) or word == "class" or (not inside_class and name[:1].isupper())
    )
    if looks_like_class and not (provide and name.isupper() and signature is None and not word):
        return _declare_class(name, node, signature)
    if signature is None and word not in ("def", "async"):
        return [f"{name} = None  # to be defined"]
    prefix = "async def" if word == "async" else "def"
    lines = [f"{prefix} {name}{signature or '()'}:", "    raise NotImplementedError"]
    takes_self = (signature or "").lstrip("( ").startswith(("self", "cls"))
    return ["@staticmethod", *lines] if inside_class and not takes_self else lines


def _declare_class(name: str, node: _Node, signature: str | None) -> list[str]:
    body: list[str] = []
    if signature is not None and "__init__" not in node.inside:
        inner = signature[1:].partition("->")[0].rstrip()
        own = "" if inner.lstrip().startswith("self") else "self" if inner == ")" else "self, "
        body += [f"def __init__({own}{inner}:", "    raise NotImplementedError", ""]
    for member, child in node.inside.items():
        body += [*_declare(member, child, inside_class=True), ""]
    body = body or ["pass"]
    return [f"class {name}:", *(f"    {line}" if line else "" for line in body)]
