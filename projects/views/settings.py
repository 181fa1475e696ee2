"""What a project and a site allow: general, ceiling, policies, instructions, profiles."""

from __future__ import annotations

from typing import Any

from django.conf import settings as site
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from projects import access
from projects import instructions as texts
from projects.access import HtmxRequest
from projects.drafts import fingerprint
from projects.forms import (
    CeilingForm,
    GeneralForm,
    PlainForm,
    PoliciesForm,
    SourceKeyForm,
    TextForm,
    posted,
)
from projects.models import Instruction, Project, Role
from projects.services import projects as services
from projects.services import sourcekeys
from projects.services.errors import Refused, Stale
from projects.text import clean_text
from projects.views.answers import back

GENERAL = ("name", "goal", "default_branch", "environment")
#: Roles that agents play, with what they do: their instructions are texts of their own.
AGENT_ROLES = {
    "orchestrator": "decomposes, delegates, reviews, fixes small errors",
    "planner": "writes each module's tests first",
    "executor": "codes until they pass",
}


def _project(request: HtmxRequest, slug: str) -> Project:
    """The project: everybody in it may look, maintainers may change."""
    role = Role.MAINTAINER if request.method == "POST" else Role.VIEWER
    return access.project_for(request.user, slug, role=role)


@login_required
@require_http_methods(["GET", "POST"])
def general(request: HtmxRequest, slug: str) -> HttpResponse:
    project = _project(request, slug)
    form = GeneralForm(posted(request), initial=_kept(project, *GENERAL))
    if _saved(request, form, lambda data: services.settings_set(
        project=project, by=request.user, seen=request.POST.get("seen", ""), **data)):  # fmt: skip
        return redirect("projects:settings", slug)
    return _general(request, project, form=form, status=_status(form))


def _general(
    request: HtmxRequest, project: Project, *, status: int = 200, **forms: PlainForm
) -> HttpResponse:
    form = forms.get("form") or GeneralForm(initial=_kept(project, *GENERAL))
    context = {
        "project": project,
        "section": "general",
        "form": form,
        "seen": _seen(request, form, _kept(project, *GENERAL)),
        "ceiling_form": forms.get("ceiling_form")
        or CeilingForm(initial={"ceiling": project.ceiling}),
        "key_form": forms.get("key_form")
        or SourceKeyForm(
            initial={"user": project.source_user, "known_hosts": project.source_known_hosts}
        ),
        "site_ceiling": site.TUTTI_SITE_CEILING,
    }
    return render(request, "projects/settings_general.html", context, status=status)


@login_required
@require_POST
def ceiling_set(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.OWNER)
    form = CeilingForm(request.POST)
    if _saved(request, form, lambda data: services.ceiling_set(
        project=project, ceiling=data["ceiling"], by=request.user)):  # fmt: skip
        return redirect(
            back(request, slug)
            if request.POST.get("next")
            else reverse("projects:settings", args=[slug])
        )
    return _general(request, project, ceiling_form=form, status=422)


@sensitive_post_parameters("secret")
@login_required
@require_POST
def source_key_set(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.OWNER)
    form = SourceKeyForm(request.POST)
    if _saved(request, form, lambda data: sourcekeys.source_key_set(
        project, request.user, data["secret"], user=data["user"],
        known_hosts=data["known_hosts"])):  # fmt: skip
        return redirect("projects:settings", slug)
    return _general(request, project, key_form=form, status=422)


@login_required
@require_http_methods(["GET", "POST"])
def policies(request: HtmxRequest, slug: str) -> HttpResponse:
    project = _project(request, slug)
    form = PoliciesForm(posted(request), initial=PoliciesForm.initial_of(project.policies))
    if _saved(request, form, lambda _: services.settings_set(
        project=project, by=request.user, seen=request.POST.get("seen", ""),
        policies=form.policies())):  # fmt: skip
        return redirect("projects:settings-policies", slug)
    seen = _seen(request, form, _kept(project, "policies"))
    context = {"project": project, "section": "policies", "form": form, "seen": seen}
    return render(request, "projects/settings_policies.html", context, status=_status(form))


