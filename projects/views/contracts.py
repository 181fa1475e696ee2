"""One module of a draft as a form: add, change, remove, and say while typing what is wrong."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from projects import access, drafts
from projects.access import HtmxRequest
from projects.forms import NEED_KINDS, ContractForm, Rows, need_rows, posted
from projects.models import Plan, Project, Role
from projects.planpage import slugs_of
from projects.services import plans as services
from projects.services.errors import Problem, Refused, Stale
from projects.views.answers import act


def _draft(request: HtmxRequest, slug: str) -> tuple[Project, Plan]:
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    found = services.open_plan(project)
    if found is None or found.status != Plan.Status.DRAFT:
        raise Http404("There is no draft to edit. Withdraw the plan, or start the next one.")
    return project, found


def _form(
    request: HtmxRequest,
    project: Project,
    plan: Plan,
    form: ContractForm,
    needs: Rows,
    *,
    status: int = 200,
    **more: Any,
) -> HttpResponse:
    context = {
        "project": project,
        "plan": plan,
        "form": form,
        "needs": needs,
        "kinds": NEED_KINDS,
        "slugs": slugs_of(plan),
        **more,
    }
    return render(request, "projects/contract.html", context, status=status)


@login_required
@require_http_methods(["GET", "POST"])
def contract_new(request: HtmxRequest, slug: str) -> HttpResponse:
    project, plan = _draft(request, slug)
    form = ContractForm(posted(request), initial={"priority": 0})
    if request.method == "GET":
        return _form(request, project, plan, form, [])
    needs = need_rows(request.POST)
    if form.is_valid():
        name = form.cleaned_data["slug"]
        try:
            services.contract_save(plan, name, request.user, form.module(needs), create=True)
        except Refused as error:
            _show(form, name, error)
        else:
            messages.success(request, f"{name} is added to the plan.")
            return redirect(f"{reverse('projects:plan', args=[slug])}#module-{name}")
    return _form(request, project, plan, form, needs, status=422)


@login_required
@require_http_methods(["GET", "POST"])
def contract_edit(request: HtmxRequest, slug: str, module: str) -> HttpResponse:
    project, plan = _draft(request, slug)
    current = drafts.draft_module(plan, module)
    if current is None:
        raise Http404(f"There is no module {module} in the draft.")
    more: dict[str, Any] = {"module": module, "seen": drafts.fingerprint(current)}
    if request.method == "GET":
        form = ContractForm(initial=ContractForm.initial_of(current))
        problems = drafts.typed_problems(plan, module, current)
        return _form(request, project, plan, form, current["needs"], problems=problems, **more)
    form = ContractForm({**request.POST.dict(), "slug": module})
    needs = need_rows(request.POST)
    if request.POST.get("seen") != more["seen"]:
        return _form(request, project, plan, form, needs, status=409, newer=current, **more)
    if form.is_valid():
        try:
            services.contract_save(plan, module, request.user, form.module(needs))
        except Stale as error:
            form.add_error(None, error.message)
            return _form(request, project, plan, form, needs, status=409, **more)
        except Refused as error:
            _show(form, module, error)
        else:
            messages.success(request, f"{module} is saved.")
            return redirect(f"{reverse('projects:plan', args=[slug])}#module-{module}")
    return _form(request, project, plan, form, needs, status=422, **more)


def _show(form: ContractForm, module: str, error: Refused) -> None:
    # What the service says of another module belongs above the form, with that module's name.
    mine = [p for p in error.problems if p.module in ("", module)]
    rest = [
        Problem("", "", f"{p.module}, {p.field}: {p.message}")
        for p in error.problems
        if p not in mine
    ]
    form.add_problems([*mine, *rest], error.message)


@login_required
@require_POST
def contract_validate(request: HtmxRequest, slug: str) -> HttpResponse:
    """What would be wrong if the form were saved as it is; nothing is written."""
    project, plan = _draft(request, slug)
    module = request.POST.get("module") or request.POST.get("slug", "")
    form = ContractForm({**request.POST.dict(), "slug": module})
    if form.is_valid():
        problems = drafts.typed_problems(plan, module, form.module(need_rows(request.POST)))
    else:
        problems = [
            Problem(module, name, str(message))
            for name, found in form.errors.items()
            for message in found
        ]
    context = {"project": project, "problems": problems, "checked": True}
    return render(request, "projects/contract.html#problems", context)


@login_required
@require_POST
def contract_remove(request: HtmxRequest, slug: str, module: str) -> HttpResponse:
    _, plan = _draft(request, slug)
    return act(
        request,
        lambda: services.contract_remove(plan, module, request.user),
        to=reverse("projects:plan", args=[slug]),
        done=f"{module} is out of the plan.",
    )


@login_required
@require_GET
def form_row(request: HtmxRequest, slug: str, kind: str) -> HttpResponse:
    """One more empty row of a form."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    if kind not in ("need", "check"):
        raise Http404("There is no such row.")
    template = "projects/contract.html#need" if kind == "need" else "projects/plan_edit.html#check"
    context = {"project": project, "need": {}, "row": {}, "kinds": NEED_KINDS}
    return render(request, template, context)
