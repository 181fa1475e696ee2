from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from projects.models.people import Role
from projects.models.project import Project

#: A kind and a name, as in "person:alice"; Django's user names have up to 150 characters.
ACTOR_LENGTH = 160


class Fact(models.Model):
    """What every numbered, append-only fact says; `hash` chains it to the one before."""

    number: models.BigIntegerField[int, int]
    at = models.DateTimeField()
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.DO_NOTHING
    )
    kind = models.CharField(max_length=60)
    topic = models.CharField(max_length=120)
    data = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64, blank=True)
    hash = models.CharField(max_length=64)

    class Meta:
        abstract = True
        ordering = ["number"]

    def __str__(self) -> str:
        return f"{self.number} {self.kind}"


class Event(Fact):
    """A numbered, append-only fact of a project, chained by hash."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="events")
    number = models.BigIntegerField()
    actor = models.CharField(
        max_length=ACTOR_LENGTH, help_text="person:alice, run:91 or system:clock."
    )

    class Meta(Fact.Meta):
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="event_number"),
        ]
        indexes = [models.Index(fields=["topic", "number"], name="event_topic")]


class SiteEvent(Fact):
    """A numbered, append-only fact of the whole site (quotas, providers, hosts), hash chained."""

    number = models.BigIntegerField(unique=True)
    actor = models.CharField(max_length=ACTOR_LENGTH)

    class Meta(Fact.Meta):
        indexes = [models.Index(fields=["topic", "number"], name="site_event_topic")]


class SiteChain(models.Model):
    """How far the site's chain goes, in one row: so that nobody takes its end away unseen."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    event_count = models.BigIntegerField(default=0)
    event_hash = models.CharField(max_length=64, blank=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="site_chain_one")]

    def __str__(self) -> str:
        return f"{self.event_count} {self.event_hash}"

    @staticmethod
    def head() -> SiteChain:
        """The one row; a new one, which nobody has saved yet, before the first event."""
        return SiteChain.objects.first() or SiteChain()


class Attention(models.Model):
    """Something that waits for a person: what is asked, of whom, where to answer."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="attentions")
    topic = models.CharField(max_length=120)
    kind = models.CharField(max_length=40)
    title = models.CharField(max_length=300)
    detail = models.TextField(blank=True)
    role = models.CharField(max_length=12, choices=Role, default=Role.MEMBER)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    url = models.CharField(max_length=300)
    deadline = models.DateTimeField(null=True, blank=True)
    opened_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=ACTOR_LENGTH, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["topic", "kind"],
                condition=Q(closed_at__isnull=True),
                name="attention_open_once",
            ),
        ]

    def __str__(self) -> str:
        return self.title


class Comment(models.Model):
    """Conversation on a topic; with a path and line it is a remark for the agent."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="comments")
    topic = models.CharField(max_length=120, db_index=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    text = models.TextField()
    path = models.CharField(max_length=500, blank=True)
    line = models.PositiveIntegerField(null=True, blank=True)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.text[:60]