@login_required
@require_http_methods(["GET", "POST"])
def instructions(request: HtmxRequest, slug: str) -> HttpResponse:
    """The project's text, and one of each agent role; `role` of the form says which is saved."""
    project = _project(request, slug)
    role = request.POST.get("role", "")
    form = TextForm(posted(request))
    if role not in ("", *AGENT_ROLES):
        return HttpResponse("There is no such role.", status=422, content_type="text/plain")
    if _saved(request, form, lambda data: services.instruction_set(
        text=data["text"], by=request.user, project=project, role=role)):  # fmt: skip
        return redirect("projects:settings-instructions", slug)
    shown = _texts(project)
    if form.errors:
        wrong = next(row for row in shown["rows"] if row["role"] == role)
        wrong |= {"text": form["text"].value(), "errors": form["text"].errors}
    context = {"project": project, "section": "instructions", "form": form, **shown}
    return render(request, "projects/settings_instructions.html", context, status=_status(form))


def _texts(project: Project) -> dict[str, Any]:
    scope = Instruction.Scope
    site_text = texts.current(scope.SITE)
    own = {"role": "", "name": "project", "text": texts.current(scope.PROJECT, project) or ""}
    of_roles = [
        {
            "role": role,
            "name": role,
            "does": does,
            "site": texts.current(scope.ROLE, None, role) or "",
            "text": texts.current(scope.ROLE, project, role) or "",
        }
        for role, does in AGENT_ROLES.items()
    ]
    return {
        "site_text": texts.SITE_DEFAULT if site_text is None else site_text,
        "rows": [own, *of_roles],
    }


@login_required
@require_GET
def profiles(request: HtmxRequest, slug: str) -> HttpResponse:
    """The frame of a section whose content another room renders."""
    project = _project(request, slug)
    context = {"project": project, "section": "profiles"}
    return render(request, "projects/settings_profiles.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def site_instructions(request: HtmxRequest) -> HttpResponse:
    if not request.user.is_superuser:
        raise PermissionDenied("Only site admins change what every agent of this site reads.")
    text = texts.current(Instruction.Scope.SITE)
    form = TextForm(posted(request), initial={"text": texts.SITE_DEFAULT if text is None else text})
    if _saved(request, form, lambda data: services.instruction_set(
        text=data["text"], by=request.user)):  # fmt: skip
        return redirect("projects:site-instructions")
    context = {"form": form}
    return render(request, "projects/site_instructions.html", context, status=_status(form))


def _kept(project: Project, *names: str) -> dict[str, Any]:
    return {name: getattr(project, name) for name in names}


def _seen(request: HtmxRequest, form: PlainForm, kept: dict[str, Any]) -> str:
    """The fingerprint of what the form was opened on, until it is shown what is newer."""
    if form.errors and not form.is_stale:
        return request.POST.get("seen", "")
    return fingerprint(kept)


def _status(form: PlainForm) -> int:
    return 409 if form.is_stale else 422 if form.errors else 200


def _saved(request: HtmxRequest, form: PlainForm, save: Any) -> bool:
    """Whether a posted form was valid and the service took it; what is refused stays in it."""
    if request.method != "POST" or not form.is_valid():
        return False
    try:
        save(form.cleaned_data)
    except Stale as error:
        form.is_stale = True
        for name in form.changed_data:
            kept = form.fields[name].prepare_value(form.initial.get(name))
            form.add_error(name, f"By now it is: {clean_text(str(kept), 300) or 'empty'}")
        form.add_error(None, error.message)
        return False
    except Refused as error:
        form.add_problems(error.problems, error.message)
        return False
    messages.success(request, "Saved.")
    return True
