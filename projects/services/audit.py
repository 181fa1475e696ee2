"""The record: prove its chain, and write it out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

from django.db.models import QuerySet

from projects.live import event_hash
from projects.models import Event, Project, SiteEvent

#: All that an event's hash is made of, so that whoever has the export can prove the chain.
COLUMNS = (
    "project_id", "number", "at", "actor", "user_id", "kind", "topic", "data", "previous_hash",
    "hash",
)  # fmt: skip


def verify(project: Project) -> str:
    """The first thing that is wrong with a project's chain, or an empty text."""
    project.refresh_from_db()
    broken, number, head = _chain(Event.objects.filter(project=project))
    if not broken and (project.event_count, project.event_hash) != (number, head):
        return f"The project's head says {project.event_count} events; the chain holds {number}."
    return broken


def verify_site() -> tuple[str, int]:
    """The first thing that is wrong with the site's own chain, or an empty text; and its length."""
    broken, number, _ = _chain(SiteEvent.objects.all())
    return broken, number


def _chain(events: QuerySet[Event] | QuerySet[SiteEvent]) -> tuple[str, int, str]:
    before, number = "", 0
    for event in events.order_by("number").iterator(2000):
        number += 1
        if event.number != number:
            return f"Event {number} is missing; the next one is {event.number}.", number, before
        if event.previous_hash != before:
            return f"Event {number} does not follow the one before it.", number, before
        if event_hash(event) != event.hash:
            changed = f"Event {number} ({event.kind}) was changed after it was written."
            return changed, number, before
        before = event.hash
    return "", number, before


def export_json_lines(project: Project) -> Iterator[str]:
    for row in _rows(project):
        yield json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n"


def export_csv(project: Project) -> Iterator[str]:
    yield ",".join(COLUMNS) + "\n"
    for row in _rows(project):
        buffer = io.StringIO()
        values = [_cell(row[name]) for name in COLUMNS]
        csv.writer(buffer, lineterminator="\n").writerow(values)
        yield buffer.getvalue()


def _rows(project: Project) -> Iterator[dict[str, object]]:
    for event in Event.objects.filter(project=project).order_by("number").iterator(2000):
        values = {name: getattr(event, name) for name in COLUMNS}
        yield {**values, "at": event.at.isoformat(timespec="microseconds")}


def _cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
    return f"'{text}" if text[:1] in "=+-@\t\r" else text
