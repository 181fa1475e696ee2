"""The plan's page: what would run, what is wrong with it, who may decide."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from projects import access, plancontent, planfile
from projects.access import HtmxRequest
from projects.drafts import edits_since
from projects.forms import (
    PlanForm,
    PlanUploadForm,
    PoliciesForm,
    ReasonForm,
    check_rows,
    posted,
    whole_number,
)
from projects.models import Plan, Project, Role
from projects.planpage import plan_context, plan_shown
from projects.services import plans as services
from projects.services import proposals
from projects.services.errors import Refused, Stale
from projects.views.answers import act, back, go
from projects.views.live import live_response
from projects.views.uploads import read_plan


@login_required
@require_GET
def plan(request: HtmxRequest, slug: str, number: int | None = None) -> HttpResponse:
    project = access.project_for(request.user, slug)
    found = plan_shown(project, number)
    if number is not None and found is None:
        raise Http404("There is no plan of this number.")
    context = (lambda: plan_context(found)) if found else _none(project)
    return live_response(request, "projects/plan.html", context, project, f"{project.topic}/plan")


def _none(project: Project) -> dict[str, Any]:
    return {"plan": None, "can_ask": proposals.can_ask(project)}


def _open(request: HtmxRequest, slug: str, role: Role = Role.MEMBER) -> tuple[Project, Plan]:
    """The project's draft or submitted plan; 404 when people work on none."""
    project = access.project_for(request.user, slug, role=role)
    found = services.open_plan(project)
    if found is None:
        raise Http404("There is no open plan. Start the next one on the plan's page.")
    return project, found


def _page(slug: str) -> str:
    return reverse("projects:plan", args=[slug])


@login_required
@require_GET
def plan_download(request: HtmxRequest, slug: str, number: int | None = None) -> HttpResponse:
    project = access.project_for(request.user, slug)
    found = plan_shown(project, number)
    if found is None:
        raise Http404("There is no plan yet.")
    text = planfile.dump(plancontent.plan_file(found))
    return HttpResponse(
        text,
        content_type="application/yaml; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="tutti.yaml"'},
    )


