from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand
from django.urls import reverse

from agents.management.commands._common import find_user
from projects.services.projects import login_link_create


class Command(BaseCommand):
    help = "Print a link that signs a user in once."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("user")
        parser.add_argument("--base", default="http://localhost:8000")
        parser.add_argument("--next", default="/")

    def handle(self, *args: Any, **options: Any) -> None:
        token = login_link_create(user=find_user(options["user"]), next_url=options["next"])
        self.stdout.write(
            options["base"].rstrip("/") + reverse("projects:login-once", args=[token])
        )
