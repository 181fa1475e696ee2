"""Answer a page, or the live part of it that a browser fetches after a hint."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import redis
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.cache import patch_cache_control

from projects.models import Project
from projects.snapshot import snapshot

logger = logging.getLogger(__name__)

#: Seconds that a rendered fragment is kept: long enough for all who heard the same hint.
KEPT = 30


def live_response(
    request: HttpRequest,
    template: str,
    context: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    project: Project,
    topic: str,
    *,
    partial: str = "live",
) -> HttpResponse:
    """The whole page, or only `template#partial` when live.js or htmx asks.

    `project` must have been read before the rows of the context: its event_count becomes the
    version that the fragment claims to show, and claiming too little is healed by the next hint.
    Both get `project`, `topic` and `version`. A fragment is rendered without the request, once
    for everybody: what a role may not do is hidden by the classes for-member, for-maintainer and
    for-owner, and refused by the server. Give a function as context: it reads as of one moment,
    together with what the template asks for, and a fragment that is already rendered costs no
    query.
    """
    version = project.event_count
    if not is_live(request):
        with snapshot():
            return render(request, template, _whole(context, project, topic))
    tag = f'W/"{project.pk}-{version}"'
    if request.headers.get("If-None-Match") == tag:
        response: HttpResponse = HttpResponseNotModified()
    else:
        response = HttpResponse(
            _fragment(request, f"{template}#{partial}", context, project, topic)
        )
    response["ETag"] = tag
    response["X-Version"] = str(version)
    # The page and its fragment share an address: the browser must not mix them up.
    response["Vary"] = "HX-Request, Cookie"
    patch_cache_control(response, private=True, no_cache=True)
    return response


def is_live(request: HttpRequest) -> bool:
    """Whether only the fragment is asked for."""
    return request.headers.get("HX-Request") == "true"


def _whole(
    context: Mapping[str, Any] | Callable[[], Mapping[str, Any]], project: Project, topic: str
) -> dict[str, Any]:
    rows = context() if callable(context) else context
    return {"project": project, "topic": topic, "version": project.event_count, **rows}


def _fragment(
    request: HttpRequest,
    name: str,
    context: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    project: Project,
    topic: str,
) -> str:
    where = f"{project.pk}|{project.event_count}|{name}|{request.get_full_path()}"
    key = "fragment." + hashlib.sha256(where.encode()).hexdigest()
    try:
        if (kept := cache.get(key)) is not None:
            return str(kept)
    except redis.RedisError as error:
        logger.warning("Fragments are rendered anew each time: %s", error)
        return _rendered(name, context, project, topic)
    html = _rendered(name, context, project, topic)
    try:
        cache.set(key, html, KEPT)
    except redis.RedisError as error:
        logger.warning("A fragment was not kept: %s", error)
    return html


def _rendered(
    name: str,
    context: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    project: Project,
    topic: str,
) -> str:
    with snapshot():
        return render_to_string(name, _whole(context, project, topic))
