"""Parameters that a contract declares against those that code has.

Uses the standard library alone: reviews/scripts/analyse.py loads this file inside the sandbox.
"""

from __future__ import annotations

import ast

Parameters = dict[str, tuple[str, bool]]
"""Name -> (kind as griffe words it, whether it may be left out)."""

_POSITIONAL = ("positional-only", "positional-or-keyword")


def declared(signature: str) -> Parameters:
    """The parameters of "(a, *, b=1)"; the signature was checked when the plan was read."""
    function = ast.parse(f"def f{signature}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args]
    required, only = len(plain) - len(arguments.defaults), len(arguments.posonlyargs)
    found = {
        one.arg: (_POSITIONAL[0] if place < only else _POSITIONAL[1], place >= required)
        for place, one in enumerate(plain)
    }
    if arguments.vararg:
        found[arguments.vararg.arg] = ("variadic-positional", True)
    for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found[one.arg] = ("keyword-only", default is not None)
    if arguments.kwarg:
        found[arguments.kwarg.arg] = ("variadic-keyword", True)
    return found


def differences(wanted: Parameters, real: Parameters) -> list[str]:
    """Why a call that the contract allows could fail; annotations are not compared."""
    wanted, real = dict(wanted), dict(real)
    for name in ("self", "cls"):
        # Whether the bound argument is written down is a matter of taste.
        if next(iter(real), "") == name and name not in wanted:
            del real[name]
        elif next(iter(wanted), "") == name and name not in real:
            del wanted[name]
    return [*_missing(wanted, real), *_extra(wanted, real)] or _misplaced(wanted, real)


def _missing(wanted: Parameters, real: Parameters) -> list[str]:
    problems = []
    kinds = {kind for kind, _ in real.values()}
    for name, (kind, optional) in wanted.items():
        if kind.startswith("variadic"):
            if kind not in kinds:
                problems.append(f"does not take {'*' if kind.endswith('al') else '**'}{name}")
        elif name not in real:
            problems.append(f"has no parameter {name!r}")
        elif name not in ("self", "cls") and real[name][0] not in (kind, _POSITIONAL[1]):
            problems.append(f"parameter {name!r} must be {kind}; it is {real[name][0]}")
        elif optional and not real[name][1]:
            problems.append(f"parameter {name!r} must have a default")
    return problems


def _extra(wanted: Parameters, real: Parameters) -> list[str]:
    return [
        f"needs {name!r}, which the contract does not name; give it a default"
        for name, (kind, optional) in real.items()
        if name not in wanted and not optional and not kind.startswith("variadic")
    ]


def _misplaced(wanted: Parameters, real: Parameters) -> list[str]:
    ours = [n for n, (kind, _) in wanted.items() if kind in _POSITIONAL and n in real]
    theirs = [name for name, (kind, _) in real.items() if kind in _POSITIONAL]
    if ours != theirs[: len(ours)]:
        return [f"parameters must come in the order {', '.join(ours)}"]
    return []
