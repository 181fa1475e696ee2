"""Whether a project is ready: the list, its short form on other pages, and the measuring."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from agents.readiness import Button, Link, Point, State, measure_button, points, summary
from agents.readiness_facts import facts_of
from agents.readiness_values import GROUPS
from agents.services import measuring
from agents.views.fresh import fresh_response
from projects import access
from projects.access import HtmxRequest
from projects.models import Project, Role
from projects.views.answers import act
from projects.views.live import live_response

TEMPLATE = "agents/readiness.html"

#: Forms that viewers may not open; everybody of the project may open the others.
FORMS = ("projects:plan-edit", "projects:contract-edit")

#: Class and word of a chip for each state.
CHIPS = {
    State.READY: ("passed", "ready"),
    State.WARNING: ("ask", "look at it"),
    State.MISSING: ("failed", "missing"),
    State.UNKNOWN: ("draft", "not known"),
}

#: The order in which the short form says what is not ready.
WORST = (State.MISSING, State.WARNING, State.UNKNOWN)


def address(link: Link | Button | None) -> str:
    """The URL of what mends a point; empty when nothing does."""
    if link is None:
        return ""
    url = reverse(link.name, args=link.args)
    return f"{url}#{link.anchor}" if isinstance(link, Link) and link.anchor else url


@dataclass
class Row:
    """A point as the page shows it."""

    point: Point
    chip: str
    word: str
    url: str
    link_class: str
    post: str = ""
    vals: str = ""


def row_of(project: Project, point: Point) -> Row:
    chip, word = CHIPS[point.state]
    row = Row(
        point=point,
        chip=chip,
        word=word,
        url=address(point.link),
        link_class="for-member" if point.link and point.link.name in FORMS else "",
    )
    if point.button:
        row.post, row.vals = address(point.button), _values(project, point.button)
    return row


def _values(project: Project, button: Button) -> str:
    page = reverse("agents:readiness", args=[project.slug])
    return json.dumps({**button.values, "next": page})


def _context(project: Project) -> dict[str, Any]:
    facts = facts_of(project)
    found = points(facts)
    rows = [row_of(project, point) for point in found]
    groups = [
        {"key": key, "title": title, "rows": [row for row in rows if row.point.group == key]}
        for key, title in GROUPS.items()
    ]
    button = measure_button(facts)
    return {
        "facts": facts,
        "summary": summary(found),
        "chip": CHIPS[summary(found).state],
        "groups": [group for group in groups if group["rows"]],
        "open_rows": sorted(
            (row for row in rows if row.point.state in WORST),
            key=lambda row: WORST.index(row.point.state),
        ),
        "measure_url": address(button),
        "measure_text": button.text if button else "",
    }


@login_required
@require_GET
def readiness(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug)
    # Readings and sign-ins move without an event, so it is never kept.
    return fresh_response(
        request,
        TEMPLATE,
        {"project": project, **_context(project)},
        topic=f"{project.topic}/board",
        version=project.event_count,
    )


@login_required
@require_GET
def panel(request: HtmxRequest, slug: str) -> HttpResponse:
    """The short form; `framed` puts the region round it that keeps it live."""
    project = access.project_for(request.user, slug)
    partial = "frame" if request.GET.get("framed") else "panel"
    topic = f"{project.topic}/board"
    return live_response(
        request, TEMPLATE, lambda: _context(project), project, topic, partial=partial
    )


@login_required
@require_POST
def measurement_ask(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    return act(
        request,
        lambda: measuring.measurement_ask(project, request.user),
        to=reverse("agents:readiness", args=[slug]) + "#measure",
        done="A worker measures the checks now; the list changes by itself.",
    )
