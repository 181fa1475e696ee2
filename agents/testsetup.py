"""Guess from what is there how a repository is tested, as commands for checks. Pure."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from agents.codebase import Codebase, is_test, suffix

At = Literal["merge", "end"]
_HELPERS = frozenset({"__init__", "conftest", "base", "utils", "util", "helpers", "factories"})


def is_test_file(path: str) -> bool:
    """Whether a file holds tests itself, rather than helping those that do."""
    stem = path.rpartition("/")[2].rsplit(".", 1)[0]
    if not is_test(path) or stem.lower() in _HELPERS:
        return False
    if suffix(path) == "py":
        return stem.startswith("test") or stem.endswith("_test")
    return True


def uses_pytest(code: Codebase) -> bool:
    """Whether the set-up or the tests name pytest; a project that names nothing has unittest."""
    if any("pytest" in text for text in code.setup.values()):
        return True
    return any(path.rpartition("/")[2] == "conftest.py" for path in code.sizes)


def new_tests(slug: str, files: Sequence[str], place: str) -> list[str]:
    """Where the tests of a module without any would live; Go's stand beside the code."""
    kind = suffix(files[0])
    folder = files[0].rpartition("/")[0]
    if kind == "go":
        return [f"{folder}/{slug}_test.go" if folder else f"{slug}_test.go"]
    if kind in ("js", "jsx", "mjs", "ts", "tsx"):
        return [f"{place}/{slug}.test.{kind}"]
    name = re.sub(r"[^a-z0-9_]", "_", slug)
    return [f"{place}/test_{name}.{kind}"]


def usual_folder(code: Codebase) -> str:
    """The folder that most test files lie in."""
    folders = Counter(path.rpartition("/")[0] for path in code.tests() if is_test_file(path))
    folders.pop("", None)
    return min(folders, key=lambda one: (-folders[one], one)) if folders else "tests"


def checks(tests: Sequence[str], files: Sequence[str], code: Codebase) -> list[str]:
    """Commands that prove one module by its own tests; empty where none can be guessed."""
    kind = suffix(files[0])
    if kind == "py":
        return [_python(tests, code)]
    if kind == "go":
        folder = files[0].rpartition("/")[0]
        return [f"go test ./{folder}/..." if folder else "go test ./..."]
    if kind == "rs":
        return ["cargo test"]
    return _npm(code) if kind in ("js", "jsx", "mjs", "cjs", "ts", "tsx", "vue", "svelte") else []


def _python(tests: Sequence[str], code: Codebase) -> str:
    if uses_pytest(code):
        words = ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        if _root(code) != ".":
            words += ["-o", f"pythonpath={_root(code)}"]
        return shlex.join([*words, *tests])
    names = [path.removesuffix(".py").replace("/", ".") for path in tests]
    start = f"env PYTHONPATH={_root(code)} " if _root(code) != "." else ""
    return start + shlex.join(["python", "-m", "unittest", "-q", *names])


def _root(code: Codebase) -> str:
    """Where Python finds the packages: "src", "lib" or "."."""
    for root in ("src", "lib"):
        if any(re.match(rf"{root}/[^/]+/.*\.py$", path) for path in code.sizes):
            return root
    return "."


def project_checks(code: Codebase) -> list[tuple[str, At]]:
    """Commands on the merged whole: that it can be imported at each merge, all tests at the end."""
    found: list[tuple[str, At]] = []
    root = _root(code)
    start = "" if root == "." else f"{root}/"
    packages = sorted(
        match[1]
        for path in code.sizes
        if (match := re.fullmatch(rf"{start}([A-Za-z_]\w*)/__init__\.py", path))
        and not is_test(path)
    )
    if packages:
        where = f"import sys; sys.path.insert(0, {root!r}); " if root != "." else ""
        script = f"{where}import {', '.join(packages)}"
        found.append((f'python -c "{script}"', "merge"))
    python_tests = [path for path in code.tests() if suffix(path) == "py" and is_test_file(path)]
    if python_tests:
        tops = sorted({path.partition("/")[0] for path in python_tests})
        if uses_pytest(code):
            found.append((_python(tops, code), "end"))
        else:
            found.append(("python -m unittest discover", "end"))
    elif any(suffix(path) == "go" for path in code.sizes):
        found.append(("go test ./...", "end"))
    elif any(suffix(path) == "rs" for path in code.sizes):
        found.append(("cargo test", "end"))
    else:
        found += [(run, "end") for run in _npm(code)]
    return found


def _npm(code: Codebase) -> list[str]:
    try:
        scripts = json.loads(code.setup.get("package.json", "{}")).get("scripts", {})
    except (ValueError, AttributeError):
        return []
    known = isinstance(scripts, dict) and "no test specified" not in str(scripts.get("test", ""))
    return ["npm test --silent"] if known and scripts.get("test") else []
