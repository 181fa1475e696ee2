"""The figures of a plan from its project's record alone: an export of events, without any row."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from agents.economics import PlanFacts, RunFacts
from agents.figures import (
    CEILING_KINDS,
    Fact,
    ceilings_of,
    checks_of,
    greatest_ceiling,
    in_order,
    laps_of_json,
)
from projects.specs import ModuleSpec, Need

DEFAULT_CEILING = 5


class RecordError(ValueError):
    """The file is no export of events, or does not tell of the plan; the message says which."""


@dataclass
class Read:
    """What the events said so far of every plan of the project."""

    approved: dict[int, dict[str, Any]] = field(default_factory=dict)
    specs: dict[int, list[ModuleSpec]] = field(default_factory=dict)
    finished: dict[int, str] = field(default_factory=dict)
    runs: dict[int, list[RunFacts]] = field(default_factory=dict)
    ceilings: dict[int, list[Fact]] = field(default_factory=dict)
    #: Slug to its newest status, as it is at the end of each plan.
    statuses: dict[str, str] = field(default_factory=dict)
    at_end: dict[int, dict[str, str]] = field(default_factory=dict)
    current: int = 0


def read_file(path: Path) -> list[dict[str, Any]]:
    """The events of an export. Raises RecordError, with the line's number, for what is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} can't be read: {error}") from error
    events = []
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            event = json.loads(text)
            (event["number"], event["kind"], event["at"], event["topic"], event["data"].items())
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordError(
                f"Line {number} of {path} is no event of an export; make one with "
                "manage.py audit_export."
            ) from error
        events.append(event)
    return events


def facts(
    events: Iterable[dict[str, Any]], *, project: str, number: int | None = None
) -> PlanFacts:
    """The facts of a plan, by default of the last approved one. Raises RecordError without it."""
    read = Read()
    for event in sorted(events, key=lambda event: int(event["number"])):
        try:
            _take(read, event)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise RecordError(
                f"Event {event['number']} ({event['kind']}) lacks what the figures need: {error}. "
                "It may have been written by an older version."
            ) from error
    number = number or max(read.approved, default=0)
    if number not in read.approved:
        plans = ", ".join(str(one) for one in sorted(read.approved)) or "none"
        raise RecordError(f"The record tells of no approved plan {number}; approved are: {plans}.")
    return _plan(read, project, number)


def _plan(read: Read, project: str, number: int) -> PlanFacts:
    approved = read.approved[number]
    specs = in_order(read.specs[number])
    finished = read.finished.get(number)
    # What is said of the ceiling after a plan is finished concerns no plan.
    last = datetime.fromisoformat(finished) if finished else None
    ceilings = [fact for fact in read.ceilings[number] if last is None or fact[1] <= last]
    statuses = read.at_end.get(number, read.statuses)
    kept = [s.slug for s in specs if statuses.get(s.slug) not in ("cancelled", None)]
    runs = sorted(read.runs.get(number, ()), key=lambda run: (run.started, run.id))
    return PlanFacts(
        project=project,
        number=number,
        began=_seconds(approved["decided_at"]),
        finished=_seconds(finished) if finished else None,
        ceiling=greatest_ceiling(ceilings, DEFAULT_CEILING),
        checks=checks_of(ceilings),
        specs=tuple(specs),
        runs=tuple(runs),
        modules=len(kept),
        merged=sum(statuses[slug] == "merged" for slug in kept),
        ceilings=tuple(ceilings_of(ceilings)),
    )


def _take(read: Read, event: dict[str, Any]) -> None:
    kind, data = event["kind"], event["data"]
    if kind == "plan.approved":
        _approved(read, data)
    elif kind == "plan.finished":
        read.finished[int(data["number"])] = data["finished_at"]
    elif kind == "module.split":
        read.specs[read.current] += [_spec(values) for values in data["modules"]]
    elif kind.startswith("module.") and "to" in data:
        read.statuses[data["slug"]] = data["to"]
        if data.get("came_from") == "cancelled":
            # Begun again, so that the plan in force has its checks at the end to do once more.
            read.finished.pop(read.current, None)
    elif kind.startswith("run.") and "facts" in data:
        _run(read, kind.removeprefix("run."), data)
    if kind in CEILING_KINDS and read.current:
        at = datetime.fromisoformat(event["at"])
        read.ceilings[read.current].append((kind, at, data))


def _approved(read: Read, data: dict[str, Any]) -> None:
    if read.current:
        read.at_end[read.current] = dict(read.statuses)
    read.current = int(data["number"])
    read.approved[read.current] = data
    read.specs[read.current] = [_spec(values) for values in data["modules"]]
    read.ceilings[read.current] = []


def _spec(values: dict[str, Any]) -> ModuleSpec:
    return ModuleSpec(
        slug=values["slug"],
        needs=tuple(Need(module, kind) for module, kind in values["needs"]),
        lane=values["lane"],
        priority=values["priority"],
        estimate_seconds=values["estimate_seconds"],
        parent=values["parent"],
    )


def _run(read: Read, status: str, data: dict[str, Any]) -> None:
    facts = data["facts"]
    if facts["started_at"] is None or facts["plan"] is None:
        return
    run = RunFacts(
        module=data["module"] or "",
        kind=data["what"],
        role=facts["role"],
        started=_seconds(facts["started_at"]),
        ended=_seconds(facts["ended_at"]),
        agent_seconds=facts["agent_seconds"],
        gate_seconds=facts["gate_seconds"],
        tokens_in=facts["input_tokens"],
        tokens_out=facts["output_tokens"],
        parallel_only=facts["parallel_only"],
        cost=None if facts["cost"] is None else Decimal(facts["cost"]),
        status=status,
        number=facts["number"],
        backend=facts["backend"],
        model=facts["model"],
        needs_slot=facts["needs_slot"],
        waited_seconds=facts["waited_seconds"],
        laps=laps_of_json(facts["laps"]),
        id=data["run"],
        quality=facts["usage_quality"],
        reason_owner=data.get("reason_owner", ""),
    )
    read.runs.setdefault(int(facts["plan"]), []).append(run)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
