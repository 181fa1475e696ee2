"""The API of tests of providers: start one for a role's profile, and read what was found."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.shortcuts import get_object_or_404
from ninja import Router, Schema

from agents.models import ProviderTest
from agents.services import providertests
from agents.views.fresh import require_admin
from projects import access
from projects.access import HtmxRequest
from projects.models import Project, Role

router = Router(tags=["profiles"])
site_router = Router(tags=["site"])


class StepOut(Schema):
    """One step; `state` is waiting, passed, failed or unsure."""

    key: str
    title: str
    state: str
    text: str


class TestOut(Schema):
    """A test; `status` is asked, testing, lost, passed or failed. Missing facts are unknown."""

    id: int
    role: str
    backend: str
    model: str
    provider: str | None
    status: str
    host: str
    asked_by: str | None
    asked_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    problem: str
    problem_kind: str
    facts: dict[str, Any]
    steps: list[StepOut]


def _out(test: ProviderTest) -> TestOut:
    same = ("role", "backend", "model", "host", "asked_at", "started_at", "ended_at",
            "problem", "problem_kind", "facts")  # fmt: skip
    return TestOut(
        id=test.pk,
        provider=test.provider.name if test.provider else None,
        status=providertests.status_of(test),
        asked_by=test.asked_by.get_username() if test.asked_by else None,
        steps=[
            StepOut(key=row.key, title=row.title, state=row.state, text=row.text)
            for row in providertests.rows_of(test)
        ],
        **{name: getattr(test, name) for name in same},
    )


def _found(project: Project | None, pk: int) -> TestOut:
    rows = ProviderTest.objects.select_related("asked_by", "provider")
    return _out(get_object_or_404(rows, pk=pk, project=project))


@router.post("/{slug}/profiles/{role}/test", response=TestOut)
def test_ask(request: HtmxRequest, slug: str, role: str) -> TestOut:
    """Have the profile in force for a role tested by a worker; read the answer's id for more."""
    project = access.project_for(request.user, slug, role=Role.MAINTAINER)
    return _out(providertests.test_ask(project, role, request.user))


@router.get("/{slug}/tests/{int:pk}", response=TestOut)
def test(request: HtmxRequest, slug: str, pk: int) -> TestOut:
    return _found(access.project_for(request.user, slug), pk)


@site_router.post("/profiles/{role}/test", response=TestOut)
def site_test_ask(request: HtmxRequest, role: str) -> TestOut:
    """Have the site's profile for a role tested by a worker."""
    require_admin(request)
    return _out(providertests.test_ask(None, role, request.user))


@site_router.get("/tests/{int:pk}", response=TestOut)
def site_test(request: HtmxRequest, pk: int) -> TestOut:
    require_admin(request)
    return _found(None, pk)
