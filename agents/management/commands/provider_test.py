from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents.management.commands._common import find_project, find_user
from agents.models import Profile, ProviderTest
from agents.services import providertests
from agents.testreport import WAITING
from projects.services.errors import Refused


class Command(BaseCommand):
    help = "Start the backend that plays a role, in its sandbox, and ask it for one word."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("role", choices=Profile.Role.values)
        parser.add_argument("--project", help="its slug; without one the site's profile is tested")
        parser.add_argument("--as", dest="user", help="who asks; by default Tutti itself")

    def handle(self, *args: Any, **options: Any) -> None:
        project = find_project(options["project"]) if options["project"] else None
        by = find_user(options["user"]) if options["user"] else None
        try:
            asked = providertests.test_ask(project, options["role"], by, is_sent=False)
        except Refused as error:
            raise CommandError(error.message) from error
        said: dict[str, str] = {}

        def told(test: ProviderTest) -> None:
            for row in providertests.rows_of(test):
                if row.state != WAITING and said.get(row.key) != row.text:
                    said[row.key] = row.text
                    self.stdout.write(f"{row.word:<7} {row.title}: {row.text}")

        if asked.started_at is not None:
            raise CommandError(f"A worker makes test {asked.pk} of this role now; wait for it.")
        providertests.test_do(asked.pk, told)
        done = ProviderTest.objects.get(pk=asked.pk)
        if done.problem:
            raise CommandError(f"It does not work: {done.problem}")
        self.stdout.write(f"{done.backend} {done.model} works as {done.role}.")
