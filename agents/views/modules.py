"""The page of a module, and what people do with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from agents import pages
from agents.models import Request
from agents.permissions import role_to_answer
from agents.services.answers import request_answer as answer_request
from projects import access, live
from projects.access import HtmxRequest
from projects.models import Module, Project, Role
from projects.services import modules
from projects.services.errors import Refused
from projects.text import clean_text
from projects.views.live import live_response
from reviews.answers import acted


def module_of(project: Project, slug: str) -> Module:
    """The project's module of this slug, with what its page needs; Http404 without one."""
    rows = Module.objects.filter(project=project).select_related(
        "project", "plan", "contract", "next_contract", "parent", "owner"
    )
    return get_object_or_404(rows, slug=slug)


@login_required
@require_GET
def module(request: HtmxRequest, slug: str, module: str) -> HttpResponse:
    project = access.project_for(request.user, slug)
    shown = module_of(project, module)
    return live_response(
        request,
        "agents/module.html",
        lambda: {"module": shown, "page": pages.module_page(shown)},
        project,
        f"{project.topic}/board",
    )


Act = Callable[[Module, live.Actor], str | None]


def _on_module(
    request: HtmxRequest, slug: str, module: str, act: Act, role: Role = Role.MEMBER
) -> HttpResponse:
    project = access.project_for(request.user, slug, role=role)
    found = module_of(project, module)
    by = live.Actor.person(request.user)
    return acted(request, reverse("agents:module", args=[slug, module]), partial(act, found, by))


@login_required
@require_POST
def module_pause(request: HtmxRequest, slug: str, module: str) -> HttpResponse:
    return _on_module(request, slug, module, modules.module_pause)


@login_required
@require_POST
def module_resume(request: HtmxRequest, slug: str, module: str) -> HttpResponse:
    return _on_module(request, slug, module, modules.module_resume)


@login_required
@require_POST
def module_retry(request: HtmxRequest, slug: str, module: str) -> HttpResponse:
    return _on_module(request, slug, module, modules.module_retry)


@login_required
@require_POST
def module_cancel(request: HtmxRequest, slug: str, module: str) -> HttpResponse:
    reason = clean_text(request.POST.get("reason", "")).strip()
    return _on_module(request, slug, module, partial(_cancel, reason=reason), Role.MAINTAINER)


def _cancel(module: Module, by: live.Actor, *, reason: str) -> None:
    modules.module_cancel(module, by, reason=reason)


@login_required
@require_POST
def module_lane_leave(request: HtmxRequest, slug: str, module: str) -> HttpResponse:
    return _on_module(request, slug, module, modules.module_lane_leave, Role.MAINTAINER)


@login_required
@require_POST
def module_priority(request: HtmxRequest, slug: str, module: str) -> HttpResponse:
    text = request.POST.get("priority", "")
    return _on_module(request, slug, module, partial(_priority, text=text))


def _priority(module: Module, by: live.Actor, *, text: str) -> str:
    try:
        priority = int(text)
    except ValueError:
        raise Refused("A priority is a number from -1000 to 1000.") from None
    modules.module_priority_set(module, priority, by)
    return f"The priority is {priority} now."


@login_required
@require_POST
def request_answer(request: HtmxRequest, slug: str, pk: int) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    asked = get_object_or_404(Request.objects.select_related("module"), project=project, pk=pk)
    access.project_for(request.user, slug, role=role_to_answer(asked))

    def act() -> str:
        choice = request.POST.get("granted", "")
        if choice not in ("yes", "no"):
            raise Refused("Choose grant or refuse.")
        answer = clean_text(request.POST.get("answer", ""))
        answer_request(asked, granted=choice == "yes", by=request.user, answer=answer)
        return "Granted." if choice == "yes" else "Refused."

    return acted(request, reverse("agents:module", args=[slug, asked.module.slug]), act)
