"""The board of a project."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.views.decorators.http import require_GET

from agents import pages, summaries
from projects import access
from projects.access import HtmxRequest
from projects.models import Project
from projects.views.live import live_response


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


def _context(project: Project) -> dict[str, Any]:
    board = pages.board(project)
    summary = summaries.summary(board.plan) if board.plan and board.plan.finished_at else None
    return {"board": board, "summary": summary}
