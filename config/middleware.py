"""What each request is given besides what Django and its apps give it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import cast

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from django.utils.functional import SimpleLazyObject

from agents.services.secrets import redactor
from projects.access import HtmxRequest
from projects.redaction import Redactor

Answer = HttpResponseBase | Awaitable[HttpResponseBase]


@sync_and_async_middleware
def redacting(get_response: Callable[[HttpRequest], Answer]) -> Callable[[HttpRequest], Answer]:
    """Hand down what takes secrets out of pages: rooms below agents know none of them."""

    def give(request: HttpRequest) -> None:
        cast(HtmxRequest, request).redactor = cast(Redactor, SimpleLazyObject(redactor))

    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            give(request)
            return await cast(Awaitable[HttpResponseBase], get_response(request))

        return answer_async

    def answer(request: HttpRequest) -> Answer:
        give(request)
        return get_response(request)

    return answer
