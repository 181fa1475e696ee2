from __future__ import annotations

from django.apps import AppConfig


class WiringConfig(AppConfig):
    name = "config"
    label = "config"

    def ready(self) -> None:
        # Whoever imports an actor later finds this broker instead of dramatiq's guess.
        from config import broker  # noqa: F401
