"""Follow a project from a terminal: print what happens until its plan ends."""

from __future__ import annotations

import time
from collections.abc import Callable

from projects.models import Event, Module, Plan, Project

#: Events worth a line in a terminal.
SHOWN = (
    "plan.approved",
    "plan.prepared",
    "plan.finished",
    "plan.blocked",
    "module.planning",
    "module.building",
    "module.built",
    "module.reviewing",
    "module.fixing",
    "module.merging",
    "module.merged",
    "module.needs_person",
    "module.cancelled",
    "module.split",
    "gate.refused",
    "review.recorded",
    "request.asked",
    "contract.amended",
    "project.binding",
)
POLL_SECONDS = 0.2


def follow(
    plan: Plan, say: Callable[[str], None], *, check: Callable[[], None] = lambda: None
) -> bool:
    """Print events until the plan is finished or can't go on; True when all is merged."""
    number = seen = 0
    began = time.monotonic()
    rows = Project.objects.filter(pk=plan.project_id).values_list("event_count", flat=True)
    while True:
        check()
        if (count := rows.get()) == seen:
            # Whatever ends a plan or stops it is an event.
            time.sleep(POLL_SECONDS)
            continue
        seen = count
        for event in Event.objects.filter(
            project_id=plan.project_id, number__gt=number, kind__in=SHOWN
        ):
            number = event.number
            say(line(event, time.monotonic() - began))
        plan.refresh_from_db()
        if plan.finished_at is not None:
            return all_merged(plan)
        if plan.blocked_reason or stuck(plan.project):
            return False
        time.sleep(POLL_SECONDS)


def line(event: Event, seconds: float) -> str:
    first = detail(event).splitlines()[:1]
    what = event.data.get("slug") or ""
    return f"{seconds:6.1f} s  {event.kind:<20} {what:<18} {first[0] if first else ''}".rstrip()


def detail(event: Event) -> str:
    """What a terminal shows of an event beside its kind and module."""
    data = event.data
    match event.kind:
        case "gate.refused":
            return "; ".join(data["findings"])
        case "review.recorded":
            return str(data["verdict"])
        case "module.split":
            return ", ".join(data["children"])
        case "contract.amended":
            return ", ".join(data["paths"])
        case "plan.approved":
            return f"by {event.actor.split(':', 1)[-1]} {data.get('how', '')}"
        case "project.binding":
            return str((data.get("after") or {}).get("sentence", ""))
    return str(data.get("reason", ""))


def all_merged(plan: Plan) -> bool:
    rows = Module.objects.filter(project_id=plan.project_id).exclude(status="draft")
    return not rows.exclude(status__in=["merged", "cancelled"]).exists()


def stuck(project: Project) -> bool:
    """Nothing runs any more, and what is left waits for people."""
    rows = Module.objects.filter(project=project)
    left = rows.exclude(status__in=["draft", "merged", "cancelled", "waiting"])
    if not left.exists() or left.exclude(status="needs_person").exists():
        return False
    return not rows.filter(status="waiting", needs_to_start=0).exists()
