"""What tests of pages share: a client of a person, and how an answer reads."""

from __future__ import annotations

import re

from django.contrib.auth.models import User
from django.test import Client

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

LIVE = {"HTTP_HX_REQUEST": "true", "HTTP_TUTTI_LIVE": "1"}


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(response) -> str:
    """The words of a page, without markup."""
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return re.sub(r"\s+", " ", words)


def region(html: str, name: str) -> str:
    """What lies in the live region of this id, as the page was loaded."""
    start = re.search(rf'<[a-z]+ id="{name}"[^>]*data-src[^>]*>', html)
    assert start, f"There is no region {name}."
    rest = html[start.end() :]
    depth, place = 1, 0
    for tag in re.finditer(r"<(/?)div\b[^>]*>", rest):
        depth += -1 if tag.group(1) else 1
        place = tag.start()
        if depth == 0:
            break
    return rest[:place]
