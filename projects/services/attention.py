"""What waits for a person: opened and closed in the owning service's transaction."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.utils import timezone

from projects import live
from projects.models import Attention, Project, Role


def attention_open(
    project: Project, *, topic: str, kind: str, title: str, url: str, role: str = Role.MEMBER,
    **fields: Any,
) -> None:  # fmt: skip
    """Ask people of a role; a second opening of the same question changes nothing."""
    with live.change(project) as change:
        _, created = Attention.objects.get_or_create(
            topic=topic,
            kind=kind,
            closed_at=None,
            defaults={"project": project, "title": title, "url": url, "role": role, **fields},
        )
        if created:
            change.event("attention.opened", topic, live.SYSTEM, kind=kind, title=title)
        change.topics.add(f"{project.topic}/inbox")


def attention_close(
    project: Project,
    *,
    topic: str,
    by: live.Actor,
    kind: str | None = None,
    is_deep: bool = False,
) -> None:
    """Close what was asked on a topic, of one kind or of all; and below it, when it `is_deep`."""
    with live.change(project) as change:
        below = Q(topic__startswith=f"{topic}/") if is_deep else Q()
        asked = Attention.objects.filter(project=project, closed_at__isnull=True)
        asked = asked.filter(Q(topic=topic) | below)
        if kind:
            asked = asked.filter(kind=kind)
        if asked.update(closed_at=timezone.now(), closed_by=by.name):
            change.event("attention.closed", topic, by, kind=kind or "all")
            change.topics.add(f"{project.topic}/inbox")
