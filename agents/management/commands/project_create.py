from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents.estimate_facts import estimate_of
from agents.management.commands._common import find_user
from agents.services.coupling import coupling_apply
from projects import planfile
from projects.services.errors import Refused
from projects.services.plans import plan_import, plan_submit
from projects.services.projects import ceiling_set, project_create, settings_set


def secret_of(file: str | None) -> str:
    """The source's credential: from a file, from standard input for "-", or the environment."""
    if file is None:
        return os.environ.get("TUTTI_SOURCE_SECRET", "")
    return sys.stdin.read() if file == "-" else Path(file).read_text()


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
        parser.add_argument(
            "--secret-file",
            help="file with the token (https) or private key (ssh) of a private repository; - reads"
            " it from standard input. Without it, TUTTI_SOURCE_SECRET counts. It is no argument of"
            " its own, for everybody on this machine can read those.",
        )
        parser.add_argument("--secret-user", default="", help="user name of the token")
        parser.add_argument("--known-hosts", type=Path, help="file with the host keys for ssh")

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
                secret=secret_of(options["secret_file"]),
                secret_user=options["secret_user"],
                known_hosts=options["known_hosts"].read_text() if options["known_hosts"] else "",
            )
            settings_set(
                project=project, by=owner, policies=file.project.policies.model_dump(mode="json")
            )
            if file.project.ceiling != project.ceiling:
                ceiling_set(project=project, ceiling=file.project.ceiling, by=owner)
            plan = plan_import(project, file, owner)
            put = coupling_apply(plan, owner)
            plan_submit(plan, owner)
        except (OSError, UnicodeDecodeError, planfile.PlanFileError) as error:
            raise CommandError(str(error)) from error
        except Refused as error:
            lines = [f"  {p.module or 'plan'}: {p.field}: {p.message}" for p in error.problems]
            raise CommandError("\n".join([error.message, *lines])) from error
        for one in put:
            self.stdout.write(f"One lane, by policy: {', '.join(one.modules)} ({one.evidence[0]}).")
        estimate = estimate_of(plan)
        for sentence in (estimate.sentence, *estimate.warnings):
            self.stdout.write(sentence)
        self.stdout.write(f"Project {project.slug}: plan {plan.number} waits for approval.")
