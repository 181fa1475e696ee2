"""What the record keeps of a run that ended: enough to work out a plan's economics without rows."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from agents.models import Run

#: Columns of a run that its last event holds; the big ones (what was sent, the answer) are not.
NAMES = (
    "number", "role", "backend", "model", "turns", "needs_slot", "parallel_only", "agent_seconds",
    "gate_seconds", "waited_seconds", "input_tokens", "output_tokens", "usage_quality", "cost",
    "queued_at", "started_at", "ended_at", "laps",
)  # fmt: skip


def facts_of(run: Run) -> dict[str, Any]:
    """The run as its row now says, for the event that ends it; times to the microsecond."""
    row = Run.objects.filter(pk=run.pk).values("plan__number", *NAMES).get()
    plan = row.pop("plan__number")
    return {"plan": plan, **{name: _plain(value) for name, value in row.items()}}


def _plain(value: Any) -> Any:
    # Django's own encoder cuts times to milliseconds.
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
