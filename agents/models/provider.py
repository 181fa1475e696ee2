from __future__ import annotations

from django.db import models
from django.db.models import F


class Provider(models.Model):
    """An account of a backend that runs are charged to, and the state of its breaker."""

    class Breaker(models.TextChoices):
        CLOSED = "closed"  #: runs start up to what quotas allow
        THROTTLED = "throttled"  #: answered 429: fewer at once, then one more after each calm
        EXHAUSTED = "exhausted"  #: the account is used up until `wake_at`; nothing starts

    name = models.SlugField(max_length=60, unique=True)
    title = models.CharField(max_length=120, blank=True)
    breaker = models.CharField(max_length=10, choices=Breaker, default=Breaker.CLOSED)
    #: Most runs at once while the breaker is throttled.
    slots = models.PositiveIntegerField(null=True, blank=True)
    reason = models.TextField(blank=True)
    changed_at = models.DateTimeField(null=True, blank=True)
    wake_at = models.DateTimeField(null=True, blank=True)
    active_runs = models.IntegerField(default=0)
    #: The account's key, sealed by projects.secrets; it goes in and is never shown again.
    secret = models.TextField(blank=True, editable=False)
    #: Name of the environment variable that an agent finds it in, e.g. ANTHROPIC_API_KEY.
    secret_env = models.CharField(max_length=60, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(active_runs__gte=0), name="provider_active_runs"
            ),
        ]

    def __str__(self) -> str:
        return self.title or self.name


class Price(models.Model):
    """What a model costs, as an admin entered it: money per million tokens, in TUTTI_CURRENCY."""

    provider = models.ForeignKey(
        Provider, null=True, blank=True, on_delete=models.CASCADE, related_name="prices"
    )
    model = models.CharField(max_length=120)
    input_per_million = models.DecimalField(max_digits=12, decimal_places=6)
    output_per_million = models.DecimalField(max_digits=12, decimal_places=6)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                F("provider"), F("model"), name="price_model", nulls_distinct=False
            ),
            models.CheckConstraint(
                condition=models.Q(input_per_million__gte=0, output_per_million__gte=0),
                name="price_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return self.model
