from __future__ import annotations

from django.conf import settings as site
from django.db import models
from django.db.models import F, Q

from agents.models.profile import Profile
from agents.models.provider import Provider
from projects.models import Project


class ProviderTest(models.Model):
    """One try of a profile as it was when somebody asked: is it there, does it answer, what for.

    It belongs to no module and no plan, so it is no run; what it used counts in quotas all the
    same. `facts` are what was found so far, see agents/providertest.py.
    """

    project = models.ForeignKey(
        Project, null=True, blank=True, on_delete=models.CASCADE, related_name="provider_tests"
    )
    role = models.CharField(max_length=14, choices=Profile.Role)
    backend = models.CharField(max_length=20)
    model = models.CharField(max_length=120, blank=True)
    provider = models.ForeignKey(
        Provider, null=True, blank=True, on_delete=models.SET_NULL, related_name="tests"
    )
    settings = models.JSONField(default=dict, blank=True)
    asked_by = models.ForeignKey(
        site.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    asked_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    #: Last sign of life of the worker that tests.
    seen_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    host = models.CharField(max_length=200, blank=True)
    facts = models.JSONField(default=dict)
    #: Why it failed, as a run would say it, and of what kind that is; empty when it passed.
    problem = models.TextField(blank=True)
    problem_kind = models.CharField(max_length=30, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                F("project"),
                F("role"),
                condition=Q(ended_at__isnull=True),
                name="provider_test_one_at_a_time",
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        return f"test of {self.role}: {self.backend} {self.model}"

    @property
    def profile(self) -> Profile:
        """The profile as it was, without a row of its own."""
        return Profile(
            project=self.project,
            role=self.role,
            backend=self.backend,
            model=self.model,
            provider=self.provider,
            settings=self.settings,
        )
