"""What is written down about an example: its source, and its plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Source:
    """A source distribution on the package index, named so that it can be only this one."""

    name: str
    version: str
    sha256: str
    licence: str
    import_root: str
    absent: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Library:
    """One example as it is committed."""

    folder: Path
    source: Source
    plan: dict[str, Any]

    @classmethod
    def load(cls, name: str) -> Library:
        folder = HERE / name
        source = Source(**_yaml(folder / "source.yaml"))
        return cls(folder=folder, source=source, plan=_yaml(folder / "tutti.yaml"))

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def modules(self) -> list[dict[str, Any]]:
        """The modules of the plan, as written there."""
        return list(self.plan["modules"])

    def module(self, slug: str) -> dict[str, Any]:
        return next(module for module in self.modules if module["slug"] == slug)

    @cached_property
    def owned(self) -> list[str]:
        return [path for module in self.modules for path in module["owns"]]

    @cached_property
    def written_tests(self) -> list[str]:
        """Test files that a planner writes during the run; given ones are in the base."""
        found = [tests(module) for module in self.modules if not is_given(module)]
        return [path for paths in found for path in paths]

    def import_names(self) -> Iterator[str]:
        """Every module whose import must go on working with the bodies gone."""
        for path in [*self.owned, *self.all_tests]:
            parts = Path(path).relative_to(self._root_of(path)).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def all_tests(self) -> list[str]:
        return [path for module in self.modules for path in tests(module)]

    def _root_of(self, path: str) -> str:
        root = self.source.import_root
        return root if root != "." and path.startswith(f"{root}/") else "."


def tests(module: dict[str, Any]) -> list[str]:
    """The test files of a module of the plan."""
    found = module.get("tests") or []
    return list(found["paths"] if isinstance(found, dict) else found)


def is_given(module: dict[str, Any]) -> bool:
    """Whether people wrote the module's tests already."""
    found = module.get("tests")
    return isinstance(found, dict) and bool(found.get("given"))


def _yaml(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found
