from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from agents.models.provider import Provider
from agents.models.providertest import ProviderTest
from agents.models.run import Run
from projects.models import Project


class Quota(models.Model):
    """A maximum that people set, and what of it is spent and reserved right now.

    Claims reserve by conditional update of this row, so `spent + reserved` never grows above
    `limit` in any isolation level. What leaves the window is taken from `spent` by its entries.
    """

    class Scope(models.TextChoices):
        SITE = "site"
        PROVIDER = "provider"
        PROJECT = "project"
        USER = "user"  #: the person who approved the plan

    class Measure(models.TextChoices):
        PARALLEL = "parallel"  #: runs of agents at once
        TOKENS = "tokens"  #: in and out, together
        MONEY = "money"  #: in TUTTI_CURRENCY

    class Period(models.TextChoices):
        NOW = "now"  #: parallel runs have no window
        WINDOW = "window"  #: the last `window_seconds`, rolling
        DAY = "day"  #: since midnight in `time_zone`
        MONTH = "month"  #: since the first of the month in `time_zone`

    scope = models.CharField(max_length=10, choices=Scope)
    provider = models.ForeignKey(
        Provider, null=True, blank=True, on_delete=models.CASCADE, related_name="quotas"
    )
    project = models.ForeignKey(
        Project, null=True, blank=True, on_delete=models.CASCADE, related_name="quotas"
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="quotas",
    )
    measure = models.CharField(max_length=10, choices=Measure)
    period = models.CharField(max_length=10, choices=Period)
    window_seconds = models.PositiveIntegerField(null=True, blank=True)
    time_zone = models.CharField(max_length=60, default="UTC")
    limit = models.DecimalField(max_digits=20, decimal_places=6)
    spent = models.DecimalField(max_digits=20, decimal_places=6, default=0)
    reserved = models.DecimalField(max_digits=20, decimal_places=6, default=0)
    #: Set while the warning at 80 % or the stop at 100 % stands, so each is said once.
    warned_at = models.DateTimeField(null=True, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                F("scope"),
                F("provider"),
                F("project"),
                F("user"),
                F("measure"),
                F("period"),
                name="quota_once",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=Q(limit__gte=0, spent__gte=0, reserved__gte=0),
                name="quota_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(scope="site", provider=None, project=None, user=None)
                | Q(scope="provider", provider__isnull=False, project=None, user=None)
                | Q(scope="project", provider=None, project__isnull=False, user=None)
                | Q(scope="user", provider=None, project=None, user__isnull=False),
                name="quota_scope",
            ),
            models.CheckConstraint(
                condition=Q(measure="parallel", period="now")
                | Q(measure="tokens", period__in=["window", "day", "month"])
                | Q(measure="money", period__in=["window", "day", "month"]),
                name="quota_period",
            ),
            models.CheckConstraint(
                condition=Q(period="window", window_seconds__gt=0)
                | (~Q(period="window") & Q(window_seconds=None)),
                name="quota_window",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.measure} {self.period}"


class QuotaEntry(models.Model):
    """What one run reserved and spent of one quota; settled at its end, expired by the window.

    A test of a provider has one too, without a run: it only ever spends.
    """

    quota = models.ForeignKey(Quota, on_delete=models.CASCADE, related_name="entries")
    run = models.ForeignKey(
        Run, null=True, blank=True, on_delete=models.PROTECT, related_name="quota_entries"
    )
    test = models.ForeignKey(
        ProviderTest,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="quota_entries",
    )
    reserved = models.DecimalField(max_digits=20, decimal_places=6, default=0)
    spent = models.DecimalField(max_digits=20, decimal_places=6, default=0)
    #: The agent did not say what it used, so the estimate counts.
    is_estimated = models.BooleanField(default=False)
    opened_at = models.DateTimeField(auto_now_add=True)
    spent_at = models.DateTimeField(null=True, blank=True)
    expired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["quota", "run"], name="quota_entry_once"),
            models.CheckConstraint(
                condition=Q(run__isnull=False, test=None) | Q(run=None, test__isnull=False),
                name="quota_entry_of_one",
            ),
            models.CheckConstraint(
                condition=Q(run__isnull=False) | Q(reserved=0), name="quota_entry_test_spends"
            ),
        ]
        indexes = [
            models.Index(
                fields=["quota", "spent_at"],
                name="quota_entry_live",
                condition=Q(expired_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quota}: {self.spent}"
