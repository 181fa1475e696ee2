"""What each request is given besides what Django and its apps give it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import cast
from urllib.parse import unquote

from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from django.utils.functional import SimpleLazyObject

from agents.services.secrets import redactor
from projects.access import HtmxRequest
from projects.redaction import Redactor

Answer = HttpResponseBase | Awaitable[HttpResponseBase]


Middleware = Callable[[Callable[[HttpRequest], Answer]], Callable[[HttpRequest], Answer]]


def _first(look: Callable[[HttpRequest], None]) -> Middleware:
    """Middleware that looks at each request before it is answered."""

    @sync_and_async_middleware
    def middleware(
        get_response: Callable[[HttpRequest], Answer],
    ) -> Callable[[HttpRequest], Answer]:
        if iscoroutinefunction(get_response):

            async def answer_async(request: HttpRequest) -> HttpResponseBase:
                look(request)
                return await cast(Awaitable[HttpResponseBase], get_response(request))

            return answer_async

        def answer(request: HttpRequest) -> Answer:
            look(request)
            return get_response(request)

        return answer

    return cast(Middleware, middleware)


def _give_redactor(request: HttpRequest) -> None:
    cast(HtmxRequest, request).redactor = cast(Redactor, SimpleLazyObject(redactor))


def _refuse_nul(request: HttpRequest) -> None:
    if "\0" in request.path_info:
        raise Http404("No address holds a NUL.")
    if "\0" in unquote(request.META.get("QUERY_STRING", "")):
        raise BadRequest("No address holds a NUL.")


#: Hand down what takes secrets out of pages: rooms below agents know none of them.
redacting = _first(_give_redactor)
#: Refuse what PostgreSQL takes in no text, once for all that look it up there.
without_nul = _first(_refuse_nul)
