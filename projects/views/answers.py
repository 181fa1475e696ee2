"""Answers of views that act: back to a page with a sentence, or the sentence why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django_htmx.http import HttpResponseClientRedirect

from projects.services.errors import Refused, Stale


def act(request: HttpRequest, do: Callable[[], Any], *, to: str, done: str = "") -> HttpResponse:
    """Do it and go to the page `to`; what is refused is said, and nothing else changes.

    htmx gets a refusal as plain text with 422 (409 when the object changed meanwhile), which
    live.js shows; a plain form gets it as a message on the page `to`.
    """
    try:
        do()
    except Refused as error:
        if request.headers.get("HX-Request"):
            return plainly(sentence(error), status_of(error))
        messages.error(request, sentence(error))
        return redirect(to)
    if done:
        messages.success(request, done)
    return go(request, to)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Say why a page's token is not taken: each sign-in makes those of older pages void."""
    if request.headers.get("HX-Request"):
        return plainly("You signed in anew since this page was loaded: reload it.", 403)
    return render(request, "403_csrf.html", status=403)


def plainly(text: str, status: int) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")


def go(request: HttpRequest, to: str) -> HttpResponse:
    """Show the page `to`, whether htmx or the browser asked."""
    return HttpResponseClientRedirect(to) if request.headers.get("HX-Request") else redirect(to)


def back(request: HttpRequest, slug: str) -> str:
    """The page of this project that the form's `next` names, else the project's first page."""
    home = reverse("projects:project", args=[slug])
    wanted = request.POST.get("next", "")
    return wanted if wanted.startswith(home) else home


def status_of(error: Refused) -> int:
    return 409 if isinstance(error, Stale) else 422


def sentence(error: Refused) -> str:
    """The refusal with its problems, one a line."""
    lines = [
        f"{problem.module or 'plan'}, {problem.field}: {problem.message}"
        for problem in error.problems[:10]
    ]
    return "\n".join([error.message, *lines])
