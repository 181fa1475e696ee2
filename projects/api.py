"""The API of projects, plans, modules, events and what waits for people."""

from __future__ import annotations

from typing import Annotated

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Query, Router

from projects import access, live, plancontent, planfile, selectors
from projects.access import HtmxRequest
from projects.models import Contract, Dependency, Event, Module, Plan, Project, Role
from projects.schemas import (
    ApproveIn,
    AttentionOut,
    CancelIn,
    ContractOut,
    Done,
    EventOut,
    EventPage,
    ModuleOut,
    ModuleRow,
    NeedOut,
    PlanOut,
    PlanRow,
    ProblemOut,
    ProjectIn,
    ProjectOut,
    PublishIn,
    SourceKeyIn,
)
from projects.services import modules, plans, projects, proposals, publishing, sourcekeys
from projects.services.beginning import project_begin
from projects.services.errors import Problem, Refused

router = Router(tags=["projects"])

Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[int, Query(ge=0, le=2**53)]


def project_out(request: HttpRequest, project: Project) -> ProjectOut:
    values = {name: getattr(project, name) for name in ProjectOut.model_fields if name != "role"}
    return ProjectOut(**values, role=access.role_of(request.user, project) or "")


@router.get("", response=list[ProjectOut])
def project_list(request: HtmxRequest) -> list[ProjectOut]:
    found = access.projects_for(request.user).order_by("slug")
    return [project_out(request, project) for project in found]


@router.post("", response=ProjectOut)
def project_create(request: HtmxRequest, body: ProjectIn) -> ProjectOut:
    """Clone a repository into a project of one's own, with an empty or a given draft."""
    try:
        file = planfile.load(body.plan) if body.plan.strip() else None
    except planfile.PlanFileError as error:
        raise Refused(str(error), [Problem("", "plan", str(error))]) from error
    made = project_begin(
        file,
        slug=body.name,
        source=body.source,
        owner=request.user,
        name=body.name,
        goal=body.goal,
        branch=body.branch,
        environment=body.environment,
        secret=body.secret.get_secret_value(),
        secret_user=body.user,
        known_hosts=body.known_hosts,
    )
    return project_out(request, made)


@router.get("/{slug}", response=ProjectOut)
def project(request: HtmxRequest, slug: str) -> ProjectOut:
    return project_out(request, access.project_for(request.user, slug))


@router.post("/{slug}/pause", response=Done)
def project_pause(request: HtmxRequest, slug: str) -> Done:
    found = access.project_for(request.user, slug, role=Role.MAINTAINER)
    projects.project_pause(project=found, by=live.Actor.person(request.user))
    return Done(message="Paused: nothing new starts; what runs goes on to its end.")


@router.post("/{slug}/resume", response=Done)
def project_resume(request: HtmxRequest, slug: str) -> Done:
    found = access.project_for(request.user, slug, role=Role.MAINTAINER)
    projects.project_resume(project=found, by=live.Actor.person(request.user))
    return Done(message="Resumed.")


@router.post("/{slug}/publish", response=Done)
def publish(request: HtmxRequest, slug: str, body: PublishIn) -> Done:
    found = access.project_for(request.user, slug, role=Role.MAINTAINER)
    return Done(message=publishing.publish(found, request.user, body.branch.strip()))


@router.put("/{slug}/source-key", response=Done)
def source_key_set(request: HtmxRequest, slug: str, body: SourceKeyIn) -> Done:
    found = access.project_for(request.user, slug, role=Role.OWNER)
    secret = body.secret.get_secret_value()
    sourcekeys.source_key_set(found, request.user, secret, user=body.user,
                              known_hosts=body.known_hosts)  # fmt: skip
    return Done(message="Saved; it is never shown." if secret.strip() else "Removed.")


# --- Plans ---------------------------------------------------------------------------------------


@router.get("/{slug}/plans", response=list[PlanRow])
def plan_list(request: HtmxRequest, slug: str) -> QuerySet[Plan]:
    found = access.project_for(request.user, slug)
    return Plan.objects.filter(project=found).order_by("-number")


@router.get("/{slug}/plans/{int:number}", response=PlanOut)
def plan(request: HtmxRequest, slug: str, number: int) -> PlanOut:
    found = access.project_for(request.user, slug)
    shown = get_object_or_404(Plan.objects.select_related("project"), project=found, number=number)
    problems = plancontent.plan_problems(shown) if shown.status == Plan.Status.DRAFT else []
    names = set(PlanOut.model_fields) - {"file", "problems"}
    return PlanOut(
        **{name: getattr(shown, name) for name in names},
        file=plancontent.plan_dict(shown),
        problems=[
            ProblemOut(module=found.module or "", field=found.field, message=found.message)
            for found in problems
        ],
    )


@router.post("/{slug}/plans/{int:number}/approve", response=Done)
def plan_approve(request: HtmxRequest, slug: str, number: int, body: ApproveIn) -> Done:
    found = access.project_for(request.user, slug, role=Role.MAINTAINER)
    asked = get_object_or_404(Plan.objects.select_related("project"), project=found, number=number)
    plans.plan_approve(asked, request.user, body.digest)
    return Done(message=f"Plan {number} is approved; its modules start.")


