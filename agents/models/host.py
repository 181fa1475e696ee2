from __future__ import annotations

from django.db import models


class Host(models.Model):
    """A machine that runs agents and the newest reading of it."""

    name = models.CharField(max_length=200, unique=True)
    cores = models.PositiveIntegerField(default=1)
    memory_mb = models.PositiveIntegerField(default=0)
    memory_available_mb = models.PositiveIntegerField(default=0)
    disk_free_mb = models.PositiveIntegerField(default=0)
    sandbox = models.CharField(max_length=20, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    draining = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.name
