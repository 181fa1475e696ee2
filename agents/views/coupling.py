"""The part of the plan's page that shows coupling with its evidence, and puts it into lanes."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from agents.services import coupling as services
from projects import access
from projects.access import HtmxRequest
from projects.models import Plan, Project, Role
from projects.planpage import plan_shown
from projects.services.errors import Refused
from projects.services.plans import open_plan
from projects.views.answers import status_of

TEMPLATE = "agents/_coupling.html"


@login_required
@require_GET
def coupling(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug)
    plan = plan_shown(project)
    if plan is None:
        raise Http404("There is no plan yet.")
    return _shown(request, project, plan)


@login_required
@require_POST
def coupling_apply(request: HtmxRequest, slug: str) -> HttpResponse:
    """Put the modules that the form names into one lane; without any, all that policy covers."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    plan = open_plan(project)
    if plan is None:
        raise Http404("There is no open plan. Start the next one on the plan's page.")
    try:
        said = _apply(plan, request.POST.getlist("module"), request)
    except Refused as error:
        plan.refresh_from_db()
        return _shown(request, project, plan, refused=error)
    if not request.htmx:
        return redirect(reverse("projects:plan", args=[slug]))
    plan.refresh_from_db()
    return _shown(request, project, plan, said=said)


@login_required
@require_POST
def coupling_dismiss(request: HtmxRequest, slug: str) -> HttpResponse:
    """Note that the modules that the form names may run at the same time, and why."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    plan = plan_shown(project)
    if plan is None:
        raise Http404("There is no plan yet.")
    modules, reason = request.POST.getlist("module"), request.POST.get("reason", "")
    try:
        services.coupling_dismiss(plan, modules, request.user, reason)
    except Refused as error:
        return _shown(request, project, plan, refused=error)
    if not request.htmx:
        return redirect(reverse("projects:plan", args=[slug]))
    said = f"{', '.join(modules)} may run at the same time: that is decided."
    return _shown(request, project, plan, said=said)


def _apply(plan: Plan, modules: list[str], request: HtmxRequest) -> str:
    if modules:
        lane = services.coupling_put(plan, modules, request.user)
        return f"{', '.join(modules)} share the lane {lane} now: they never run at the same time."
    if plan.policies.get("coupling") != "apply":
        raise Refused("The plan's policy only shows coupling. Choose what to put into one lane.")
    put = services.coupling_apply(plan, request.user)
    groups = "; ".join(", ".join(one.modules) for one in put)
    return f"Put into lanes: {groups}." if put else "There is nothing more that policy covers."


def _shown(
    request: HtmxRequest,
    project: Project,
    plan: Plan,
    *,
    said: str = "",
    refused: Refused | None = None,
) -> HttpResponse:
    dismissed = services.dismissed(plan)
    context = {
        "project": project,
        "plan": plan,
        "found": services.coupling_found(plan),
        "applied": services.applied(plan),
        "dismissed": dismissed,
        "settled": {tuple(event.data["modules"]) for event in dismissed},
        "said": said,
        "refused": refused,
    }
    return render(request, TEMPLATE, context, status=status_of(refused) if refused else 200)
