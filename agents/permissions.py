"""Which role a request takes to be answered."""

from __future__ import annotations

from agents.models import Request
from projects.models import Role

#: What an approved plan does not cover is a maintainer's to allow; the rest a member answers.
_MAINTAINERS = (Request.Kind.EXCEPTION, Request.Kind.SPLIT)


def role_to_answer(request: Request) -> Role:
    return Role.MAINTAINER if request.kind in _MAINTAINERS else Role.MEMBER
