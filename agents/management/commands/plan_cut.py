from __future__ import annotations

import argparse
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from agents.management.commands._common import find_project, find_user
from agents.services.cutting import plan_cut
from projects import plancontent
from projects.models import Membership, Project, Role
from projects.services.errors import Refused


class Command(BaseCommand):
    help = "Cut a project by its packages and imports, without any model, into a draft."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--as", dest="user", help="who asks; by default the project's owner")

    def handle(self, *args: Any, **options: Any) -> None:
        project = find_project(options["slug"])
        by = find_user(options["user"]) if options["user"] else _owner(project)
        try:
            plan = plan_cut(project, by)
        except Refused as error:
            raise CommandError(error.message) from error
        for spec in plancontent.plan_specs(plan):
            needs = ", ".join(f"{need.module} ({need.kind})" for need in spec.needs) or "nothing"
            self.stdout.write(f"{spec.slug}: owns {', '.join(spec.owns)}; needs {needs}")
        problems = plancontent.plan_problems(plan)
        for problem in problems:
            self.stdout.write(f"  {problem}")
        count = len(plancontent.plan_specs(plan))
        self.stdout.write(
            f"Plan {plan.number} of {project.slug} is a draft with {count} modules and "
            f"{len(problems)} problems. Say in each what of the goal it does, then submit it."
        )


def _owner(project: Project) -> User:
    rows = Membership.objects.filter(project=project, role=Role.OWNER).select_related("user")
    first = rows.order_by("pk").first()
    if first is None:
        raise CommandError(f"{project.slug} has no owner; say with --as who asks.")
    return first.user
