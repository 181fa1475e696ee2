"""What waits for this person, and how much of it."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from projects import access, selectors
from projects.access import HtmxRequest
from projects.models import Project
from projects.views.live import is_live


@login_required
@require_GET
def inbox(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug)
    rows = selectors.inbox(project, request.user)
    part = "#live" if is_live(request) else ""
    return _own(request, f"projects/inbox.html{part}", project, {"rows": rows})


@login_required
@require_GET
def inbox_count(request: HtmxRequest, slug: str) -> HttpResponse:
    """The link "Needs you (n)" of the navigation."""
    project = access.project_for(request.user, slug)
    return _own(request, "projects/inbox_count.html", project, {})


def _own(
    request: HtmxRequest, template: str, project: Project, rows: dict[str, object]
) -> HttpResponse:
    """A fragment that depends on the person's role, so it is never shared."""
    context = {
        "project": project,
        "topic": f"{project.topic}/inbox",
        "version": project.event_count,
        **rows,
    }
    response = render(request, template, context)
    response["X-Version"] = str(project.event_count)
    response["Cache-Control"] = "private, no-store"
    return response
