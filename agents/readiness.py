"""Is a project ready for parallel work? Pure: facts in, points out, each with what mends it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from agents.readiness_agents import agent_points, limit_points
from agents.readiness_checks import check_points, measure_button
from agents.readiness_people import machine_points, people_points
from agents.readiness_plan import plan_points
from agents.readiness_values import GROUPS, Button, Facts, Link, Point, State

__all__ = [
    "Button",
    "Facts",
    "Link",
    "Point",
    "State",
    "Summary",
    "measure_button",
    "points",
    "summary",
]


def points(facts: Facts) -> list[Point]:
    """The whole list, group by group. What only a plan can have is left out while there is none."""
    found = [
        *plan_points(facts),
        *check_points(facts),
        *agent_points(facts),
        *limit_points(facts),
        *people_points(facts),
        *machine_points(facts),
    ]
    order = list(GROUPS)
    return sorted(found, key=lambda point: order.index(point.group))


@dataclass(frozen=True)
class Summary:
    """How many points stand how, and the verdict in a sentence."""

    total: int
    ready: int
    warning: int
    missing: int
    unknown: int

    @property
    def state(self) -> State:
        if self.missing:
            return State.MISSING
        if self.warning:
            return State.WARNING
        return State.UNKNOWN if self.unknown else State.READY

    @property
    def sentence(self) -> str:
        parts = [f"{self.ready} of {self.total} points are ready"]
        parts += [f"{self.missing} missing"] if self.missing else []
        parts += [f"{self.warning} to look at"] if self.warning else []
        parts += [f"{self.unknown} not known"] if self.unknown else []
        return ", ".join(parts) + "."


def summary(found: Sequence[Point]) -> Summary:
    """Count the points of a list."""
    states = Counter(point.state for point in found)
    return Summary(
        total=len(found),
        ready=states[State.READY],
        warning=states[State.WARNING],
        missing=states[State.MISSING],
        unknown=states[State.UNKNOWN],
    )
