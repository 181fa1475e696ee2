from __future__ import annotations

import argparse
import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from agents import confinement, figures, progress, telling
from agents.economics import economics
from agents.management.commands._common import is_terminal
from agents.scheduler import clock_runs
from agents.services.recovery import project_recover
from config import processes
from examples.prepare import NAMES, Prepared, prepare
from projects import live
from projects.models import Plan, Project
from projects.services.plans import plan_approve
from projects.services.projects import ceiling_set, login_link_create


class Command(BaseCommand):
    help = "The main job on a bundled real repository, with its board in the browser."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("example", nargs="?", choices=NAMES, default="boltons")
        parser.add_argument("--exit", action="store_true", help="approve at once, end by itself")
        parser.add_argument("--fresh", action="store_true", help="leave a killed demo alone")
        parser.add_argument("--ceiling", type=int, help="most runs at once")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--json", type=Path, help="write runs and totals to this file")

    def handle(self, *args: Any, **options: Any) -> None:
        if confinement.refusal():
            # The bundled agents are recordings of ours; whoever asks for the demo asks for them.
            os.environ["TUTTI_ALLOW_UNCONFINED"] = "yes"
            self.stdout.write("bubblewrap does not work here: the demo runs unconfined.")
        self.stdout.write(f"Preparing {options['example']} …")
        call_command("migrate", verbosity=0)
        prepared = prepare(options["example"], Path(settings.TUTTI_HOME))
        owner = demo_user()
        project = self._project(options, prepared, owner)
        plan = Plan.objects.select_related("project").filter(project=project).latest("number")
        port = processes.free_port(options["port"])
        programs = processes.everything(
            host="127.0.0.1", port=port, run_threads=settings.TUTTI_RUN_THREADS
        )
        try:
            with processes.ended_by_signals(), processes.Processes(programs) as running:
                processes.wait_for_port("127.0.0.1", port)
                while not clock_runs():
                    running.check()
                    time.sleep(0.1)
                self._announce(plan, owner, port)
                if plan.status == Plan.Status.SUBMITTED:
                    self._approve(plan, owner, at_once=options["exit"], running=running)
                done = progress.follow(plan, self.stdout.write, check=running.check)
                self._sum_up(plan, options["json"], done, port)
                if not options["exit"]:
                    self.stdout.write("The board stays up. Ctrl-C ends it.")
                    while True:
                        running.check()
                        time.sleep(0.5)
        except KeyboardInterrupt:
            self.stdout.write("\nStopped; start it again to go on.")
            return
        except processes.ProcessError as error:
            raise CommandError(str(error)) from error
        if not done:
            raise CommandError("Not everything is merged; start the demo and look at the board.")

    def _project(self, options: dict[str, Any], prepared: Prepared, owner: User) -> Project:
        """The demo that was cut off, else a new project."""
        name = options["example"]
        cut_off = Project.objects.filter(
            slug__startswith=name,
            plans__finished_at__isnull=True,
            source=str(prepared.repo),
            archived_at__isnull=True,
        ).order_by("-pk")
        project = None if options["fresh"] else cut_off.first()
        if project:
            self.stdout.write(f"Going on with {project.slug}.")
            for sentence in project_recover(project, live.SYSTEM, host=settings.TUTTI_HOST):
                self.stdout.write(f"  {sentence}")
        else:
            number = Project.objects.filter(slug__startswith=name).count()
            slug = f"{name}-{number + 1}" if number else name
            call_command(
                "project_create",
                slug,
                source=str(prepared.repo),
                plan=prepared.plan_file,
                owner=owner.username,
                environment=str(prepared.environment),
                verbosity=0,
            )
            project = Project.objects.get(slug=slug)
        if options["ceiling"]:
            ceiling_set(project=project, ceiling=options["ceiling"], by=owner)
        return project

    def _announce(self, plan: Plan, owner: User, port: int) -> None:
        page = reverse("projects:plan", args=[plan.project.slug])
        token = login_link_create(user=owner, next_url=page)
        link = reverse("projects:login-once", args=[token])
        self.stdout.write(f"\n  http://127.0.0.1:{port}{link}\n\n  (signs you in once)\n")

    def _approve(
        self, plan: Plan, owner: User, *, at_once: bool, running: processes.Processes
    ) -> None:
        """Wait for Enter or for Approve in the browser; without a terminal, approve at once."""
        how = "by the demo, without a terminal"
        if at_once:
            how = "by the demo, with --exit"
        elif is_terminal():
            self.stdout.write("Nothing runs before it is approved. Press Enter, or Approve there.")
            how = "by Enter in the demo's terminal"
            while not _enter_pressed():
                running.check()
                plan.refresh_from_db()
                if plan.status == Plan.Status.APPROVED:
                    return
        plan_approve(plan, owner, plan.digest, how=how)

    def _sum_up(self, plan: Plan, path: Path | None, done: bool, port: int) -> None:
        """End on the economics page's numbers; the summary line comes last."""
        plan = Plan.objects.select_related("project").get(pk=plan.pk)
        facts = figures.facts(plan)
        found = economics(facts)
        if path:
            told = figures.as_json(facts, found)
            path.write_text(json.dumps(told, indent=1), encoding="utf-8")
        if not done and plan.blocked_reason:
            self.stdout.write(plan.blocked_reason)
        page = reverse("agents:economics", args=[plan.project.slug])
        self.stdout.write(f"\nEconomics: http://127.0.0.1:{port}{page}?plan={plan.number}")
        for text in telling.text(facts, found):
            self.stdout.write(text)


def demo_user() -> User:
    """The demo's own person, without a password: only its links sign in."""
    user, created = User.objects.get_or_create(
        username="demo", defaults={"email": "demo@localhost", "is_staff": True}
    )
    if created:
        user.is_superuser = True
        user.set_unusable_password()
        user.save()
    return user


def _enter_pressed() -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], 0.3)
    return bool(ready and sys.stdin.readline())
