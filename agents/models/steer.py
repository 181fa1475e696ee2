from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from agents.models.request import Request
from agents.models.run import Run
from projects.models import Module, Project


class Steer(models.Model):
    """What a person tells a running agent, and when the agent was told."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="steers")
    module = models.ForeignKey(Module, on_delete=models.PROTECT, related_name="steers")
    #: The run that it was written to; another one is told when this one ended before.
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="steers")
    text = models.TextField()
    #: The agent's own question that this answers.
    request = models.ForeignKey(
        Request, null=True, blank=True, on_delete=models.PROTECT, related_name="steers"
    )
    #: Whether the agent is interrupted for it.
    at_once = models.BooleanField(default=False)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(auto_now_add=True)
    told_run = models.ForeignKey(
        Run, null=True, blank=True, on_delete=models.PROTECT, related_name="steers_told"
    )
    told_turn = models.PositiveIntegerField(null=True, blank=True)
    told_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["module"], name="steer_waits", condition=Q(told_at__isnull=True))
        ]

    def __str__(self) -> str:
        return f"{self.by}: {self.text[:60]}"

    @property
    def state(self) -> str:
        """delivered, queued, kept for the module's next run, or lost when there is none."""
        if self.told_at is not None:
            return "delivered"
        if self.run.is_active:
            return "queued"
        return "lost" if self.module.status in ENDED else "kept"

    @property
    def receipt(self) -> str:
        """What became of it, as a sentence."""
        if self.state == "delivered":
            other = f" of run {self.told_run_id}" if self.told_run_id != self.run_id else ""
            return f"Delivered at turn {self.told_turn}{other}."
        if self.state == "queued":
            how = "interrupts what it does" if self.at_once else "is its next prompt"
            return f"Queued: the agent is not told yet; this {how}."
        if self.state == "kept":
            return "The run ended before; it is kept for the next run of the module."
        return f"The run ended before, and {self.module.slug} is {self.module.status}: nobody told."


ENDED = (Module.Status.MERGED, Module.Status.CANCELLED)
