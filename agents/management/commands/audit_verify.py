from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents.management.commands._common import find_project
from projects.services.audit import verify


class Command(BaseCommand):
    help = "Prove a project's chain of events, and name the first broken row."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("slug")

    def handle(self, *args: Any, **options: Any) -> None:
        project = find_project(options["slug"])
        broken = verify(project)
        if broken:
            raise CommandError(broken)
        self.stdout.write(f"{project.event_count} events, chain whole, head {project.event_hash}.")
