from __future__ import annotations

from django.db import models
from django.db.models import F

from agents.models.provider import Provider
from projects.models import Project


class Profile(models.Model):
    """Which backend and model plays a role, for the site (no project) or one project."""

    class Role(models.TextChoices):
        ORCHESTRATOR = "orchestrator"  #: decomposes, delegates, reviews, fixes small errors
        PLANNER = "planner"  #: writes each module's tests first
        EXECUTOR = "executor"  #: codes until they pass

    project = models.ForeignKey(
        Project, null=True, blank=True, on_delete=models.CASCADE, related_name="profiles"
    )
    role = models.CharField(max_length=14, choices=Role)
    backend = models.CharField(max_length=20, default="replay")
    model = models.CharField(max_length=120, blank=True)
    #: The account that its runs are charged to; without one only site, project and user count.
    provider = models.ForeignKey(
        Provider, null=True, blank=True, on_delete=models.PROTECT, related_name="profiles"
    )
    #: Backend settings, e.g. {"command": ["claude", "-p"], "timeout_seconds": 1800}.
    settings = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                F("project"), F("role"), name="profile_role", nulls_distinct=False
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role}: {self.backend} {self.model}"
