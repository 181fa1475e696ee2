from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand

from agents.services.recovery import project_recover
from projects import live
from projects.models import Project


class Command(BaseCommand):
    help = "Reconcile rows, processes and branches after a crash, and say what was done."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("slug", nargs="?", help="one project; all of them when left out")
        parser.add_argument("--host", default="", help="give up every run of this host at once")

    def handle(self, *args: Any, **options: Any) -> None:
        projects = Project.objects.filter(archived_at__isnull=True)
        if options["slug"]:
            projects = projects.filter(slug=options["slug"])
        for project in projects:
            for sentence in project_recover(project, live.SYSTEM, host=options["host"]):
                self.stdout.write(f"{project.slug}: {sentence}")
        self.stdout.write("Nothing else was to be done.")
