from __future__ import annotations

from django.db import models

from projects.models import Module, Plan


class Conversation(models.Model):
    """What the orchestrator knows of a plan; an immutable prefix that each review branches off."""

    plan = models.OneToOneField(Plan, on_delete=models.PROTECT, related_name="conversation")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"conversation of {self.plan}"


class ConversationEntry(models.Model):
    """One thing said; append-only. Without a branch it belongs to the common prefix."""

    class Kind(models.TextChoices):
        DECOMPOSITION = "decomposition"  #: the modules, who cut them and why
        DELEGATION = "delegation"  #: what a module's planner or executor was told
        REVIEW = "review"  #: a judgement, on the branch of its module
        FIX = "fix"  #: the orchestrator's own mending, on the branch of its module

    conversation = models.ForeignKey(Conversation, on_delete=models.PROTECT, related_name="entries")
    sequence = models.PositiveIntegerField()
    kind = models.CharField(max_length=14, choices=Kind)
    module = models.ForeignKey(Module, null=True, blank=True, on_delete=models.PROTECT)
    run_topic = models.CharField(max_length=120, blank=True)
    #: The branch (module's topic) of a review or fix; empty for the prefix.
    branch = models.CharField(max_length=120, blank=True)
    text = models.TextField()
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["sequence"]
        constraints = [
            models.UniqueConstraint(fields=["conversation", "sequence"], name="entry_sequence"),
        ]

    def __str__(self) -> str:
        return f"{self.sequence} {self.kind}"
