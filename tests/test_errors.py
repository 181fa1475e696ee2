"""A report of an unforeseen error shows what failed, and nothing that was typed as a secret."""

from __future__ import annotations

import json
import sys
from secrets import token_hex

import pytest
from django.test import RequestFactory

from config.errors import Reporter

# The report quotes this file: what it must not show stands nowhere in it.
PARTS = [token_hex(6) for _ in range(3)]
SECRET = '{} "{}" <\'{}>'.format(*PARTS)


@pytest.mark.parametrize("way", ["form", "json"])
@pytest.mark.parametrize("debug", [True, False])
def test_no_report_shows_a_secret_that_was_sent(settings, way, debug):
    settings.DEBUG = debug
    assert f"{Reporter.__module__}.Reporter" == settings.DEFAULT_EXCEPTION_REPORTER
    sent = {"secret": SECRET, "user": "robot"}
    if way == "form":
        request = RequestFactory().post("/projects/new/", sent)
    else:
        request = RequestFactory().post("/api/projects", json.dumps(sent), "application/json")
        assert request.body

    def fails(secret, data):
        raise RuntimeError(f"can't use {secret}")

    try:
        fails(SECRET, dict(sent))
    except RuntimeError:
        reporter = Reporter(request, *sys.exc_info())
    for shown in (reporter.get_traceback_html(), reporter.get_traceback_text()):
        assert "use [redacted]" in shown
        assert not [part for part in PARTS if part in shown]
    assert "robot" in reporter.get_traceback_html()
