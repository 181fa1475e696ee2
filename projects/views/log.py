"""The event log: filtered by its address, paged by number, to be taken along as a file."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from projects import access, selectors
from projects.access import HtmxRequest
from projects.forms import whole_number
from projects.models import Event, Project
from projects.text import clean_text
from projects.views.live import live_response

PAGE = 100
#: Events of one download; the command audit_export has no such bound.
LARGEST = 100_000


@login_required
@require_GET
def log(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug)
    return live_response(
        request,
        "projects/log.html",
        lambda: _page(request, project),
        project,
        f"{project.topic}/board",
    )


def filters_of(request: HttpRequest) -> dict[str, str]:
    names = ("kind", "topic", "actor")
    return {name: clean_text(request.GET.get(name, "")).strip()[:120] for name in names}


def _page(request: HttpRequest, project: Project) -> dict[str, Any]:
    found = selectors.events(project, **filters_of(request))
    return page_of(request, found) | {"kinds": selectors.event_kinds(project)}


def page_of(request: HttpRequest, found: QuerySet[selectors.Chained]) -> dict[str, Any]:
    """One page of narrowed events as the address asks for it, and what leads to the next."""
    before = whole_number(request.GET.get("before", ""))
    rows = list((found.filter(number__lt=before) if before else found)[: PAGE + 1])
    query = request.GET.copy()
    query.pop("before", None)
    return {
        "events": rows[:PAGE],
        "older": rows[PAGE - 1].number if len(rows) > PAGE else None,
        "before": before,
        "filters": filters_of(request),
        "query": query.urlencode(),
    }


@login_required
@require_GET
def log_download(request: HtmxRequest, slug: str, form: str) -> HttpResponse:
    return download(request, access.project_for(request.user, slug), form)


def download(request: HtmxRequest, project: Project, form: str) -> HttpResponse:
    """The events that the address asks for, as a file."""
    writers = {"csv": (_csv, "text/csv"), "jsonl": (_json_lines, "application/x-ndjson")}
    if form not in writers:
        raise Http404("The log can be taken as csv or jsonl.")
    write, kind = writers[form]
    events = selectors.events(project, **filters_of(request))[:LARGEST]
    name = f"{project.slug}-events.{form}"
    return HttpResponse(
        write(list(events)),
        content_type=f"{kind}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _row(event: Event) -> dict[str, Any]:
    return {
        "number": event.number,
        "at": event.at.isoformat(),
        "actor": event.actor,
        "kind": event.kind,
        "topic": event.topic,
        "data": event.data,
        "previous_hash": event.previous_hash,
        "hash": event.hash,
    }


def _json_lines(events: list[Event]) -> str:
    return "".join(json.dumps(_row(event), ensure_ascii=False) + "\n" for event in events)


def _csv(events: list[Event]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(
        out, ["number", "at", "actor", "kind", "topic", "data", "previous_hash", "hash"]
    )
    writer.writeheader()
    for event in events:
        row = {**_row(event), "data": json.dumps(event.data, ensure_ascii=False)}
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return out.getvalue()


def _cell(value: Any) -> Any:
    # A spreadsheet would run a cell that begins like a formula.
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t" and value else value
