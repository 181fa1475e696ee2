"""Reports of unforeseen errors, for the page of a developer and for mails, without secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator

from django.http import HttpRequest
from django.http.request import RawPostDataException
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.views.debug import ExceptionReporter

from projects.redaction import SHORTEST, Redactor

#: Fields of forms and of the API that hold what nobody may read again.
SECRET_FIELDS = ("secret", "value", "token", "password", "password1", "password2", "oldpassword")


class Reporter(ExceptionReporter):
    """Django's own report; what was sent in a secret field is in none of its variables."""

    def get_traceback_html(self) -> SafeString:
        return mark_safe(self._redactor().text(super().get_traceback_html()))

    def get_traceback_text(self) -> SafeString:
        return mark_safe(self._redactor().text(super().get_traceback_text()))

    def _redactor(self) -> Redactor:
        sent = list(_sent(self.request)) if self.request else []
        shown = [form for value in sent for form in (value, repr(value)[1:-1])]
        return Redactor([*shown, *map(escape, shown)])


def _sent(request: HttpRequest) -> Iterator[str]:
    for name in SECRET_FIELDS:
        yield from (value for value in request.POST.getlist(name) if len(value) >= SHORTEST)
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError, RawPostDataException):
        return
    for name in SECRET_FIELDS if isinstance(body, dict) else ():
        if isinstance(value := body.get(name), str) and len(value) >= SHORTEST:
            yield value
