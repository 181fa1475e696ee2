"""What the commands share: finding rows by name, and having workers when none run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import CommandError

from agents.scheduler import clock_runs
from config import processes
from projects.models import Plan, Project

#: How often to look whether somebody else's clock still runs.
LOOK_SECONDS = 2.0


def find_project(slug: str) -> Project:
    project = Project.objects.filter(slug=slug).first()
    if project is None:
        known = ", ".join(Project.objects.values_list("slug", flat=True)[:20]) or "none yet"
        raise CommandError(f"There is no project {slug}. There are: {known}.")
    return project


def find_user(name: str) -> User:
    user = User.objects.filter(username=name).first()
    if user is None:
        raise CommandError(
            f"There is no user {name}. Make one: manage.py createsuperuser --username {name}"
        )
    return user


def newest_plan(project: Project) -> Plan:
    plan = Plan.objects.filter(project=project).order_by("-number").first()
    if plan is None:
        raise CommandError(f"{project.slug} has no plan yet. Import one: manage.py project_create.")
    return plan


@contextmanager
def workers() -> Iterator[Callable[[], None]]:
    """Have workers and a clock for a block: somebody else's while they run, then its own.

    Yields what has to be called now and then, for the others may end at any time.
    """
    programs = [processes.workers("runs", settings.TUTTI_RUN_THREADS), processes.clock()]
    own: list[processes.Processes] = []
    looked = 0.0
    with processes.ended_by_signals(), ExitStack() as stack:

        def check() -> None:
            nonlocal looked
            if own:
                own[0].check()
            elif time.monotonic() - looked >= LOOK_SECONDS:
                looked = time.monotonic()
                if not clock_runs():
                    own.append(stack.enter_context(processes.Processes(programs)))

        check()
        yield check


def is_terminal() -> bool:
    return os.isatty(0) and os.isatty(1)
