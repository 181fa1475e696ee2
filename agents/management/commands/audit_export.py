from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand

from agents.management.commands._common import find_project
from projects.services.audit import export_csv, export_json_lines


class Command(BaseCommand):
    help = "Write a project's record to standard output, as JSON Lines or CSV."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--format", choices=["jsonl", "csv"], default="jsonl")

    def handle(self, *args: Any, **options: Any) -> None:
        write = export_csv if options["format"] == "csv" else export_json_lines
        for line in write(find_project(options["slug"])):
            self.stdout.write(line, ending="")
