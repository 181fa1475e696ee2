"""What a finished plan took: wall-clock, what one agent in sequence would have taken, speed-up."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, F, Q, Sum

from agents.models import Run
from projects.models import Plan


@dataclass(frozen=True)
class Summary:
    """Seconds of a finished plan, from its own runs; tokens are None when no run knew them."""

    wall_seconds: float
    sequential_seconds: float
    runs: int
    tokens: int | None
    runs_without_tokens: int
    is_replayed: bool

    @property
    def speed_up(self) -> float | None:
        return self.sequential_seconds / self.wall_seconds if self.wall_seconds > 0 else None


def summary(plan: Plan) -> Summary | None:
    """None while the plan is not finished."""
    if plan.finished_at is None or plan.decided_at is None:
        return None
    agents = Q(needs_slot=True)
    found = Run.objects.filter(plan=plan).aggregate(
        seconds=Sum(F("agent_seconds") + F("gate_seconds")),
        runs=Count("pk"),
        tokens=Sum(F("input_tokens") + F("output_tokens")),
        unknown=Count("pk", filter=agents & Q(input_tokens__isnull=True)),
        replayed=Count("pk", filter=Q(backend="replay")),
    )
    return Summary(
        wall_seconds=(plan.finished_at - plan.decided_at).total_seconds(),
        sequential_seconds=found["seconds"] or 0.0,
        runs=found["runs"],
        tokens=found["tokens"],
        runs_without_tokens=found["unknown"],
        is_replayed=found["replayed"] > 0,
    )
