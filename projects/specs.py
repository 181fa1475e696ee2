"""The values that plan checking works on: modules, what they need, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

CONTRACT: Final = "contract"
IMPLEMENTATION: Final = "implementation"
COUPLED: Final = "coupled"
KINDS: Final = (CONTRACT, IMPLEMENTATION, COUPLED)

DEFAULT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Need:
    """What a module waits for: `kind` is contract, implementation or coupled."""

    module: str
    kind: str


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """A module as planning sees it; `owns` and `tests` are gitignore globs."""

    slug: str
    title: str = ""
    owns: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    checks: tuple[str, ...] = ()
    lane: str = ""
    priority: int = 0
    estimate_seconds: float | None = None
    parent: str = ""
    provides: tuple[str, ...] = ()
    tests_given: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a plan cannot be approved; `module` is None for the plan as a whole.

    `files` are the tracked files that show it, `offer` the modules that one lane would reconcile.
    """

    module: str | None
    field: str
    message: str
    files: tuple[str, ...] = ()
    offer: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.module or 'plan'}: {self.field}: {self.message}"


def seconds_of(
    specs: Sequence[ModuleSpec], measured: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Seconds a module: measured, else estimated, else the median of the others, else 60."""
    known = dict(measured or {})
    for spec in specs:
        if spec.estimate_seconds is not None:
            known.setdefault(spec.slug, spec.estimate_seconds)
    fallback = median(known.values()) if known else DEFAULT_SECONDS
    return {spec.slug: known.get(spec.slug, fallback) for spec in specs}
