"""Projects as a whole: the list, a new one, pause, publish."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from projects import access, live, planfile, selectors
from projects.access import HtmxRequest
from projects.forms import ProjectForm, posted
from projects.models import Role
from projects.services import projects as services
from projects.services import publishing
from projects.services.beginning import project_begin
from projects.services.errors import Refused
from projects.views.answers import act, back
from projects.views.live import live_response
from projects.views.uploads import read_plan


@login_required
@require_GET
def project_list(request: HtmxRequest) -> HttpResponse:
    return render(request, "projects/list.html", {"cards": selectors.project_cards(request.user)})


@login_required
@require_GET
def project_card(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug)
    topic = f"{project.topic}/board"
    return live_response(
        request,
        "projects/list.html",
        lambda: {"card": selectors.project_card(project)},
        project,
        topic,
        partial="card",
    )


@sensitive_post_parameters("secret")
@login_required
@require_http_methods(["GET", "POST"])
def project_create(request: HtmxRequest) -> HttpResponse:
    form = ProjectForm(posted(request), request.FILES or None)
    problems: list[planfile.Problem] = []
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        try:
            file = read_plan(data["plan"]) if data["plan"] else None
            return redirect("projects:plan", _create(request, data, file))
        except planfile.PlanFileError as error:
            problems = error.problems
        except Refused as error:
            form.add_problems(error.problems, error.message)
    status = 422 if request.method == "POST" else 200
    context = {"form": form, "file_problems": problems}
    return render(request, "projects/new.html", context, status=status)


def _create(request: HtmxRequest, data: dict[str, Any], file: planfile.PlanFile | None) -> str:
    project = project_begin(
        file,
        slug=data["name"],
        source=data["source"],
        owner=request.user,
        name=data["name"],
        goal=data["goal"],
        branch=data["branch"],
        environment=data["environment"],
        secret=data["secret"],
        secret_user=data["user"],
        known_hosts=data["known_hosts"],
    )
    return project.slug


@login_required
@require_GET
def project(request: HtmxRequest, slug: str) -> HttpResponse:
    found = access.project_for(request.user, slug)
    try:
        return redirect(reverse("agents:board", args=[found.slug]))
    except NoReverseMatch:
        return redirect("projects:plan", found.slug)


@login_required
@require_POST
def project_pause(request: HtmxRequest, slug: str) -> HttpResponse:
    found = access.project_for(request.user, slug, role=Role.MAINTAINER)
    by = live.Actor.person(request.user)
    return act(
        request,
        lambda: services.project_pause(project=found, by=by),
        to=back(request, slug),
        done="Paused: nothing new starts; what runs goes on to its end.",
    )


@login_required
@require_POST
def project_resume(request: HtmxRequest, slug: str) -> HttpResponse:
    found = access.project_for(request.user, slug, role=Role.MAINTAINER)
    by = live.Actor.person(request.user)
    return act(
        request,
        lambda: services.project_resume(project=found, by=by),
        to=back(request, slug),
        done="Resumed.",
    )


@login_required
@require_POST
def publish(request: HtmxRequest, slug: str) -> HttpResponse:
    """Move the team's branch, or push the branch that the form names."""
    found = access.project_for(request.user, slug, role=Role.MAINTAINER)
    said: list[str] = []
    branch = request.POST.get("branch", "").strip()
    return act(
        request,
        lambda: said.append(publishing.publish(found, request.user, branch)),
        to=back(request, slug),
        done="Published; the event log names branch and commit.",
    )
