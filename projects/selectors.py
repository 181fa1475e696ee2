"""What pages read of a project: the inbox, the event log, its people."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeVar

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from projects import access
from projects.models import (
    Attention,
    Event,
    Invitation,
    LoginLink,
    Membership,
    Module,
    Plan,
    Project,
    Role,
    SiteEvent,
)

#: An event of a project's chain, or of the site's.
Chained = TypeVar("Chained", Event, SiteEvent)


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
    """The project's events, newest first; see `narrowed`."""
    return narrowed(Event.objects.filter(project=project), kind=kind, topic=topic, actor=actor)


def narrowed(
    rows: QuerySet[Chained], *, kind: str = "", topic: str = "", actor: str = ""
) -> QuerySet[Chained]:
    """Events newest first; `kind` and `topic` also match by their beginnings."""
    found = rows.order_by("-number")
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


@dataclass(frozen=True)
class ProjectCard:
    """A project in the list: its modules by status, and what waits for people."""

    project: Project
    plan: Plan | None
    statuses: list[tuple[str, int]]
    asked: int

    @property
    def total(self) -> int:
        return sum(count for _, count in self.statuses)


def project_cards(user: User) -> list[ProjectCard]:
    projects = access.projects_for(user).order_by("name", "pk").distinct()
    return [project_card(project) for project in projects]


def project_card(project: Project) -> ProjectCard:
    counts = dict(
        Module.objects.filter(project=project).values_list("status").annotate(n=Count("pk"))
    )
    order = [status for status in Module.Status if status in counts]
    asked = Attention.objects.filter(project=project, closed_at__isnull=True).count()
    plan = Plan.objects.filter(project=project).order_by("-number").first()
    return ProjectCard(project, plan, [(s.value, counts[s.value]) for s in order], asked)


def memberships(project: Project) -> list[Membership]:
    rows = Membership.objects.filter(project=project).select_related("user")
    return sorted(rows, key=lambda row: (-Role(row.role).rank, row.user.get_username()))


def invitations_open(project: Project) -> QuerySet[Invitation]:
    return Invitation.objects.filter(
        project=project, used_at__isnull=True, expires_at__gt=timezone.now()
    ).select_related("by")


def invitation(token: str) -> Invitation | None:
    """The invitation of a link, while it can be accepted: also its maker may still invite."""
    rows = Invitation.objects.select_related("project", "by").filter(by__is_active=True)
    found = rows.filter(
        token_hash=_hash(token),
        used_at__isnull=True,
        expires_at__gt=timezone.now(),
        project__archived_at__isnull=True,
    ).first()
    if found is None or access.role_of(found.by, found.project) != Role.OWNER:
        return None
    return found


def login_link(token: str) -> LoginLink | None:
    """The one-time link of a token, while it is good; looking does not use it up."""
    found = LoginLink.objects.select_related("user").filter(user__is_active=True)
    return found.filter(
        token_hash=_hash(token), used_at__isnull=True, expires_at__gt=timezone.now()
    ).first()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
