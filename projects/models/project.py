from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q


class Project(models.Model):
    """A repository, its team and what the team allows."""

    slug = models.SlugField(unique=True, max_length=60)
    name = models.CharField(max_length=200)
    goal = models.TextField(blank=True)
    source = models.CharField(max_length=1000, help_text="Path or URL of the team's repository.")
    #: Token or private key of the source, sealed; whose it is, and the host's known ssh keys.
    source_secret = models.TextField(blank=True, default="")
    source_user = models.CharField(max_length=200, blank=True, default="")
    source_known_hosts = models.TextField(blank=True, default="")
    default_branch = models.CharField(max_length=200, default="main")
    environment = models.CharField(
        max_length=1000, blank=True, help_text="Virtual environment that checks run in."
    )
    policies = models.JSONField(default=dict)
    weight = models.PositiveIntegerField(default=1, validators=[MinValueValidator(1)])
    ceiling = models.PositiveIntegerField(default=5, validators=[MinValueValidator(1)])
    #: Runs that hold a slot. The claiming update keeps it below the ceiling.
    active_runs = models.IntegerField(default=0)
    paused_at = models.DateTimeField(null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)
    #: Its code and workspaces are gone; the rows stay, for the record is append-only.
    deleted_at = models.DateTimeField(null=True, blank=True)
    #: Number and hash of the newest event: the head of the audit chain.
    event_count = models.BigIntegerField(default=0)
    event_hash = models.CharField(max_length=64, default="", blank=True)
    binding = models.JSONField(
        default=dict, help_text="What bounds the number of runs now: limit, numbers, sentence."
    )
    published_commit = models.CharField(max_length=64, blank=True)
    hub_host = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(active_runs__gte=0), name="project_active_runs"),
            models.CheckConstraint(condition=Q(ceiling__gte=1), name="project_ceiling"),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def topic(self) -> str:
        return f"p/{self.pk}"

    @property
    def hub_path(self) -> Path:
        return Path(settings.TUTTI_HOME) / "hubs" / f"{self.pk}.git"


class Instruction(models.Model):
    """Standing text for agents; the newest version of a scope is in force."""

    class Scope(models.TextChoices):
        SITE = "site"  #: every project of this server
        PROJECT = "project"  #: every run of one project
        ROLE = "role"  #: runs of one role, on the site or in one project

    scope = models.CharField(max_length=10, choices=Scope)
    project = models.ForeignKey(Project, null=True, blank=True, on_delete=models.CASCADE)
    role = models.CharField(max_length=20, blank=True)
    text = models.TextField(blank=True)
    version = models.PositiveIntegerField(default=1)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL
    )
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                F("scope"),
                F("project"),
                F("role"),
                F("version"),
                name="instruction_version",
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.role} v{self.version}"
