"""Submit a plan from its page; the policy for coupling is applied first, as everywhere."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_POST

from agents.services.coupling import coupling_apply
from agents.services.cutting import plan_cut
from projects import access
from projects.access import HtmxRequest
from projects.models import Role
from projects.services.plans import open_plan, plan_submit
from projects.views.answers import act


@login_required
@require_POST
def submit(request: HtmxRequest, slug: str) -> HttpResponse:
    """It stands here because evidence of coupling is found in the sandbox, a room above plans."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    plan = open_plan(project)
    if plan is None:
        raise Http404("There is no open plan. Start the next one on the plan's page.")

    def do() -> None:
        coupling_apply(plan, request.user)
        plan.refresh_from_db()
        plan_submit(plan, request.user)

    return act(
        request,
        do,
        to=reverse("projects:plan", args=[slug]),
        done="Submitted: a maintainer now decides.",
    )


@login_required
@require_POST
def cut(request: HtmxRequest, slug: str) -> HttpResponse:
    """A draft from packages and imports alone; read in the sandbox, like coupling."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    return act(
        request,
        lambda: plan_cut(project, request.user),
        to=reverse("projects:plan", args=[slug]),
        done="Cut by packages: say in each module what of the goal it does, then submit the plan.",
    )
