"""The record: prove its chain, and write it out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

from django.db.models import QuerySet

from projects.live import event_hash
from projects.models import Event, Project, SiteChain, SiteEvent
from projects.snapshot import snapshot

#: All that an event's hash is made of, so that whoever has the export can prove the chain.
COLUMNS = (
    "project_id", "number", "at", "actor", "user_id", "kind", "topic", "data", "previous_hash",
    "hash",
)  # fmt: skip


def verify_chain(project: Project) -> str:
    """The first thing that is wrong with a project's chain, or an empty text."""
    with snapshot():
        project.refresh_from_db()
        events = Event.objects.filter(project=project)
        return _broken(events, "project", project.event_count, project.event_hash)


def verify_site() -> tuple[str, SiteChain]:
    """The first thing that is wrong with the site's own chain, or an empty text; and its head."""
    with snapshot():
        chain = SiteChain.head()
        events = SiteEvent.objects.all()
        return _broken(events, "site", chain.event_count, chain.event_hash), chain


def _broken(
    events: QuerySet[Event] | QuerySet[SiteEvent], whose: str, count: int, head: str
) -> str:
    """What is wrong with a chain that by its head ends after so many events, with that hash."""
    before, number = "", 0
    for event in events.order_by("number").iterator(2000):
        number += 1
        if event.number != number:
            return f"Event {number} is missing; the next one is {event.number}."
        if event.previous_hash != before:
            return f"Event {number} does not follow the one before it."
        if event_hash(event) != event.hash:
            return f"Event {number} ({event.kind}) was changed after it was written."
        before = event.hash
    if (count, head) != (number, before):
        return f"The {whose}'s head says {count} events; the chain holds {number}."
    return ""


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
