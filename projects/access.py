"""Fetch a project and authorise in one call; pages, api and consumers all come through here."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest
from django_htmx.middleware import HtmxDetails

from projects.models import Membership, Project, Role
from projects.redaction import Redactor


class HtmxRequest(HttpRequest):
    """A request of a signed-in person, as the middleware leaves it.

    `redactor` takes secrets out of what is shown without having been stored.
    """

    htmx: HtmxDetails
    user: User
    redactor: Redactor


def projects_for(user: User | AnonymousUser) -> QuerySet[Project]:
    """Projects that the person may see."""
    projects = Project.objects.filter(archived_at__isnull=True)
    if user.is_superuser:
        return projects
    if user.pk is None:
        return projects.none()
    return projects.filter(memberships__user_id=user.pk)


def role_of(user: User | AnonymousUser, project: Project) -> Role | None:
    """The person's role in a project; site admins count as owners, strangers have none."""
    if not user.is_authenticated:
        return None
    if user.is_superuser:
        return Role.OWNER
    role = Membership.objects.filter(project=project, user_id=user.pk).values_list("role").first()
    return Role(role[0]) if role else None


def project_for(user: User | AnonymousUser, slug: str, *, role: Role = Role.VIEWER) -> Project:
    """The project, if the person has at least this role in it.

    Raises Http404 to strangers, who must not learn that it exists, and PermissionDenied to
    members whose role is too low, with a sentence that says which role it takes.
    """
    return _authorised(user, Project.objects.filter(slug=slug, archived_at__isnull=True), role)


def archived_projects(user: User | AnonymousUser) -> QuerySet[Project]:
    """Archived projects that the person owns."""
    projects = Project.objects.filter(archived_at__isnull=False, deleted_at__isnull=True)
    if user.is_superuser:
        return projects
    if user.pk is None:
        return projects.none()
    return projects.filter(memberships__user_id=user.pk, memberships__role=Role.OWNER)


def archived_for(user: User | AnonymousUser, slug: str) -> Project:
    """An archived project, for its owners; otherwise as `project_for`."""
    projects = Project.objects.filter(archived_at__isnull=False, deleted_at__isnull=True)
    return _authorised(user, projects.filter(slug=slug), Role.OWNER)


def _authorised(user: User | AnonymousUser, projects: QuerySet[Project], role: Role) -> Project:
    project = projects.first()
    held = role_of(user, project) if project else None
    if project is None or held is None:
        raise Http404("There is no such project, or you are not a member of it.")
    if not held.covers(role):
        raise PermissionDenied(
            f"This takes the role {role.label.lower()}; you are {held.label.lower()} of "
            f"{project.name}. Ask an owner of the project."
        )
    return project
