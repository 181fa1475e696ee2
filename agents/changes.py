"""The history of limits, prices, providers and hosts: who changed what, when, from what to what."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from django.db.models import Q

from agents import usage
from agents.models import Quota
from projects.models import Event, Project, SiteEvent

#: Beginnings of the kinds of events that change what may run.
SITE_KINDS = ("quota.", "price.", "provider.", "host.")
PROJECT_KINDS = ("quota.", "project.ceiling", "project.binding")
#: Rows of one download; the record's export has no such bound.
LARGEST = 100_000


@dataclass(frozen=True)
class Changed:
    """One change; `chain` is the slug of the project whose record holds it, or "site"."""

    chain: str
    number: int
    at: datetime
    who: str
    kind: str
    what: str
    before: str
    after: str

    COLUMNS = ("chain", "number", "at", "who", "kind", "what", "from", "to")

    @property
    def before_said(self) -> str:
        return _separated(self.before)

    @property
    def after_said(self) -> str:
        return _separated(self.after)

    def cells(self) -> list[str]:
        return [
            self.chain, str(self.number), self.at.isoformat(), self.who, self.kind, self.what,
            self.before, self.after,
        ]  # fmt: skip


def of_project(project: Project, *, bindings: bool = False) -> Iterator[Changed]:
    """Changes of a project's limits, newest first; with `bindings` also of what binds it."""
    kinds = PROJECT_KINDS if bindings else PROJECT_KINDS[:2]
    rows = Event.objects.filter(_begins(kinds), project=project).order_by("-number")
    return (_changed(row, project.slug) for row in rows[:LARGEST])


def of_site() -> Iterator[Changed]:
    """Changes of the site and of the limits of all its projects, newest first."""
    site = SiteEvent.objects.filter(_begins(SITE_KINDS)).order_by("-number")
    projects = (
        Event.objects.filter(_begins(PROJECT_KINDS[:2]))
        .select_related("project")
        .order_by("-at", "-pk")
    )
    rows = [_changed(row, "site") for row in site[:LARGEST]]
    rows += [_changed(row, row.project.slug) for row in projects[:LARGEST]]
    return islice(iter(sorted(rows, key=lambda row: row.at, reverse=True)), LARGEST)


def _begins(kinds: Iterable[str]) -> Q:
    found = Q()
    for kind in kinds:
        found |= Q(kind__startswith=kind)
    return found


def _changed(event: Event | SiteEvent, chain: str) -> Changed:
    data = dict(event.data)
    before, after = data.pop("before", None), data.pop("after", None)
    return Changed(
        chain=chain,
        number=event.number,
        at=event.at,
        who=event.actor,
        kind=event.kind,
        what=_quota(data) if event.kind.startswith("quota.") else _listed(data),
        before=plain(before),
        after=plain(after),
    )


def _listed(data: dict[str, Any]) -> str:
    return ", ".join(f"{name} {plain(value)}" for name, value in data.items() if value is not None)


def _quota(data: dict[str, Any]) -> str:
    """Which quota an event is about, in the words of its page."""
    names = ("scope", "measure", "period", "window_seconds", "time_zone")
    if not all(name in data for name in names):
        return _listed(data)
    what = usage.measured(Quota(**{name: data[name] for name in names}))
    whose = f"{data['scope']} {data.get('of') or ''}".strip()
    return f"{whose}: {what}"


def plain(value: Any) -> str:
    """A value for people: a dash for none, the sentence of what binds, else its text."""
    if value is None or value in ({}, ""):
        return "—"
    if isinstance(value, dict) and "sentence" in value:
        return str(value["sentence"])
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    text = str(value)
    return text.rstrip("0").rstrip(".") if _is_decimal(text) else text


def _is_decimal(text: str) -> bool:
    whole, point, part = text.partition(".")
    return bool(point) and whole.lstrip("-").isdigit() and part.isdigit()


def _separated(text: str) -> str:
    """A large whole number as people read it; any other text as it is."""
    return f"{int(text):,}" if text.isascii() and text.isdigit() else text


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A CSV of which no spreadsheet takes a cell for a formula."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return (
        f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not _number(text) else text
    )


def _number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()
