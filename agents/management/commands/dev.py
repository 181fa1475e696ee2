from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config import processes


class Command(BaseCommand):
    help = "Run web, workers and clock on this machine until Ctrl-C."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            processes.dev(host=options["host"], port=options["port"])
        except processes.ProcessError as error:
            raise CommandError(str(error)) from error
