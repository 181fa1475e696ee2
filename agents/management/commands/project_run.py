from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents import figures, progress
from agents.economics import economics
from agents.management.commands._common import find_project, find_user, newest_plan, workers
from projects.models import Plan
from projects.services.errors import Refused
from projects.services.plans import plan_approve
from projects.services.projects import ceiling_set


class Command(BaseCommand):
    help = "Approve a project's plan and run it; with --wait, until all is merged."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--approve-as", help="user name of a maintainer")
        parser.add_argument("--ceiling", type=int, help="most runs at once")
        parser.add_argument("--wait", action="store_true", help="show progress until the end")
        parser.add_argument("--json", type=Path, help="write runs and totals to this file")

    def handle(self, *args: Any, **options: Any) -> None:
        project = find_project(options["slug"])
        plan = newest_plan(project)
        try:
            if options["ceiling"]:
                by = find_user(options["approve_as"]) if options["approve_as"] else None
                if by is None:
                    raise CommandError("--ceiling takes --approve-as, for the record.")
                ceiling_set(project=project, ceiling=options["ceiling"], by=by)
            if plan.status == Plan.Status.SUBMITTED:
                if not options["approve_as"]:
                    raise CommandError("The plan is not approved yet; say who does: --approve-as.")
                by = find_user(options["approve_as"])
                plan_approve(plan, by, plan.digest, how="from the command line")
            elif plan.status != Plan.Status.APPROVED:
                raise CommandError(f"Plan {plan.number} is {plan.status}; submit it first.")
        except Refused as error:
            raise CommandError(error.message) from error
        if options["wait"]:
            with workers() as check:
                done = progress.follow(plan, self.stdout.write, check=check)
            plan = Plan.objects.select_related("project").get(pk=plan.pk)
            facts = figures.facts(plan)
            self._write(plan, options["json"])
            self.stdout.write(figures.line(facts, economics(facts, with_curve=False)))
            if not done:
                raise CommandError("Not everything is merged; the board says what is asked.")
        else:
            self._write(plan, options["json"])

    def _write(self, plan: Plan, path: Path | None) -> None:
        if path:
            facts = figures.facts(plan)
            told = figures.as_json(facts, economics(facts))
            path.write_text(json.dumps(told, indent=1), encoding="utf-8")
