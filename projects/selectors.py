"""What pages read of a project: the inbox, the event log, its people."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q, QuerySet

from projects import access
from projects.models import Attention, Event, Project, Role


def inbox(project: Project, user: User | AnonymousUser) -> QuerySet[Attention]:
    """What is asked of this person: of everybody up to their role, or of them by name."""
    role = access.role_of(user, project)
    if role is None:
        return Attention.objects.none()
    covered = [other for other in Role if role.covers(other)]
    return (
        Attention.objects.filter(project=project, closed_at__isnull=True)
        .filter(Q(user_id=user.pk) | Q(user__isnull=True, role__in=covered))
        .order_by("deadline", "opened_at", "pk")
    )


def inbox_count(project: Project, user: User | AnonymousUser) -> int:
    return inbox(project, user).count()


def events(
    project: Project, *, kind: str = "", topic: str = "", actor: str = ""
) -> QuerySet[Event]:
    """The project's events, newest first; `kind` and `topic` also match by their beginnings."""
    found = Event.objects.filter(project=project).order_by("-number")
    if kind:
        found = found.filter(Q(kind=kind) | Q(kind__startswith=f"{kind.rstrip('.')}."))
    if topic:
        found = found.filter(Q(topic=topic) | Q(topic__startswith=f"{topic.rstrip('/')}/"))
    if actor:
        found = found.filter(actor=actor)
    return found


def event_kinds(project: Project) -> list[str]:
    kinds = Event.objects.filter(project=project).order_by("kind").values_list("kind", flat=True)
    return list(kinds.distinct())
