from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents import figures, record, telling
from agents.economics import PlanFacts, economics
from agents.management.commands._common import find_project
from projects.models import Plan


class Command(BaseCommand):
    help = "What a plan cost, how near it came to the best possible time, and what if."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--plan", type=int, help="number; by default the last approved one")
        parser.add_argument("--json", type=Path, help="write runs and figures to this file")
        parser.add_argument(
            "--from-export",
            type=Path,
            metavar="FILE",
            help="recompute from an export of manage.py audit_export (JSON Lines) alone",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        facts = self._facts(options)
        found = economics(facts)
        for text in telling.text(facts, found):
            self.stdout.write(text)
        if options["json"]:
            try:
                options["json"].write_text(
                    json.dumps(figures.as_json(facts, found), indent=1), encoding="utf-8"
                )
            except OSError as error:
                raise CommandError(f"{options['json']} can't be written: {error}") from error

    def _facts(self, options: dict[str, Any]) -> PlanFacts:
        number = options["plan"]
        if options["from_export"]:
            try:
                events = record.read_file(options["from_export"])
                return record.facts(events, project=options["slug"], number=number)
            except record.RecordError as error:
                raise CommandError(str(error)) from error
        project = find_project(options["slug"])
        plan = figures.plan_shown(project, number)
        if plan is None:
            known = Plan.objects.filter(project=project, decided_at__isnull=False)
            numbers = ", ".join(str(n) for n in known.values_list("number", flat=True)) or "none"
            wanted = f"plan {number}" if number else "plan"
            raise CommandError(
                f"{project.slug} has no approved {wanted} yet; approved are: {numbers}."
            )
        return figures.facts(plan)
