from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents.management.commands._common import find_project, find_user
from projects.services.errors import Refused
from projects.services.publishing import publish


class Command(BaseCommand):
    help = "Move the team's branch forward to what is merged, or push it as a branch."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--as", dest="user", required=True, help="user name")
        parser.add_argument("--branch", default="", help="push this branch instead")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            said = publish(
                find_project(options["slug"]), find_user(options["user"]), options["branch"]
            )
        except Refused as error:
            raise CommandError(error.message) from error
        self.stdout.write(said)
