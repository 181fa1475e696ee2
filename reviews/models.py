from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from projects.models import Module, Project


class Review(models.Model):
    """A judgement of a commit range; append-only. An overruling is a further review."""

    class Verdict(models.TextChoices):
        APPROVE = "approve"  #: goes to the merge queue
        FIX = "fix"  #: the orchestrator mends it itself
        REBUILD = "rebuild"  #: another agent builds again
        ASK = "ask"  #: a person has to decide

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="reviews")
    module = models.ForeignKey(Module, on_delete=models.PROTECT, related_name="reviews")
    run_topic = models.CharField(max_length=120, blank=True)
    base_commit = models.CharField(max_length=64)
    head_commit = models.CharField(max_length=64)
    verdict = models.CharField(max_length=10, choices=Verdict)
    summary = models.TextField(blank=True)
    model = models.CharField(max_length=120, blank=True)
    prompt_version = models.CharField(max_length=40, blank=True)
    #: The accountable person: who overruled, or who approved the plan that let this run.
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.DO_NOTHING
    )
    overrules = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.module} {self.verdict}"

    @property
    def topic(self) -> str:
        return f"p/{self.project_id}/review/{self.pk}"


class Finding(models.Model):
    """One remark of a gate, a review, a merge or a person; append-only."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="findings")
    module = models.ForeignKey(Module, on_delete=models.PROTECT, related_name="findings")
    review = models.ForeignKey(
        Review, null=True, blank=True, on_delete=models.PROTECT, related_name="findings"
    )
    run_topic = models.CharField(max_length=120, blank=True)
    batch = models.BigIntegerField(help_text="Findings of one judgement share a batch.")
    source = models.CharField(max_length=30, help_text="ownership, tests, red, check, review …")
    path = models.CharField(max_length=500, blank=True)
    line = models.PositiveIntegerField(null=True, blank=True)
    clause = models.CharField(max_length=200, blank=True, help_text="Clause of the contract.")
    message = models.TextField()
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["module", "batch"], name="finding_batch")]

    def __str__(self) -> str:
        return f"{self.source}: {self.message[:60]}"


class CheckResult(models.Model):
    """What a check command did on a commit; append-only."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="check_results")
    module = models.ForeignKey(
        Module, null=True, blank=True, on_delete=models.PROTECT, related_name="check_results"
    )
    run_topic = models.CharField(max_length=120, blank=True)
    phase = models.CharField(max_length=10, help_text="red, green, merge or end.")
    command = models.CharField(max_length=2000)
    commit = models.CharField(max_length=64)
    exit_code = models.IntegerField(null=True)
    ok = models.BooleanField()
    kind = models.CharField(max_length=20, help_text="passed, failed, collection_error …")
    flaky = models.BooleanField(default=False)
    seconds = models.FloatField()
    output = models.TextField(blank=True)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.command} {self.kind}"


class Merge(models.Model):
    """One try to bring a module's branch in: intent, tested commit, outcome. Frozen when ended."""

    class Status(models.TextChoices):
        TESTING = "testing"  #: the merged tree is being checked
        SWAPPING = "swapping"  #: checks are green; the branch is about to move
        MERGED = "merged"  #: the branch points at the tested commit
        REFUSED = "refused"  #: conflict or red; the branch did not move
        ABANDONED = "abandoned"  #: its worker was lost, or the branch moved first

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="merges")
    module = models.ForeignKey(Module, on_delete=models.PROTECT, related_name="merges")
    run_topic = models.CharField(max_length=120, blank=True)
    branch = models.CharField(max_length=200, help_text="Full ref that moves.")
    base_commit = models.CharField(max_length=64, help_text="Where the branch was.")
    head_commit = models.CharField(max_length=64, help_text="What comes in.")
    tested_commit = models.CharField(max_length=64, blank=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.TESTING)
    reason = models.TextField(blank=True)
    started_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "branch"],
                condition=Q(status__in=["testing", "swapping"]),
                name="merge_one_per_branch",
            ),
            models.UniqueConstraint(
                fields=["project", "tested_commit"],
                condition=Q(status="merged"),
                name="merge_commit_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.module} into {self.branch}: {self.status}"
