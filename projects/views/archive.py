"""Projects that are put away: archive, list, record, restore, delete."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from projects import access
from projects.access import HtmxRequest
from projects.models import Role
from projects.services import archive as services
from projects.services.errors import Refused
from projects.views.answers import act, go, sentence
from projects.views.log import download


@login_required
@require_POST
def project_archive(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.OWNER)
    try:
        services.project_archive(project, request.user, request.POST.get("confirm", ""))
    except Refused as error:
        messages.error(request, sentence(error))
        return go(request, reverse("projects:settings", args=[slug]))
    messages.success(request, f"{project.name} is archived.")
    return go(request, reverse("projects:archive-list"))


@login_required
@require_GET
def archive_list(request: HtmxRequest) -> HttpResponse:
    projects = access.archived_projects(request.user).order_by("-archived_at")
    return render(request, "projects/archive.html", {"projects": projects})


@login_required
@require_GET
def archive_log(request: HtmxRequest, slug: str, form: str) -> HttpResponse:
    return download(request, access.archived_for(request.user, slug), form)


@login_required
@require_POST
def project_restore(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.archived_for(request.user, slug)
    return act(
        request,
        lambda: services.project_restore(project, request.user),
        to=reverse("projects:archive-list"),
        done=f"{project.name} is back: what was waiting goes on.",
    )


@login_required
@require_POST
def project_delete(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.archived_for(request.user, slug)
    return act(
        request,
        lambda: services.project_delete(project, request.user, request.POST.get("confirm", "")),
        to=reverse("projects:archive-list"),
        done=f"{project.name} is deleted; its record is kept.",
    )
