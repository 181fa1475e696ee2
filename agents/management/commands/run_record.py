from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents import recording
from agents.models import Run
from projects.services.errors import Refused


class Command(BaseCommand):
    help = "Save what the agent of a run did as recordings that play again."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("run", type=int, help="the number of the run")
        parser.add_argument(
            "--to", type=Path, required=True, metavar="DIR", help="directory of recordings"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        rows = Run.objects.select_related("project", "module", "plan")
        run = rows.filter(pk=options["run"]).first()
        if run is None:
            raise CommandError(f"There is no run {options['run']}.")
        folder: Path = options["to"] / "base"
        try:
            found = recording.recordings(run)
            folder.mkdir(parents=True, exist_ok=True)
            for name, lines in found.items():
                (folder / name).write_text(recording.text(lines), encoding="ascii")
                self.stdout.write(str(folder / name))
        except Refused as refused:
            raise CommandError(str(refused)) from refused
        except OSError as error:
            raise CommandError(f"{folder} can't be written: {error.strerror}.") from error
