from __future__ import annotations

from django.db import models

from agents.models.run import Run


class Channel(models.Model):
    """A running agent's way back to Tutti: whose token it is, and whether it was ever used."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="channel")
    #: The run's lease; with a newer one the token is dead.
    fence = models.PositiveIntegerField()
    #: SHA-256 of the token; the token itself is stored nowhere.
    token_hash = models.CharField(max_length=64, unique=True)
    offered_at = models.DateTimeField(auto_now_add=True)
    #: When the agent first asked which tools there are.
    connected_at = models.DateTimeField(null=True, blank=True)
    #: When Tutti said that the agent never connected.
    warned_at = models.DateTimeField(null=True, blank=True)
    #: Progress that the agent reported, in order: [{text}].
    notes = models.JSONField(default=list)
    #: Parts that the agent proposed: its turn ends with them.
    split = models.JSONField(null=True, blank=True)

    def __str__(self) -> str:
        return f"channel of run {self.run_id}"
