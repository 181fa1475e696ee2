"""Bring what is merged to the team: its branch forward, or a branch for a pull request."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User

from projects import live
from projects.git import GitError
from projects.hub import integration_ref
from projects.models import Project
from projects.services.errors import Refused
from projects.services.projects import hub_of


def publish(project: Project, by: User, branch: str = "") -> str:
    """Push the integration branch to the source and return a sentence of what happened.

    Without `branch` the team's own branch is moved forward, and only forward; with one, that
    branch is pushed. Raises Refused when the source does not take it.
    """
    hub = hub_of(project)
    commit = hub.head(integration_ref())
    roots = settings.TUTTI_SOURCE_ROOTS
    if commit is None:
        raise Refused("There is nothing to publish yet.")
    try:
        if branch:
            published = hub.push_branch(project.source, branch, commit, roots=roots)
        else:
            old = hub.source_head(project.source, project.default_branch, roots=roots)
            published = hub.publish(
                project.source, project.default_branch, commit, old, roots=roots
            )
    except GitError as error:
        raise Refused(str(error)) from error
    if not published.is_done:
        raise Refused(published.message)
    with live.change(project) as change:
        Project.objects.filter(pk=project.pk).update(published_commit=commit)
        change.event(
            "project.published",
            project.topic,
            live.Actor.person(by),
            branch=branch or project.default_branch,
            commit=commit,
        )
    return published.message
