"""Cut a project by its packages, without any model; it arrives as a draft that people edit."""

from __future__ import annotations

import time
from pathlib import Path

from django.contrib.auth.models import User

from agents import sandbox
from agents.checkslots import check_slot
from agents.codebase import Codebase
from agents.cutting import cut
from agents.survey import survey
from projects.git import GitError
from projects.hub import Hub, integration_ref
from projects.models import Plan, Project
from projects.services.errors import Refused
from projects.services.proposals import cut_check, cut_take

#: How long somebody who asks waits for one of the machine's check slots.
SLOT_SECONDS = 30.0


def plan_cut(project: Project, by: User) -> Plan:
    """Make what the packages and imports say the open draft.

    Raises Refused where there is no code, where the machine is busy, or where people's work or a
    plan that waits for approval would be written over.
    """
    cut_check(project)
    file = cut(_codebase(project))
    if not file.modules:
        raise Refused(
            "There is no code to cut: no file of a known language lies outside of tests and "
            "documentation. Add modules by hand, or ask the orchestrator."
        )
    return cut_take(project, file, by)


def _codebase(project: Project) -> Codebase:
    hub = Hub(project.hub_path)
    deadline = time.monotonic() + SLOT_SECONDS

    def late() -> str | None:
        return "late" if time.monotonic() > deadline else None

    environment = Path(project.environment) if project.environment else None
    try:
        commit = hub.head(integration_ref())
        if commit is None:
            raise Refused("The repository has no commit yet; there is nothing to cut.")
        with check_slot(late):
            if late():
                raise Refused("The machine is busy with checks; cut again in a moment.")
            return survey(hub, commit, sandbox.Runner(), environment)
    except GitError as error:
        raise Refused(f"The repository can't be read: {error}") from error