@login_required
@require_POST
def plan_draft(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    return act(request, lambda: services.plan_draft(project, request.user), to=_page(slug))


@login_required
@require_POST
def plan_propose(request: HtmxRequest, slug: str) -> HttpResponse:
    """Ask the orchestrator for a plan; it arrives as a draft."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    return act(
        request,
        lambda: proposals.proposal_ask(project, request.user),
        to=_page(slug),
        done="Asked: the orchestrator cuts the goal into modules. Nothing runs before approval.",
    )


@login_required
@require_http_methods(["GET", "POST"])
def plan_upload(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    form = PlanUploadForm(posted(request), request.FILES or None)
    problems: list[planfile.Problem] = []
    if request.method == "POST" and form.is_valid():
        try:
            file = read_plan(form.cleaned_data["file"])
            services.plan_import(project, file, request.user)
        except planfile.PlanFileError as error:
            problems = error.problems
        except Refused as error:
            form.add_problems(error.problems, error.message)
        else:
            _say_imported(request, project, file)
            return redirect(_page(slug))
    context = {"project": project, "form": form, "file_problems": problems}
    status = 422 if problems or form.errors else 200
    return render(request, "projects/plan_upload.html", context, status=status)


def _say_imported(request: HtmxRequest, project: Project, file: planfile.PlanFile) -> None:
    messages.success(request, f"The draft now is the file: {len(file.modules)} modules.")
    if file.project.ceiling != project.ceiling:
        messages.warning(
            request,
            f"The file wants a ceiling of {file.project.ceiling}; the project's is"
            f" {project.ceiling}. An owner changes it in the settings.",
        )


@login_required
@require_http_methods(["GET", "POST"])
def plan_edit(request: HtmxRequest, slug: str) -> HttpResponse:
    """The draft's part for the whole project: goal, checks, instructions, policies."""
    project, found = _open(request, slug)
    form = PlanForm(
        posted(request),
        initial={"goal": found.goal, "instructions": found.instructions},
    )
    policies = PoliciesForm(posted(request), initial=PoliciesForm.initial_of(found.policies))
    rows: list[dict[str, Any]] = found.checks
    status = 200
    if request.method == "POST":
        rows = check_rows(request.POST)
        # Both are asked, so that all that is wrong is shown at once.
        valid = [form.is_valid(), policies.is_valid(), _not_stale(request, found, form)]
        if all(valid) and _plan_saved(request, found, form, policies, rows):
            return redirect(_page(slug))
        status = 409 if not valid[2] else 422
    context = {"project": project, "plan": found, "form": form, "policies": policies,
               "rows": rows}  # fmt: skip
    return render(request, "projects/plan_edit.html", context, status=status)


def _not_stale(request: HtmxRequest, found: Plan, form: PlanForm) -> bool:
    if request.POST.get("version") == str(found.version):
        return True
    form.add_error(
        None,
        "Somebody changed the plan since you opened this form. Yours is below, not saved;"
        " look at the plan, then save again to keep yours.",
    )
    return False


def _plan_saved(
    request: HtmxRequest,
    found: Plan,
    form: PlanForm,
    policies: PoliciesForm,
    rows: list[dict[str, Any]],
) -> bool:
    values = {
        "goal": form.cleaned_data["goal"],
        "instructions": form.cleaned_data["instructions"],
        "checks": rows,
        "policies": policies.policies(),
    }
    try:
        services.plan_set(found, request.user, **values)
    except Refused as error:
        form.add_problems(error.problems, error.message)
        return False
    return True


@login_required
@require_POST
def plan_withdraw(request: HtmxRequest, slug: str) -> HttpResponse:
    _, found = _open(request, slug)
    return act(
        request,
        lambda: services.plan_withdraw(found, request.user),
        to=_page(slug),
        done="The plan is a draft again.",
    )


@login_required
@require_POST
def plan_approve(request: HtmxRequest, slug: str) -> HttpResponse:
    """Approve what was read; when the plan is no longer that, answer with what changed."""
    project = access.project_for(request.user, slug, role=Role.MAINTAINER)
    found = plan_shown(project)
    if found is None:
        raise Http404("There is no plan yet.")
    try:
        services.plan_approve(found, request.user, request.POST.get("digest", ""))
    except Stale as error:
        return _stale(request, project, error)
    except Refused as error:
        return _stale(request, project, error, status=422)
    messages.success(request, f"Plan {found.number} is approved: its modules start.")
    return go(request, reverse("projects:project", args=[slug]))


def _stale(
    request: HtmxRequest, project: Project, error: Refused, status: int = 409
) -> HttpResponse:
    project.refresh_from_db()
    found = plan_shown(project)
    assert found is not None
    seen = whole_number(request.POST.get("seen", ""))
    context = {
        **plan_context(found),
        "project": project,
        "topic": f"{project.topic}/plan",
        "version": project.event_count,
        "refused": error.message,
        "edits": [] if seen is None else edits_since(found, seen),
    }
    part = "#live" if request.headers.get("HX-Request") else ""
    return render(request, f"projects/plan.html{part}", context, status=status)


@login_required
@require_POST
def plan_reject(request: HtmxRequest, slug: str) -> HttpResponse:
    _, found = _open(request, slug, Role.MAINTAINER)
    form = ReasonForm(request.POST)
    reason = form.cleaned_data["reason"] if form.is_valid() else ""
    return act(
        request,
        lambda: services.plan_reject(found, request.user, reason),
        to=_page(slug),
        done="Rejected: the plan is a draft again, with your reason on it.",
    )


@login_required
@require_POST
def plan_retry(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.MAINTAINER)
    found = Plan.objects.filter(project=project, status=Plan.Status.APPROVED).first()
    if found is None:
        raise Http404("There is no approved plan.")
    return act(
        request,
        lambda: services.plan_retry(found, request.user),
        to=back(request, slug) if request.POST.get("next") else _page(slug),
        done="Trying again.",
    )
