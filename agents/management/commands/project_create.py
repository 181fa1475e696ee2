from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents.management.commands._common import find_user
from agents.services.coupling import coupling_apply
from projects import planfile
from projects.services.errors import Refused
from projects.services.plans import plan_import, plan_submit
from projects.services.projects import ceiling_set, project_create, settings_set


class Command(BaseCommand):
    help = "Make a project of a repository, with a submitted plan."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--source", required=True, help="path or URL of the repository")
        parser.add_argument("--plan", required=True, type=Path, help="a tutti.yaml")
        parser.add_argument("--owner", required=True, help="user name")
        parser.add_argument("--branch", default="main")
        parser.add_argument("--environment", default="", help="virtual environment of the checks")
        parser.add_argument("--name", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = find_user(options["owner"])
        try:
            file = planfile.load(options["plan"].read_text(encoding="utf-8"))
            project = project_create(
                slug=options["slug"],
                source=options["source"],
                owner=owner,
                name=options["name"] or file.project.name,
                branch=options["branch"],
                environment=options["environment"],
                goal=file.project.goal,
            )
            settings_set(
                project=project, by=owner, policies=file.project.policies.model_dump(mode="json")
            )
            if file.project.ceiling != project.ceiling:
                ceiling_set(project=project, ceiling=file.project.ceiling, by=owner)
            plan = plan_import(project, file, owner)
            put = coupling_apply(plan, owner)
            plan_submit(plan, owner)
        except (OSError, planfile.PlanFileError) as error:
            raise CommandError(str(error)) from error
        except Refused as error:
            lines = [f"  {p.module or 'plan'}: {p.field}: {p.message}" for p in error.problems]
            raise CommandError("\n".join([error.message, *lines])) from error
        for one in put:
            self.stdout.write(f"One lane, by policy: {', '.join(one.modules)} ({one.evidence[0]}).")
        self.stdout.write(f"Project {project.slug}: plan {plan.number} waits for approval.")
