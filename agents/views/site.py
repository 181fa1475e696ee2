"""The site as its admins see it: hosts, providers, projects that wait, and the site's record."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from agents import siteboard, usage
from agents.models import Host, HostReading
from agents.services import hosts
from agents.views.fresh import fresh_response, require_admin
from agents.views.quotas import csv_file
from projects import feed, live
from projects.access import HtmxRequest
from projects.forms import whole_number
from projects.models import SiteEvent
from projects.services import audit
from projects.views.answers import act
from projects.views.log import LARGEST, filters_of, page_of

READINGS = 50_000


@login_required
@require_GET
def site(request: HtmxRequest) -> HttpResponse:
    require_admin(request)
    version = feed.site_version()
    hours = whole_number(request.GET.get("hours", "")) or 6
    hours = hours if hours in siteboard.HOURS else 6
    context = {
        "section": "overview",
        "machines": siteboard.machines(hours),
        "accounts": siteboard.accounts(),
        "standings": siteboard.standings(),
        "tight": [use for use in usage.uses(usage.quotas()) if use.percent >= 80][:20],
        "hours": hours,
        "spans": [(1, "1 hour"), (6, "6 hours"), (24, "1 day"), (168, "1 week")],
    }
    return fresh_response(request, "agents/site.html", context, topic=live.SITE, version=version)


@login_required
@require_POST
def host_drain(request: HtmxRequest, pk: int) -> HttpResponse:
    require_admin(request)
    host = get_object_or_404(Host, pk=pk)
    draining = request.POST.get("draining") == "1"
    done = (
        f"{host.name} drains: what runs there goes on, nothing new starts on it."
        if draining
        else f"{host.name} takes work again."
    )
    return act(
        request,
        lambda: (hosts.host_drain if draining else hosts.host_undrain)(host.name, request.user),
        to=reverse("agents:site"),
        done=done,
    )


@login_required
@require_GET
def host_download(request: HtmxRequest, pk: int) -> HttpResponse:
    """The readings of a host, newest first."""
    require_admin(request)
    host = get_object_or_404(Host, pk=pk)
    columns = (
        "at", "memory_mb", "memory_available_mb", "cpu_percent", "pressure_some", "pressure_full",
        "alive", "capacity", "reason",
    )  # fmt: skip
    rows = HostReading.objects.filter(host=host).order_by("-at").values_list(*columns)[:READINGS]
    return csv_file(f"host-{host.pk}-readings", columns, rows)


# --- The record ----------------------------------------------------------------------------------


@login_required
@require_GET
def site_log(request: HtmxRequest) -> HttpResponse:
    require_admin(request)
    version = feed.site_version()
    found = siteboard.events(**filters_of(request))
    context = page_of(request, found) | {"section": "log", "kinds": siteboard.event_kinds()}
    return fresh_response(
        request, "agents/site_log.html", context, topic=live.SITE, version=version
    )


@login_required
@require_GET
def site_log_download(request: HtmxRequest, form: str) -> HttpResponse:
    require_admin(request)
    rows = siteboard.events(**filters_of(request))[:LARGEST]
    names = [name for name in audit.COLUMNS if name != "project_id"]
    if form == "csv":
        cells = ([_cell(_row(row)[name]) for name in names] for row in rows)
        return csv_file("site-events", names, cells)
    if form != "jsonl":
        raise Http404("The log can be taken as csv or jsonl.")
    lines = (json.dumps(_row(row), ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    return HttpResponse(
        "".join(lines),
        content_type="application/x-ndjson; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="site-events.jsonl"'},
    )


def _row(event: SiteEvent) -> dict[str, Any]:
    names = [name for name in audit.COLUMNS if name != "project_id"]
    values = {name: getattr(event, name) for name in names}
    return {**values, "at": event.at.isoformat(timespec="microseconds")}


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
