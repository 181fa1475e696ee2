"""Write an example's recordings from its true source: who would have done what, turn by turn."""

from __future__ import annotations

import ast
import importlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.library import Library, is_given, tests
from examples.script import Script

REVIEW_SECONDS = 1.5
FIX_SECONDS = 1.5
OUTLINE_LINES = 12
Module = dict[str, Any]


@dataclass(frozen=True)
class Studio:
    """The two trees that recordings are made from."""

    library: Library
    upstream: Path
    base: Path

    def true(self, path: str) -> str:
        return (self.upstream / path).read_text(encoding="utf-8")

    def given(self, path: str) -> str:
        return (self.base / path).read_text(encoding="utf-8")

    def decompose(self) -> Script:
        """The orchestrator proposes the plan that the example ships."""
        script = Script("project", "decompose", seconds=4.0)
        for path in self.library.owned:
            script.hear(self.given(path))
        script.think("Modules that share no file and need only each other's names can run at once.")
        script.say(f"{len(self.library.modules)} modules, cut along the files of the library.")
        return script.result(plan=self.library.plan)

    def tests(self, module: Module, *, only: dict[str, str] | None = None) -> Script:
        """The planner writes the module's tests: upstream's, or those in `only`."""
        contents = only or {path: self.true(path) for path in tests(module)}
        lines = sum(text.count("\n") for text in contents.values())
        script = self._script(module, "tests", seconds=2.0 + min(1.0, lines / 1000))
        for path in module["owns"]:
            script.read(path, self.given(path))
        for path, text in contents.items():
            script.write(path, text)
        return script.result(outline=outline(module, contents))

    def build(self, module: Module, *, seconds: float | None = None) -> Script:
        """The executor writes the module's true source."""
        script = self.start(module, "build", seconds or self.build_seconds(module))
        script.think("The signatures are fixed; the docstrings say what each body has to do.")
        for path in module["owns"]:
            script.write(path, self.true(path))
        for command in module["checks"]:
            script.run(command)
        script.say("All of it is written and its own tests pass.")
        return script.result(summary=f"Implemented {', '.join(module['owns'])}.")

    def review(self, module: Module) -> Script:
        """The orchestrator approves."""
        script = self.start_review(module)
        script.say("The interface is the declared one and nothing outside the contract changed.")
        return script.result(
            verdict="approve", summary=f"{module['title']}: as delegated.", findings=[]
        )

    def start(self, module: Module, kind: str, seconds: float) -> Script:
        """An agent that has read its tests and the files it may change."""
        script = self._script(module, kind, seconds=seconds)
        for path in [*tests(module), *module["owns"]]:
            there = (self.base / path).exists()
            script.read(path, self.given(path) if there else self.true(path))
        return script

    def start_review(self, module: Module) -> Script:
        script = self._script(module, "review", seconds=REVIEW_SECONDS)
        for path in module["owns"]:
            script.read(path, self.true(path))
        return script

    def build_seconds(self, module: Module) -> float:
        lines = sum(self.true(path).count("\n") for path in module["owns"])
        return round(5.0 + min(5.0, lines / 320), 2)

    def _script(self, module: Module, kind: str, *, seconds: float) -> Script:
        return Script(module["slug"], kind, seconds).hear(module["brief"], *module["provides"])


def write_all(library: Library, *, upstream: Path, base: Path, recordings: Path) -> None:
    """Write base recordings and scenes below `recordings`, and scenes.json with their order."""
    studio = Studio(library, upstream, base)
    save(base_scripts(studio), recordings / "base", scene=None)
    scenes = _scenes(studio)
    for name, scripts in scenes.items():
        save(scripts, recordings / "scenes" / name, scene=name)
    (recordings / "scenes.json").write_text(json.dumps(list(scenes), indent=1) + "\n")


def base_scripts(studio: Studio) -> list[Script]:
    """The run in which nothing goes wrong."""
    scripts = [studio.decompose()]
    for module in studio.library.modules:
        scripts += module_scripts(studio, module)
    return scripts


def module_scripts(studio: Studio, module: Module) -> list[Script]:
    written = [] if is_given(module) else [studio.tests(module)]
    return [*written, studio.build(module), studio.review(module)]


def save(scripts: Iterable[Script], folder: Path, *, scene: str | None) -> None:
    """Number the turns of each module and kind from 1, in the order given."""
    numbers: Counter[tuple[str, str]] = Counter()
    for script in scripts:
        numbers[script.module, script.kind] += 1
        script.save(folder, number=numbers[script.module, script.kind], scene=scene)


def outline(module: Module, contents: dict[str, str]) -> str:
    """What the executor is told beside the tests: which facts they state, file by file."""
    lines = [f"{module['title']}: write {', '.join(module['owns'])}."]
    for path, text in contents.items():
        names = [name.removeprefix("test_").replace("_", " ") for name in test_names(text)]
        lines.append(f"{path} states {len(names)} facts:")
        lines += [f"- {name}" for name in names[:OUTLINE_LINES]]
        if len(names) > OUTLINE_LINES:
            lines.append(f"- and {len(names) - OUTLINE_LINES} more")
    return "\n".join(lines)


def test_names(source: str) -> list[str]:
    """The names of the test functions and methods in `source`, in order."""
    found = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    return [node.name for node in sorted(found, key=lambda node: node.lineno)]


def _scenes(studio: Studio) -> dict[str, list[Script]]:
    if not (studio.library.folder / "scenes.py").exists():
        return {}
    module = importlib.import_module(f"examples.{studio.library.name}.scenes")
    scenes: dict[str, list[Script]] = module.scenes(studio)
    return scenes
