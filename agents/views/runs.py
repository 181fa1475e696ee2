"""The page of a run, its log, and the button that stops it."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from agents import logs, pages, recording
from agents.models import Run
from agents.services import runs, steering
from projects import access, live
from projects.access import HtmxRequest
from projects.models import Project, Role
from projects.services.errors import Refused
from projects.views.live import is_live, live_response
from reviews.answers import acted


def run_of(project: Project, pk: int) -> Run:
    rows = Run.objects.filter(project=project).select_related("project", "module", "plan")
    return get_object_or_404(rows, pk=pk)


@login_required
@require_GET
def run(request: HtmxRequest, slug: str, pk: int) -> HttpResponse:
    project = access.project_for(request.user, slug)
    shown = run_of(project, pk)
    log = None if is_live(request) else logs.tail(shown)
    return live_response(
        request,
        "agents/run.html",
        lambda: {"run": shown, "log": log, "page": pages.run_page(shown)},
        project,
        shown.topic,
        partial="sent" if request.GET.get("part") == "sent" else "live",
    )


@login_required
@require_GET
def run_log(request: HtmxRequest, slug: str, pk: int) -> HttpResponse:
    """Rows after a number: as HTML with headers that say where they end, as JSON or as text."""
    project = access.project_for(request.user, slug)
    shown = run_of(project, pk)
    if request.GET.get("format") == "text":
        return HttpResponse(logs.text(shown), content_type="text/plain; charset=utf-8")
    after = request.GET.get("after", "0")
    if not after.isdecimal() or len(after) > 9:
        raise Http404("There is no such place in the log.")
    page = logs.page(shown, int(after))
    if request.GET.get("format") == "json":
        return JsonResponse({"rows": page.values, "after": page.after, "more": page.has_more})
    response = render(request, "agents/_log_rows.html", {"rows": page.lines})
    response["X-After"] = str(page.after)
    response["X-More"] = "1" if page.has_more else "0"
    response["X-Log-End"] = "1" if page.is_end else "0"
    return response


@login_required
@require_GET
def run_recording(request: HtmxRequest, slug: str, pk: int) -> HttpResponse:
    """The run as recordings that play again, in a zip file."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    found = run_of(project, pk)
    try:
        packed = recording.archive(found)
    except Refused as refused:
        return HttpResponse(str(refused), status=409, content_type="text/plain; charset=utf-8")
    response = HttpResponse(packed, content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="run-{found.pk}-recording.zip"'
    return response


@login_required
@require_POST
def run_stop(request: HtmxRequest, slug: str, pk: int) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    found = run_of(project, pk)
    by = live.Actor.person(request.user)
    return acted(request, reverse("agents:run", args=[slug, pk]), lambda: runs.run_stop(found, by))


@login_required
@require_POST
def steer(request: HtmxRequest, slug: str, pk: int) -> HttpResponse:
    """Tell the run's agent something."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    found = run_of(project, pk)
    text, at_once = request.POST.get("text", ""), bool(request.POST.get("at_once"))

    def act() -> str:
        return steering.steer_write(found, text, request.user, at_once=at_once).receipt

    return acted(request, reverse("agents:run", args=[slug, pk]), act)
