"""The API of a project's readiness: the points, what mends them, and the measuring of checks."""

from __future__ import annotations

from typing import Any

from ninja import Router, Schema

from agents.readiness import Button, Point, points, summary
from agents.readiness_facts import facts_of
from agents.services import measuring
from agents.views.readiness import address
from projects import access
from projects.access import HtmxRequest
from projects.models import Role
from projects.schemas import Done

router = Router(tags=["readiness"])


class ButtonOut(Schema):
    """A POST that mends a point at once, for people of at least this role."""

    text: str
    url: str
    role: str
    values: dict[str, Any]


class PointOut(Schema):
    """One point; `state` is ready, warning, missing or unknown, `url` leads to what mends it."""

    key: str
    group: str
    title: str
    state: str
    why: str
    url: str
    link_text: str
    button: ButtonOut | None


class ReadinessOut(Schema):
    """How ready a project is; `state` is the worst that stands in the way."""

    state: str
    sentence: str
    total: int
    ready: int
    warning: int
    missing: int
    unknown: int
    points: list[PointOut]


def _button(button: Button | None) -> ButtonOut | None:
    if button is None:
        return None
    values = dict(button.values)
    return ButtonOut(text=button.text, url=address(button), role=button.role, values=values)


def _point(point: Point) -> PointOut:
    names = ("key", "group", "title", "why", "link_text")
    return PointOut(
        **{name: getattr(point, name) for name in names},
        state=point.state,
        url=address(point.link),
        button=_button(point.button),
    )


@router.get("/{slug}/readiness", response=ReadinessOut)
def readiness(request: HtmxRequest, slug: str) -> ReadinessOut:
    project = access.project_for(request.user, slug)
    found = points(facts_of(project))
    counted = summary(found)
    return ReadinessOut(
        state=counted.state,
        sentence=counted.sentence,
        total=counted.total,
        ready=counted.ready,
        warning=counted.warning,
        missing=counted.missing,
        unknown=counted.unknown,
        points=[_point(point) for point in found],
    )


@router.post("/{slug}/readiness/measure", response=Done)
def measurement_ask(request: HtmxRequest, slug: str) -> Done:
    """Have the checks run on the commit that the plan starts from; the points say the result."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    measuring.measurement_ask(project, request.user)
    return Done(message="A worker measures the checks now.")
