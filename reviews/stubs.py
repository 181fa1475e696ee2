"""Which functions are still skeletons: a body that only raises NotImplementedError.

Uses the standard library alone: reviews/scripts/analyse.py loads this file inside the sandbox,
because parsing hostile source can crash an interpreter.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LARGEST = 2_000_000
"""Characters of a source file that are parsed."""

_EXEMPT = frozenset({"abstractmethod", "overload", "abstractproperty"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A function without a body yet; `line` is that of its `raise`."""

    qualname: str
    line: int


class Unreadable(ValueError):
    """Source that cannot be parsed; says why, `line` where it is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def parse(source: str) -> ast.Module:
    """The syntax tree of a file; raises Unreadable whatever is wrong with it."""
    if len(source) > LARGEST:
        raise Unreadable(f"has {len(source)} characters; at most {LARGEST} are analysed")
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise Unreadable(f"is not valid Python: {error.msg}", error.lineno) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(f"cannot be parsed ({type(error).__name__}: {error})") from None


def skeletons(source: str) -> list[Skeleton]:
    """Functions whose body is still a skeleton, in order; raises Unreadable.

    Abstract methods, overloads and protocols are declarations, not skeletons; so are private
    hooks that a class of the same file overrides.
    """
    tree = parse(source)
    hooks = _overridden(tree)
    found = []
    for qualname, node, owner in _functions(tree):
        raised = _only_raise(node)
        if raised is None or _is_declaration(node, owner):
            continue
        hook = node.name.startswith("_") and not node.name.startswith("__")
        if owner is not None and hook and (owner.name, node.name) in hooks:
            continue
        found.append(Skeleton(qualname, raised.lineno))
    return found


def _functions(tree: ast.Module) -> Iterator[tuple[str, _Function, ast.ClassDef | None]]:
    """Every function with its dotted name and class, in source order, without recursion."""
    work: list[tuple[ast.AST, str, ast.ClassDef | None]] = [(tree, "", None)]
    while work:
        node, prefix, owner = work.pop()
        children: list[tuple[ast.AST, str, ast.ClassDef | None]] = []
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                children.append((child, f"{prefix}{child.name}.", child))
            elif isinstance(child, _Function):
                yield f"{prefix}{child.name}", child, owner
                children.append((child, f"{prefix}{child.name}.", None))
            elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                children.append((child, prefix, owner))
        work += reversed(children)


def _only_raise(node: _Function) -> ast.Raise | None:
    body = node.body
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        body = body[1:] if isinstance(first.value.value, str) else body
    if len(body) != 1 or not isinstance(body[0], ast.Raise):
        return None
    raised = body[0].exc
    name = raised.func if isinstance(raised, ast.Call) else raised
    is_it = isinstance(name, ast.Name) and name.id == "NotImplementedError"
    return body[0] if is_it else None


def _last_name(node: ast.expr) -> str:
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _is_declaration(node: _Function, owner: ast.ClassDef | None) -> bool:
    if any(_last_name(decorator) in _EXEMPT for decorator in node.decorator_list):
        return True
    return owner is not None and any(_last_name(base) == "Protocol" for base in owner.bases)


def _overridden(tree: ast.Module) -> set[tuple[str, str]]:
    """(class, method) pairs that another top-level class of the file overrides."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    found = set()
    for node in classes.values():
        methods = [child.name for child in node.body if isinstance(child, _Function)]
        bases, seen = [_last_name(base) for base in node.bases], set[str]()
        while bases:
            base = bases.pop()
            if base in classes and base not in seen:
                seen.add(base)
                bases += [_last_name(further) for further in classes[base].bases]
                found |= {(base, method) for method in methods}
    return found


def covered(qualname: str, declared: Iterable[str]) -> str | None:
    """The declared name that a function belongs to ("" is the whole file), or None."""
    for name in declared:
        if name in ("", qualname) or qualname.startswith(name + "."):
            return name
    return None
