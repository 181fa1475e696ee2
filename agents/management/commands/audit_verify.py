from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents.management.commands._common import find_project
from projects.services.audit import verify_site
from reviews.audit import verify


class Command(BaseCommand):
    help = "Prove a project's record, or the site's, and name the first broken row."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("slug", nargs="?", help="left out: the site's own chain")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["slug"]:
            broken, chain = verify_site()
            if broken:
                raise CommandError(broken)
            count, head = chain.event_count, chain.event_hash
            self.stdout.write(f"{count} events of the site, chain whole, head {head}.")
            return
        project = find_project(options["slug"])
        broken = verify(project)
        if broken:
            raise CommandError(broken)
        self.stdout.write(f"{project.event_count} events, chain whole, head {project.event_hash}.")
