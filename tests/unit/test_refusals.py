"""What an agent says of its provider's refusals is read as meant, and not trusted blindly."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from agents.backends.command import Listener


def heard(*events):
    listener = Listener(lambda kind, data: None)
    for event in events:
        listener.line(json.dumps({"event": "error", **event}).encode() + b"\n")
    return listener.refusal


@pytest.mark.parametrize(
    ("said", "seconds"),
    [({"retry_after": 30}, 30), ({"retry_after": 0.5}, 0.5), ({}, None),
     ({"retry_after": -1}, None), ({"retry_after": "soon"}, None), ({"retry_after": 1e99}, None),
     ({"retry_after": None}, None)],
)  # fmt: skip
def test_429_with_or_without_a_time(said, seconds):
    found = heard({"kind": "rate_limited", **said})
    assert (found.kind, found.owner, found.retry_after) == ("rate_limited", "provider", seconds)


@pytest.mark.parametrize(
    ("said", "at"),
    [
        ("2026-11-25T18:00:00+00:00", datetime(2026, 11, 25, 18, tzinfo=UTC)),
        ("2026-11-25T19:00:00+01:00", datetime(2026, 11, 25, 18, tzinfo=UTC)),
        ("2026-11-25T18:00:00", datetime(2026, 11, 25, 18, tzinfo=UTC)),
        ("2026-11-25T18:00:00Z", datetime(2026, 11, 25, 18, tzinfo=UTC)),
        ("tomorrow", None),
        (7, None),
        (None, None),
    ],
)
def test_a_used_up_account_with_or_without_a_reset_time(said, at):
    found = heard({"kind": "exhausted", "resets_at": said, "message": "No more\0 today."})
    assert (found.kind, found.owner, found.resets_at) == ("exhausted", "provider", at)
    assert str(found).startswith("No more")
    assert "\0" not in str(found)


def test_other_errors_are_the_agents_own():
    assert heard({"kind": "syntax"}, {"kind": 5}, {}) is None


def test_the_last_refusal_counts():
    assert heard({"kind": "rate_limited"}, {"kind": "exhausted"}, {"kind": "x"}).kind == "exhausted"
