"""Which backend and model plays a role: the forms of a project and of the site."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from agents.backends import KINDS
from agents.models import Profile, Provider
from agents.services import profiles
from projects import access
from projects.access import HtmxRequest
from projects.models import Project, Role
from projects.services.errors import Refused


@dataclass
class ProfileForm:
    """One role's form: what is in force, where it comes from, and what was typed if refused."""

    role: str
    backend: str
    model: str
    settings: str
    is_own: bool
    provider: str = ""
    problem: str = ""
    is_saved: bool = False


def _forms(project: Project | None) -> list[ProfileForm]:
    rows = (
        Profile.objects.filter(project=project) if project else Profile.objects.filter(project=None)
    )
    own = {row.role: row for row in rows}
    site = {row.role: row for row in Profile.objects.filter(project=None)}
    forms = []
    for role in Profile.Role:
        fallback = Profile(role=role, backend="replay", model=profiles.DEFAULT_MODELS[role])
        shown = own.get(role) or site.get(role) or fallback
        text = json.dumps(shown.settings, indent=2) if shown.settings else ""
        provider = shown.provider.name if shown.provider else ""
        forms.append(ProfileForm(role, shown.backend, shown.model, text, role in own, provider))
    return forms


def _page(
    request: HtmxRequest, project: Project | None, forms: list[ProfileForm], status: int = 200
) -> HttpResponse:
    name = "agents/profiles.html" + ("#profiles" if request.htmx else "")
    accounts = Provider.objects.order_by("name")
    context = {"project": project, "forms": forms, "kinds": sorted(KINDS), "accounts": accounts}
    return render(request, name, context, status=status)


def _set(request: HtmxRequest, project: Project | None, role: str) -> HttpResponse:
    if role not in Profile.Role.values:
        raise Http404("There is no such role.")
    backend = request.POST.get("backend", "")
    model = request.POST.get("model", "").strip()
    text = request.POST.get("settings", "").strip()
    try:
        provider = _provider(request.POST.get("provider"))
        profiles.profile_set(
            project, role, backend, model, _settings(text), request.user, provider=provider
        )
    except Refused as error:
        forms = _forms(project)
        mine = next(form for form in forms if form.role == role)
        mine.backend, mine.model, mine.settings = backend, model, text
        mine.provider = request.POST.get("provider", "")
        mine.problem = error.message
        return _page(request, project, forms, 422)
    if not request.htmx:
        return redirect(request.path.rsplit(f"/{role}/", 1)[0] + "/")
    forms = _forms(project)
    next(form for form in forms if form.role == role).is_saved = True
    return _page(request, project, forms)


def _provider(name: str | None) -> Provider | Literal["keep"] | None:
    """The account of this name, none for an empty one, as it is when the form does not ask.

    Raises Refused for an unknown one.
    """
    if name is None:
        return "keep"
    found = Provider.objects.filter(name=name).first() if name else None
    if name and found is None:
        raise Refused(f"There is no provider {name[:60]}.")
    return found


def _settings(text: str) -> dict[str, Any]:
    """Raises Refused for what is not a JSON object."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise Refused(f"The settings are not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise Refused('The settings are a JSON object, like {"timeout_seconds": 600}.')
    return value


@login_required
@require_GET
def project_profiles(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug)
    return _page(request, project, _forms(project))


@login_required
@require_POST
def profile_set(request: HtmxRequest, slug: str, role: str) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.MAINTAINER)
    return _set(request, project, role)


@login_required
@require_GET
def site_profiles(request: HtmxRequest) -> HttpResponse:
    _require_admin(request)
    return _page(request, None, _forms(None))


@login_required
@require_POST
def site_profile_set(request: HtmxRequest, role: str) -> HttpResponse:
    _require_admin(request)
    return _set(request, None, role)


def _require_admin(request: HtmxRequest) -> None:
    if not request.user.is_superuser:
        raise PermissionDenied("The site's profiles are a site admin's to see and to change.")
