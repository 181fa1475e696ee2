"""Test a profile's provider: the button beside each profile, and the page of the test."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_GET, require_POST

from agents.models import ProviderTest
from agents.services import providertests
from agents.views.fresh import require_admin
from projects import access
from projects.access import HtmxRequest
from projects.models import Project, Role
from projects.views.answers import act, go
from projects.views.live import is_live


@login_required
@require_POST
def ask(request: HtmxRequest, slug: str, role: str) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.MAINTAINER)
    return _ask(request, project, role, reverse("agents:profiles", args=[slug]))


@login_required
@require_GET
def test(request: HtmxRequest, slug: str, pk: int) -> HttpResponse:
    return _page(request, access.project_for(request.user, slug), pk)


@login_required
@require_POST
def site_ask(request: HtmxRequest, role: str) -> HttpResponse:
    require_admin(request)
    return _ask(request, None, role, reverse("agents:site-profiles"))


@login_required
@require_GET
def site_test(request: HtmxRequest, pk: int) -> HttpResponse:
    require_admin(request)
    return _page(request, None, pk)


def _ask(request: HtmxRequest, project: Project | None, role: str, back: str) -> HttpResponse:
    asked: list[ProviderTest] = []
    ask_it: Callable[[], None] = lambda: asked.append(  # noqa: E731
        providertests.test_ask(project, role, request.user)
    )
    answer = act(request, ask_it, to=back)
    return go(request, _address(project, asked[0])) if asked else answer


def _address(project: Project | None, test: ProviderTest) -> str:
    if project is None:
        return reverse("agents:site-provider-test", args=[test.pk])
    return reverse("agents:provider-test", args=[project.slug, test.pk])


def _page(request: HtmxRequest, project: Project | None, pk: int) -> HttpResponse:
    """The page, or its live part; that asks again each second until the test is over."""
    tests = ProviderTest.objects.select_related("asked_by", "provider")
    found = get_object_or_404(tests, pk=pk, project=project)
    context = {
        "project": project,
        "test": found,
        "status": providertests.status_of(found),
        "is_over": providertests.is_over(found),
        "problem": providertests.LOST
        if providertests.status_of(found) == "lost"
        else found.problem,
        "rows": providertests.rows_of(found),
    }
    name = "agents/provider_test.html" + ("#live" if is_live(request) else "")
    answer = render(request, name, context)
    answer["Vary"] = "HX-Request, Cookie"
    patch_cache_control(answer, private=True, no_store=True)
    return answer
