"""The board of a project."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from agents import bindings, figures, pages
from agents.services import recovery
from projects import access, live
from projects.access import HtmxRequest
from projects.models import Project, Role
from projects.views.live import live_response
from reviews.answers import acted


@login_required
@require_GET
def board(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug)
    return live_response(
        request,
        "agents/board.html",
        lambda: _context(project),
        project,
        f"{project.topic}/board",
    )


@login_required
@require_POST
def project_recover(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.MAINTAINER)

    def act() -> str:
        did = recovery.project_recover(project, live.Actor.person(request.user))
        return " ".join(did) or "Nothing was to be put right."

    return acted(request, reverse("agents:board", args=[slug]), act)


def _context(project: Project) -> dict[str, Any]:
    board = pages.board(project)
    summary = figures.summary(board.plan) if board.plan else None
    return {"board": board, "binding": bindings.binding(project), "summary": summary}
