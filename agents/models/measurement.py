from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from projects.models import Plan, Project


class Measurement(models.Model):
    """One look at a plan's checks on the commit that it starts from, before any code is written.

    `rows` are {command, kind, ok, seconds}, one for each different command. They are no judgement
    of a module's work, so they are kept apart from the record of checks.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="measurements")
    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="measurements")
    commit = models.CharField(max_length=64)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    asked_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    #: Last sign of life of the worker that measures.
    seen_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    rows = models.JSONField(default=list)
    #: Why it ended without all of its rows; empty when nothing is missing.
    problem = models.TextField(blank=True)
    #: Why the team's repository did not answer; empty when it did.
    source_problem = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project"],
                condition=Q(ended_at__isnull=True),
                name="measurement_one_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"checks of {self.plan}"