@router.post("/{slug}/plans/propose", response=Done)
def plan_propose(request: HtmxRequest, slug: str) -> Done:
    """Ask the orchestrator for a plan; it arrives as an open draft."""
    found = access.project_for(request.user, slug, role=Role.MEMBER)
    plan = proposals.proposal_ask(found, request.user)
    return Done(
        message=f"The orchestrator is asked to cut the goal; plan {plan.number} is a draft."
    )


@router.post("/{slug}/plans/{int:number}/retry", response=Done)
def plan_retry(request: HtmxRequest, slug: str, number: int) -> Done:
    found = access.project_for(request.user, slug, role=Role.MAINTAINER)
    asked = get_object_or_404(Plan.objects.select_related("project"), project=found, number=number)
    plans.plan_retry(asked, request.user)
    return Done(message="What blocked the plan is tried again.")


# --- Modules -------------------------------------------------------------------------------------


def module_of(project: Project, slug: str) -> Module:
    """The project's module of this slug; Http404 without one."""
    rows = Module.objects.filter(project=project)
    return get_object_or_404(rows.select_related("project", "parent", "contract"), slug=slug)


def module_row(module: Module) -> ModuleRow:
    names = set(ModuleRow.model_fields) - {"parent"}
    values = {name: getattr(module, name) for name in names}
    return ModuleRow(**values, parent=module.parent.slug if module.parent else None)


def contract_out(contract: Contract) -> ContractOut:
    return ContractOut(**{name: getattr(contract, name) for name in ContractOut.model_fields})


def need_out(need: Dependency) -> NeedOut:
    return NeedOut(
        module=need.needs.slug, kind=need.kind, declared=need.declared, status=need.needs.status
    )


@router.get("/{slug}/modules", response=list[ModuleRow])
def module_list(
    request: HtmxRequest, slug: str, status: str = "", offset: After = 0, limit: Limit = 200
) -> list[ModuleRow]:
    found = access.project_for(request.user, slug)
    rows = Module.objects.filter(project=found).select_related("parent").order_by("pk")
    rows = rows.filter(status=status) if status else rows
    return [module_row(module) for module in rows[offset : offset + limit]]


# A module's slug may hold slashes, but no part of one is a dash: what follows "/-/" is an action.
@router.post("/{slug}/modules/{path:module}/-/pause", response=Done)
def module_pause(request: HtmxRequest, slug: str, module: str) -> Done:
    found = access.project_for(request.user, slug, role=Role.MEMBER)
    modules.module_pause(module_of(found, module), live.Actor.person(request.user))
    return Done(message=f"{module} is paused; a run that works goes on to its end.")


@router.post("/{slug}/modules/{path:module}/-/resume", response=Done)
def module_resume(request: HtmxRequest, slug: str, module: str) -> Done:
    found = access.project_for(request.user, slug, role=Role.MEMBER)
    modules.module_resume(module_of(found, module), live.Actor.person(request.user))
    return Done(message=f"{module} goes on.")


@router.post("/{slug}/modules/{path:module}/-/retry", response=Done)
def module_retry(request: HtmxRequest, slug: str, module: str) -> Done:
    found = access.project_for(request.user, slug, role=Role.MEMBER)
    by = live.Actor.person(request.user)
    return Done(message=modules.module_retry(module_of(found, module), by))


@router.post("/{slug}/modules/{path:module}/-/cancel", response=Done)
def module_cancel(request: HtmxRequest, slug: str, module: str, body: CancelIn) -> Done:
    found = access.project_for(request.user, slug, role=Role.MAINTAINER)
    by = live.Actor.person(request.user)
    modules.module_cancel(module_of(found, module), by, reason=body.reason)
    return Done(message=f"{module} is cancelled; what needs it never starts.")


@router.get("/{slug}/modules/{path:module}", response=ModuleOut)
def module(request: HtmxRequest, slug: str, module: str) -> ModuleOut:
    found = access.project_for(request.user, slug)
    shown = module_of(found, module)
    contract = shown.contract
    needs = contract.needs.select_related("needs").order_by("needs__slug") if contract else []
    return ModuleOut(
        **module_row(shown).model_dump(),
        contract=contract_out(contract) if contract else None,
        needs=[need_out(need) for need in needs],
        children=list(shown.children.order_by("pk").values_list("slug", flat=True)),
    )


# --- The record, and what waits for people -------------------------------------------------------


@router.get("/{slug}/events", response=EventPage)
def event_list(request: HtmxRequest, slug: str, after: After = 0, limit: Limit = 200) -> EventPage:
    found = access.project_for(request.user, slug)
    rows = list(Event.objects.filter(project=found, number__gt=after).order_by("number")[:limit])
    return EventPage(
        events=[
            EventOut(**{name: getattr(row, name) for name in EventOut.model_fields}) for row in rows
        ],
        after=rows[-1].number if rows else after,
        newest=found.event_count,
    )


@router.get("/{slug}/attentions", response=list[AttentionOut])
def attention_list(request: HtmxRequest, slug: str) -> list[AttentionOut]:
    """What waits for the person who asks, by name or by role."""
    found = access.project_for(request.user, slug)
    return [
        AttentionOut(**{name: getattr(row, name) for name in AttentionOut.model_fields})
        for row in selectors.inbox(found, request.user)
    ]
