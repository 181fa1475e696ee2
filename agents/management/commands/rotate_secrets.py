from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from agents.services.secrets import secrets_rotate
from projects import live, secrets


class Command(BaseCommand):
    help = "Seal every stored secret under the newest key, while everything goes on."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--new-key", action="store_true", help="first make a new key in the key file"
        )
        parser.add_argument(
            "--drop-old", action="store_true", help="afterwards remove the older keys from the file"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["new_key"]:
                self.stdout.write(f"Made the key {secrets.new_key()}.")
            done, lost = secrets_rotate()
        except secrets.SecretError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{done} secrets are sealed under the newest key.")
        with transaction.atomic():
            live.site_event("secrets.rotated", live.SITE, live.SYSTEM, count=done, lost=len(lost))
        if lost:
            raise CommandError("\n".join(lost))
        if options["drop_old"]:
            self.stdout.write(f"{secrets.drop_old_keys()} older keys are gone.")
