"""A library of three small modules with recorded runs: the smallest main job there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import factories

MODULES = ("alpha", "beta", "gamma")
STUB = 'def main(n):\n    """Return n, {name}."""\n    raise NotImplementedError\n'
CODE = 'def main(n):\n    """Return n, {name}."""\n    return [n, "{name}"]\n'
TEST = 'from {name} import main\n\n\ndef test_main():\n    assert main(2) == [2, "{name}"]\n'


def repository(folder: Path) -> Path:
    """A team's repository with bodies missing, and the recordings beside it."""
    files = {f"{name}.py": STUB.format(name=name) for name in MODULES}
    files["conftest.py"] = ""
    source = factories.source_repository(folder / "source", files)
    for name in MODULES:
        record(folder, name, "tests", f"tests/test_{name}.py", TEST, {"outline": "Return both."})
        record(folder, name, "build", f"{name}.py", CODE, {"summary": "Returns both."})
        verdict = {"verdict": "approve", "summary": f"{name} keeps its contract.", "findings": []}
        record(folder, name, "review", "", "", verdict)
    return source


def record(
    folder: Path, name: str, kind: str, path: str, text: str, result: dict[str, Any]
) -> None:
    role = {"tests": "planner", "build": "executor", "review": "orchestrator"}[kind]
    header = {
        "format": "tutti-recording/1", "module": name, "role": role, "kind": kind, "number": 1,
        "backend": "replay", "model": "recorded", "scene": None,
    }  # fmt: skip
    events: list[dict[str, Any]] = [
        {"at": 0.1, "event": "message", "text": f"I begin with {kind} of {name}."}
    ]
    if path:
        events.append(
            {"at": 0.5, "event": "write", "path": path, "content": text.format(name=name)}
        )
    usage = {"input_tokens": 1000, "output_tokens": 100, "quality": "exact"}
    events += [
        {"at": 0.8, "event": "usage", **usage},
        {"at": 0.9, "event": "result", "data": result},
        {"at": 1.0, "event": "exit", "code": 0},
    ]
    base = folder / "recordings" / "base"
    base.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(line) + "\n" for line in (header, *events))
    (base / f"{name}.{kind}.1.jsonl").write_text(lines)


def plan() -> str:
    """The plan file: beta uses alpha's interface, gamma its merged code."""
    needs = {"beta": "{module: alpha, kind: contract}",
             "gamma": "{module: alpha, kind: implementation}"}  # fmt: skip
    modules = "".join(
        f"""- slug: {name}
  title: The {name}
  owns: [{name}.py]
  tests: [tests/test_{name}.py]
  provides: ["{name}.main(n)"]
  needs: [{needs.get(name, "")}]
  checks: ["python -m pytest -q -p no:cacheprovider tests/test_{name}.py"]
  estimate_seconds: 3
"""
        for name in MODULES
    )
    return f"""version: 1
project:
  name: Tiny
  goal: Three functions.
  checks: [{{run: "python -m pytest -q -p no:cacheprovider tests", at: end}}]
  replay: {{recordings: recordings, scale: 1.0}}
modules:
{modules}"""
