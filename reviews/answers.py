"""Answer a form or button: call one service, and say in words what became of it."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from projects.access import HtmxRequest
from projects.services.errors import Refused
from projects.views.answers import sentence, status_of


def acted(request: HtmxRequest, back: str, act: Callable[[], str | None]) -> HttpResponse:
    """Run `act`, whose sentence is shown; a refusal is shown the same way, with 409 or 422.

    htmx gets the sentence for the page's `#said`, and the page itself follows by its hint;
    without htmx the browser goes `back`.
    """
    try:
        said = act() or ""
    except Refused as error:
        return _refused(request, back, error)
    if request.htmx:
        return render(request, "reviews/_said.html", {"said": said})
    if said:
        messages.success(request, said)
    return redirect(back)


def _refused(request: HtmxRequest, back: str, error: Refused) -> HttpResponse:
    if request.htmx:
        context = {"refused": error}
        return render(request, "reviews/_said.html", context, status=status_of(error))
    messages.error(request, sentence(error))
    return redirect(back)
