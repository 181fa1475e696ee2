from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents.services.recovery import check_invariants


class Command(BaseCommand):
    help = "Prove that nothing is that must never be; exit 1 and a line for each violation."

    def handle(self, *args: Any, **options: Any) -> None:
        found = check_invariants()
        if found:
            raise CommandError("\n".join(found))
        self.stdout.write("No violation.")
