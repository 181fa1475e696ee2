from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents.escape_scene import host_facts, scene
from agents.escapes import ESCAPES


class Command(BaseCommand):
    help = "Try to break out of the sandbox in every known way, and say what holds on this host."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--only", default="", help="ways whose group or name begins so")

    def handle(self, *args: Any, **options: Any) -> None:
        only = options["only"]
        chosen = [e for e in ESCAPES if e.name.startswith(only) or e.group.startswith(only)]
        if not chosen:
            groups = ", ".join(sorted({escape.group for escape in ESCAPES}))
            raise CommandError(f"No way out is called {only}. The groups are: {groups}.")
        with scene() as made:
            verdicts = []
            for escape in chosen:
                verdicts.append(made.attempt(escape))
                self.stdout.write(verdicts[-1].line)
                self.stdout.flush()
        self.stdout.write("\nOn this host:")
        for name, sentence in host_facts():
            self.stdout.write(f"  {name}: {sentence}")
        escaped = [verdict for verdict in verdicts if not verdict.held]
        self.stdout.write(f"{len(verdicts) - len(escaped)} of {len(verdicts)} held.")
        if escaped:
            raise CommandError(f"{len(escaped)} got out: do not let agents work here like that.")
