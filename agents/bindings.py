"""Which limit binds a project right now, as its board, its pages and the site's page say it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils.dateparse import parse_datetime

from projects.models import Project

#: What binds, in a word or two.
WORDS = {
    "project": "the project's ceiling",
    "quota": "the project's quota",
    "machine": "the machine",
    "disk": "the disk",
    "provider": "the provider",
    "site": "the site's quota",
    "user": "a person's quota",
    "people": "people",
    "paused": "paused",
}


@dataclass(frozen=True)
class Binding:
    """What is stored on the project, with times as times and the page that changes it."""

    limit: str
    word: str
    sentence: str
    slots: int | None
    numbers: tuple[tuple[str, str], ...]
    since: datetime | None
    until: datetime | None
    url: str
    change: str


def binding(project: Project) -> Binding | None:
    """None while nothing was decided yet."""
    kept: dict[str, Any] = project.binding or {}
    if not kept.get("sentence"):
        return None
    limit = str(kept.get("limit", ""))
    # A project's own quota binds under the same name as its ceiling; only quotas are spent.
    is_quota = limit == "project" and "spent" in (kept.get("numbers") or {})
    url, change = _where("quota" if is_quota else limit, project)
    return Binding(
        limit=limit,
        word=WORDS["quota" if is_quota else limit] if limit in WORDS else limit,
        sentence=str(kept.get("sentence", "")),
        slots=kept.get("slots"),
        numbers=tuple(
            (str(name).replace("_", " "), _number(value))
            for name, value in (kept.get("numbers") or {}).items()
        ),
        since=_moment(kept.get("since")),
        until=_moment(kept.get("until")),
        url=url,
        change=change,
    )


def _where(limit: str, project: Project) -> tuple[str, str]:
    """The page where what binds is changed or explained, and what its link says."""
    slug = [project.slug]
    if limit == "project":
        return reverse("projects:settings", args=slug) + "#ceiling", "Change the ceiling"
    if limit == "people":
        return reverse("projects:inbox", args=slug), "See what people are asked"
    if limit == "paused":
        return reverse("projects:settings", args=slug), "Resume it in the settings"
    return reverse("agents:quotas", args=slug), "See limits and use"


def _moment(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        return parse_datetime(text)
    except ValueError:
        return None


def _number(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
