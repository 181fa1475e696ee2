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
from agents.backends.agents_known import KNOWN, Known
from agents.models import Profile, Provider, ProviderTest
from agents.services import profiles, providertests
from projects import access
from projects.access import HtmxRequest
from projects.models import Project, Role
from projects.services.errors import Refused
from projects.text import clean_text


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
    is_filled: bool = False
    test: ProviderTest | None = None

    @property
    def agent(self) -> str:
        """The ready-made agent that the settings name; empty for none."""
        try:
            value = json.loads(self.settings or "{}")
        except (ValueError, RecursionError):
            return ""
        name = value.get("agent") if isinstance(value, dict) else ""
        return name if isinstance(name, str) and name in KNOWN else ""

    @property
    def known(self) -> Known | None:
        """How the agent is installed and signed in, where it is a ready-made one."""
        return KNOWN.get(self.agent) if self.backend == "acp" else None

    @property
    def test_status(self) -> str:
        return providertests.status_of(self.test) if self.test else ""


def _forms(project: Project | None) -> list[ProfileForm]:
    rows = (
        Profile.objects.filter(project=project) if project else Profile.objects.filter(project=None)
    )
    own = {row.role: row for row in rows}
    site = {row.role: row for row in Profile.objects.filter(project=None)}
    tests = providertests.tests_of(project)
    forms = []
    for role in Profile.Role:
        fallback = Profile(role=role, backend="replay", model=profiles.DEFAULT_MODELS[role])
        shown = own.get(role) or site.get(role) or fallback
        text = json.dumps(shown.settings, indent=2) if shown.settings else ""
        provider = shown.provider.name if shown.provider else ""
        made = ProfileForm(role, shown.backend, shown.model, text, role in own, provider)
        made.test = tests.get(role)
        forms.append(made)
    return forms


def _page(
    request: HtmxRequest, project: Project | None, forms: list[ProfileForm], status: int = 200
) -> HttpResponse:
    name = "agents/profiles.html" + ("#profiles" if request.htmx else "")
    accounts = Provider.objects.order_by("name")
    context = {"project": project, "forms": forms, "kinds": sorted(KINDS), "accounts": accounts,
               "agents": KNOWN}  # fmt: skip
    return render(request, name, context, status=status)


def _set(request: HtmxRequest, project: Project | None, role: str) -> HttpResponse:
    if role not in Profile.Role.values:
        raise Http404("There is no such role.")
    backend = request.POST.get("backend", "")
    model = request.POST.get("model", "").strip()
    text = request.POST.get("settings", "").strip()
    if "fill" in request.GET:
        return _fill(request, project, role, model, text)
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


def _fill(
    request: HtmxRequest, project: Project | None, role: str, model: str, text: str
) -> HttpResponse:
    """Show a role's form with what a ready-made agent needs; nothing is saved."""
    name = request.POST.get("agent", "")
    forms = _forms(project)
    mine = next(form for form in forms if form.role == role)
    mine.backend, mine.model, mine.settings = request.POST.get("backend", ""), model, text
    mine.provider = request.POST.get("provider", "")
    try:
        if name not in KNOWN:
            raise Refused("Choose one of the ready-made agents first.")
        mine.settings = json.dumps(_filled(name, _settings(text)), indent=2)
    except Refused as error:
        mine.problem = error.message
        return _page(request, project, forms, 422)
    if mine.backend == "replay":
        mine.model = ""  # No agent offers the name of a recorded one.
    mine.backend, mine.is_filled = "acp", True
    return _page(request, project, forms)


def _filled(name: str, before: dict[str, Any]) -> dict[str, Any]:
    """Settings for an agent: what was set of the host and of limits stays, the command does not."""
    kept = {key: value for key, value in before.items() if key not in ("agent", "command")}
    found: dict[str, Any] = {"agent": name}
    if not KNOWN[name].command:
        found["command"] = ["my-agent", "acp"]
    return {**found, "network": True, "readable": ["/opt/agents"], **kept}


def _provider(name: str | None) -> Provider | Literal["keep"] | None:
    """The account of this name, none for an empty one, as it is when the form does not ask.

    Raises Refused for an unknown one.
    """
    if name is None:
        return "keep"
    found = Provider.objects.filter(name=clean_text(name)).first() if name else None
    if name and found is None:
        raise Refused(f"There is no provider {clean_text(name, 60)}.")
    return found


def _settings(text: str) -> dict[str, Any]:
    """Raises Refused for what is not a JSON object."""
    try:
        value = json.loads(text or "{}", parse_constant=_no_number)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refused(f"The settings are not JSON: {error.msg} at {where}.") from None
    except (ValueError, RecursionError) as error:
        raise Refused(f"The settings are not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise Refused('The settings are a JSON object, like {"timeout_seconds": 600}.')
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number that can be kept")


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
