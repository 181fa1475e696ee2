"""What a contract says a module provides: a dotted Python path with a signature, or text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass

ROOTS = ("", "src/", "lib/")

_DOTTED = re.compile(r"^(?P<word>(?:async|class|def)\s+)?(?P<path>[^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*")
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Provide:
    """One line of a contract's interface.

    `path` is empty for text; `signature` is "(...)" with an optional "-> X", or None where the
    contract names an object without saying how it is called.
    """

    clause: str
    path: str = ""
    signature: str | None = None
    word: str = ""
    text: str = ""

    @property
    def is_text(self) -> bool:
        return not self.path


class ProvideError(ValueError):
    """A line that is neither a Python signature nor text; says what to write instead."""


def parse(clause: str) -> Provide:
    """Read one line; raises ProvideError."""
    line = clause.strip()
    if line.lower().startswith("text:"):
        return Provide(clause=clause, text=line[5:].strip())
    found = _DOTTED.match(line)
    if found is None or len(line) > _LONGEST:
        raise ProvideError(
            f"{line[:80]!r} is neither a dotted Python path such as package.module.name(argument)"
            " nor text; for other languages write 'text: ...'"
        )
    signature = line[found.end() :].strip() or None
    if signature is not None:
        _check_signature(line, signature)
    word = (found["word"] or "").strip()
    return Provide(clause=clause, path=found["path"], signature=signature, word=word)


def _check_signature(line: str, signature: str) -> None:
    try:
        tree = ast.parse(f"def f{signature}: ...")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        tree = None
    one = tree is not None and len(tree.body) == 1 and isinstance(tree.body[0], ast.FunctionDef)
    if not signature.startswith("(") or not one or "\n" in signature:
        raise ProvideError(f"{line[:80]!r}: {signature[:60]!r} is not a Python signature")


def file_of(
    path: str, files: Iterable[str], roots: Iterable[str] = ROOTS
) -> tuple[str, str] | None:
    """The file among `files` in which a dotted path lives, and the name inside that file."""
    known = files if isinstance(files, (set, frozenset, dict)) else set(files)
    parts = path.split(".")
    for size in range(len(parts), 0, -1):
        stem = "/".join(parts[:size])
        for root in roots:
            for name in (f"{root}{stem}.py", f"{root}{stem}/__init__.py", f"{root}{stem}.pyi"):
                if name in known:
                    return name, ".".join(parts[size:])
    return None


def declares(clauses: Iterable[str], path: str) -> bool:
    """Whether some line promises something that lives in (or names) the file at `path`."""
    for clause in clauses:
        try:
            provide = parse(clause)
        except ProvideError:
            continue
        if provide.is_text and path in provide.text:
            return True
        if not provide.is_text and file_of(provide.path, {path}) is not None:
            return True
    return False
