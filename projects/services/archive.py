"""Put a project away, take it back, or delete what may be deleted of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from projects import live
from projects.models import Attention, Invitation, Project
from projects.services.errors import Problem, Refused, Stale


def project_archive(project: Project, by: User, confirm: str) -> None:
    """Nothing of it starts any more and nobody sees its pages; an owner may take it back.

    `confirm` is the project's short name, typed. Raises Refused while agents work.
    """
    _confirmed(project, confirm)
    with live.change(project) as change:
        if change.project.active_runs:
            raise Refused(
                f"{change.project.active_runs} agents are at work. Pause the project, wait for "
                "their end or stop them, then archive it."
            )
        if Project.objects.filter(pk=project.pk, archived_at=None).update(
            archived_at=timezone.now()
        ):
            change.event("project.archived", project.topic, live.Actor.person(by))


def project_restore(project: Project, by: User) -> None:
    """Take an archived project back: its modules go on where they were."""
    with live.change(project) as change:
        kept = Project.objects.filter(pk=project.pk, deleted_at=None, archived_at__isnull=False)
        if kept.update(archived_at=None):
            change.event("project.restored", project.topic, live.Actor.person(by))


def project_delete(project: Project, by: User, confirm: str) -> None:
    """Remove an archived project's code, workspaces and invitations, and set its name free.

    The record (events, reviews, checks, merges, logs) is append-only and stays in the database,
    where `audit_export` and `audit_verify` find it by the name that it has from then on.
    """
    _confirmed(project, confirm)
    with live.change(project) as change:
        slug = f"{project.slug[:40]}~{project.pk}"
        gone = Project.objects.filter(pk=project.pk, deleted_at=None, archived_at__isnull=False)
        if not gone.update(deleted_at=timezone.now(), slug=slug, source_secret=""):
            raise Stale("Only an archived project can be deleted, and only once.")
        Invitation.objects.filter(project=project).delete()
        Attention.objects.filter(project=project, closed_at=None).update(
            closed_at=timezone.now(), closed_by=live.Actor.person(by).name
        )
        change.event(
            "project.deleted",
            project.topic,
            live.Actor.person(by),
            was=project.slug,
            slug=slug,
            removed=["hub", "workspaces", "invitations"],
        )
        # Files can't be rolled back, so they go last.
        transaction.on_commit(lambda: _remove_files(project))


def _remove_files(project: Project) -> None:
    workspaces = Path(settings.TUTTI_HOME) / "workspaces" / str(project.pk)
    for folder in (project.hub_path, workspaces):
        shutil.rmtree(folder, ignore_errors=True)


def _confirmed(project: Project, confirm: str) -> None:
    if confirm.strip() != project.slug:
        message = f"Type {project.slug} to confirm."
        raise Refused(message, [Problem("", "confirm", message)])
