from __future__ import annotations

from django.conf import settings
from django.db import models

from agents.models.run import Run
from projects.models import Module, Project


class Request(models.Model):
    """What a run asks of a person, and the answer."""

    class Kind(models.TextChoices):
        EXCEPTION = "exception"  #: may this module change paths that it does not own
        SPLIT = "split"  #: may this module split itself
        COUPLED = "coupled"  #: should these modules share a lane
        QUESTION = "question"  #: a choice or permission

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="requests")
    module = models.ForeignKey(Module, on_delete=models.PROTECT, related_name="requests")
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="requests")
    kind = models.CharField(max_length=12, choices=Kind)
    question = models.TextField()
    data = models.JSONField(default=dict)
    asked_at = models.DateTimeField(auto_now_add=True)
    granted = models.BooleanField(null=True, blank=True)
    answer = models.TextField(blank=True)
    answered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.DO_NOTHING
    )
    answered_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.kind}: {self.question[:60]}"

    @property
    def topic(self) -> str:
        return f"p/{self.project_id}/module/{self.module_id}/request/{self.pk}"
