"""What tests of pages share: a client of a person, and how an answer reads."""

from __future__ import annotations

import html
import re
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from projects.models import Plan, Project
from projects.services import plans

#: Two modules that may run at once, for a repository with m1.py and m2.py.
PLAN = """\
version: 1
project: {name: Shop, goal: Sell things.}
modules:
- slug: m1
  title: The first
  brief: Build the first.
  owns: [m1.py]
  tests: [tests/test_m1.py]
  provides: ["m1.main(argument)"]
  checks: ["true"]
  estimate_seconds: 10
- slug: m2
  title: The second
  owns: [m2.py]
  tests: [tests/test_m2.py]
  provides: ["m2.main()"]
  needs: [{module: m1, kind: contract}]
  checks: ["true"]
  estimate_seconds: 20
"""

LIVE: dict[str, Any] = {"HTTP_HX_REQUEST": "true", "HTTP_TUTTI_LIVE": "1"}


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(response) -> str:
    """The words of a page, without markup."""
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return re.sub(r"\s+", " ", html.unescape(words))


def draft(project: Project) -> Plan:
    """The plan that people work on."""
    found = plans.open_plan(project)
    assert found is not None
    return found
