"""Take the bodies out of Python source and leave everything else as it is."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

# Runs in the example's own environment: which functions does importing these modules call?
TRACE = """
import importlib, json, sys
seen = set()
def profile(frame, event, argument):
    if event == "call":
        seen.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))
sys.setprofile(profile)
for name in sys.argv[1:]:
    importlib.import_module(name)
sys.setprofile(None)
print(json.dumps(sorted(seen)))
"""


@dataclass(frozen=True)
class Body:
    """The lines of one function body, 1-based and inclusive, without its docstring."""

    name: str
    first: int
    last: int
    indent: int


def stub_source(source: str, *, keep_lines: Iterable[int] = (), only: Iterable[str] = ()) -> str:
    """Replace function bodies by `raise NotImplementedError`.

    keep_lines: first lines (decorators included) of functions that stay whole.
    only: qualified names (`Class.method`); when given, nothing else is replaced.
    """
    wanted = set(only)
    bodies = [
        body
        for body in _bodies(ast.parse(source), frozenset(keep_lines))
        if not wanted or body.name in wanted
    ]
    missing = wanted - {body.name for body in bodies}
    if missing:
        raise ValueError(f"no such function with a body: {', '.join(sorted(missing))}")
    lines = source.splitlines(keepends=True)
    for body in sorted(bodies, key=lambda body: body.first, reverse=True):
        # A finaliser that raises would break whatever code happens to collect the object.
        text = "pass" if body.name.endswith("__del__") else "raise NotImplementedError"
        lines[body.first - 1 : body.last] = [f"{' ' * body.indent}{text}\n"]
    result = "".join(lines)
    ast.parse(result)
    return result


def called_at_import(
    root: Path, modules: Iterable[str], *, import_root: str, python: Path
) -> dict[Path, set[int]]:
    """Import the modules and say which functions ran: file -> first lines of the functions."""
    base = (root / import_root).resolve()
    # Tests may import each other from their own folder, as pytest lets them.
    search = [base, root.resolve(), root.resolve() / "tests"]
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(str(path) for path in search),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [str(python), "-c", TRACE, *modules]
    output = subprocess.run(
        command, cwd=base, env=environment, check=True, capture_output=True, text=True
    ).stdout
    called: dict[Path, set[int]] = {}
    for name, line in json.loads(output):
        called.setdefault((base / name).resolve(), set()).add(line)
    return called


def _bodies(tree: ast.AST, keep_lines: frozenset[int], prefix: str = "") -> Iterator[Body]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, FunctionNode):
            body = _body(node, prefix)
            if body and _first_line(node) not in keep_lines:
                yield body
        elif isinstance(node, ast.ClassDef):
            yield from _bodies(node, keep_lines, f"{prefix}{node.name}.")
        else:
            yield from _bodies(node, keep_lines, prefix)


def _body(node: FunctionNode, prefix: str) -> Body | None:
    documented = _is_text(node.body[0])
    statements = node.body[1:] if documented else node.body
    docstring_last = (node.body[0].end_lineno or 0) if documented else 0
    if all(isinstance(item, ast.Pass) or _is_constant(item) for item in statements):
        return None
    if any("overload" in ast.dump(decorator) for decorator in node.decorator_list):
        return None
    first = _first_line(statements[0])
    # A body on the line of its `def`, or of its docstring, cannot be cut out by lines.
    if first in (node.lineno, docstring_last):
        return None
    return Body(
        name=prefix + node.name,
        first=first,
        last=statements[-1].end_lineno or first,
        indent=statements[0].col_offset,
    )


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
