"""The API of plans that are made from the repository itself."""

from __future__ import annotations

from ninja import Router

from agents.services.cutting import plan_cut
from projects import access, plancontent
from projects.access import HtmxRequest
from projects.models import Role
from projects.schemas import Done

router = Router(tags=["plans"])


@router.post("/{slug}/plans/cut", response=Done)
def plan_cut_by_packages(request: HtmxRequest, slug: str) -> Done:
    """Cut the repository by packages and imports, without any model, into an open draft."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    plan = plan_cut(project, request.user)
    count = len(plancontent.plan_specs(plan))
    return Done(message=f"Plan {plan.number} is a draft with {count} modules, cut by packages.")
