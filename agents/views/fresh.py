"""Answer a page whose numbers change without an event: never cached, its version only for hints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_cache_control

from projects.access import HtmxRequest
from projects.views.live import is_live


def fresh_response(
    request: HtmxRequest,
    template: str,
    context: Mapping[str, Any],
    *,
    topic: str,
    version: int,
    partial: str = "live",
) -> HttpResponse:
    """The whole page, or only `template#partial` when live.js asks.

    `version` must have been read before the rows of the context. Unlike a fragment that everybody
    shares it is rendered each time, because readings and use move without an event.
    """
    name = f"{template}#{partial}" if is_live(request) else template
    answer = render(request, name, {**context, "topic": topic, "version": version})
    answer["X-Version"] = str(version)
    answer["Vary"] = "HX-Request, Cookie"
    patch_cache_control(answer, private=True, no_store=True)
    return answer


def require_admin(request: HtmxRequest) -> None:
    """Raises PermissionDenied with a sentence to anybody but a site admin."""
    if not request.user.is_superuser:
        raise PermissionDenied("These pages are for site admins: they concern every project.")
