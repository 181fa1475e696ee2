"""A project's beginning: its rows, its hub and its first draft, all of them or none."""

from __future__ import annotations

import shutil
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from projects import planfile
from projects.models import Project
from projects.services.plans import plan_draft, plan_import
from projects.services.projects import ceiling_set, project_create


def project_begin(
    file: planfile.PlanFile | None, *, owner: User, goal: str = "", **values: Any
) -> Project:
    """Make a project, with `project_create`'s values, and its first draft: a plan file or empty.

    The goal is the file's where it has one. Raises Refused when the project can't be made, or its
    file holds what a draft may not; nothing of it stays then, so that its name is free.
    """
    whole = (file.project.goal if file else "") or goal
    with transaction.atomic():
        project = project_create(owner=owner, goal=whole, **values)
        try:
            _begin(project, file, owner)
        except BaseException:
            shutil.rmtree(project.hub_path, ignore_errors=True)
            raise
    return project


def _begin(project: Project, file: planfile.PlanFile | None, owner: User) -> None:
    if file is None:
        plan_draft(project, owner)
        return
    plan_import(project, file, owner)
    if file.project.ceiling != project.ceiling:
        ceiling_set(project=project, ceiling=file.project.ceiling, by=owner)
