from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from projects.models.project import Project


class Plan(models.Model):
    """Modules and dependencies put up for approval; what a person approves is what runs."""

    class Status(models.TextChoices):
        DRAFT = "draft"  #: people edit it
        SUBMITTED = "submitted"  #: complete and valid, waits for a maintainer
        APPROVED = "approved"  #: its modules run
        REJECTED = "rejected"  #: refused; a new draft may follow
        SUPERSEDED = "superseded"  #: a later plan was approved

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="plans")
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=12, choices=Status, default=Status.DRAFT)
    goal = models.TextField(blank=True)
    instructions = models.TextField(blank=True)
    checks = models.JSONField(default=list, help_text="Project checks: [{run, at}].")
    policies = models.JSONField(default=dict)
    replay = models.JSONField(null=True, blank=True)
    source_commit = models.CharField(max_length=64, blank=True)
    #: Raised by every edit, so that a page can tell that it is stale.
    version = models.PositiveIntegerField(default=1)
    digest = models.CharField(max_length=64, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    #: Since when people wait for the orchestrator to propose this draft's modules, who asked,
    #: and the topic of the run that does it.
    proposal_at = models.DateTimeField(null=True, blank=True)
    proposal_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    proposal_topic = models.CharField(max_length=120, blank=True)
    submitted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    submitted_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    approved_digest = models.CharField(max_length=64, blank=True)
    base_commit = models.CharField(max_length=64, blank=True, help_text="After the skeleton.")
    prepared_at = models.DateTimeField(null=True, blank=True)
    #: Why the plan as a whole can't go on (skeleton refused, checks at the end red).
    blocked_reason = models.TextField(blank=True)
    #: When every module ended and the checks at the end were green.
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="plan_number"),
            models.UniqueConstraint(
                fields=["project"], condition=Q(status="approved"), name="plan_one_approved"
            ),
            models.UniqueConstraint(
                fields=["project"],
                condition=Q(status__in=["draft", "submitted"]),
                name="plan_one_open",
            ),
            models.CheckConstraint(
                condition=Q(proposal_at__isnull=True) | Q(status="draft"),
                name="plan_proposed_as_draft",
            ),
            models.CheckConstraint(
                condition=~Q(status="approved") | (Q(approved_digest=F("digest")) & ~Q(digest="")),
                name="plan_approval_bound_to_digest",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.project} plan {self.number}"


class Module(models.Model):
    """A unit of work with a contract; its status is the work order for agents."""

    class Status(models.TextChoices):
        DRAFT = "draft"  #: in a plan that is not approved
        WAITING = "waiting"  #: approved; starts when needs, lane and a slot allow it
        PLANNING = "planning"  #: the planner writes its tests
        BUILDING = "building"  #: the executor codes until they pass
        BUILT = "built"  #: built against interfaces, or waiting for its own children
        REVIEWING = "reviewing"  #: the orchestrator judges it
        FIXING = "fixing"  #: the orchestrator mends small errors itself
        MERGING = "merging"  #: in the merge queue
        MERGED = "merged"  #: its code is on the branch above
        NEEDS_PERSON = "needs_person"  #: says what is asked of a person
        CANCELLED = "cancelled"  #: will not be built

    #: Statuses in which a module holds its lane.
    IN_LANE = ("planning", "building", "built", "reviewing", "fixing", "merging", "needs_person")

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="modules")
    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="modules")
    slug = models.CharField(max_length=90)
    title = models.CharField(max_length=200, blank=True)
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.CASCADE, related_name="children"
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL
    )
    status = models.CharField(max_length=14, choices=Status, default=Status.DRAFT)
    resume_to = models.CharField(max_length=14, blank=True)
    reason = models.TextField(blank=True, help_text="Why it has this status, in words.")
    contract = models.ForeignKey(
        "Contract", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    #: A newer approved contract that takes effect once the running one is merged.
    next_contract = models.ForeignKey(
        "Contract", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    lane = models.CharField(max_length=90, blank=True)
    needs_to_start = models.IntegerField(default=0)
    needs_to_finish = models.IntegerField(default=0)
    path_length = models.FloatField(default=0, help_text="Seconds to the end of the plan.")
    priority = models.IntegerField(default=0)
    paused_at = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)
    fixes = models.PositiveIntegerField(default=0)
    #: The batch of findings that the next prompt has to answer; 0 = none.
    open_findings = models.BigIntegerField(default=0)
    head_commit = models.CharField(max_length=64, blank=True)
    tests_commit = models.CharField(max_length=64, blank=True)
    locked_tests = models.JSONField(default=dict, help_text="Path to blob of the accepted tests.")
    outline = models.TextField(blank=True)
    merged_commit = models.CharField(max_length=64, blank=True)
    status_at = models.DateTimeField(auto_now_add=True)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "slug"], name="module_slug"),
            models.UniqueConstraint(
                fields=["project", "lane"],
                condition=~Q(lane="")
                & Q(
                    status__in=[
                        "planning",
                        "building",
                        "built",
                        "reviewing",
                        "fixing",
                        "merging",
                        "needs_person",
                    ]
                ),
                name="module_one_per_lane",
            ),
            models.CheckConstraint(
                condition=Q(needs_to_start__gte=0) & Q(needs_to_finish__gte=0),
                name="module_counters",
            ),
        ]
        indexes = [
            models.Index(
                F("project"),
                F("priority").desc(),
                F("path_length").desc(),
                F("id"),
                name="module_startable",
                condition=Q(status="waiting", needs_to_start=0, paused_at__isnull=True),
            ),
            models.Index(
                fields=["project", "status"],
                name="module_active",
                condition=Q(
                    status__in=[
                        "planning",
                        "building",
                        "built",
                        "reviewing",
                        "fixing",
                        "merging",
                    ]
                ),
            ),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def topic(self) -> str:
        return f"p/{self.project_id}/module/{self.pk}"


class Contract(models.Model):
    """One version of what a module owes; immutable once its plan is approved."""

    module = models.ForeignKey(Module, on_delete=models.CASCADE, related_name="contracts")
    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="contracts")
    version = models.PositiveIntegerField(default=1)
    title = models.CharField(max_length=200, blank=True)
    brief = models.TextField(blank=True)
    owns = models.JSONField(default=list)
    tests = models.JSONField(default=list)
    tests_given = models.BooleanField(default=False)
    provides = models.JSONField(default=list)
    checks = models.JSONField(default=list)
    lane = models.CharField(max_length=90, blank=True)
    priority = models.IntegerField(default=0)
    estimate_seconds = models.FloatField(null=True, blank=True)
    #: Paths of other modules that this one may change, by a granted exception.
    exceptions = models.JSONField(default=list)
    position = models.PositiveIntegerField(default=0)
    removed = models.BooleanField(default=False, help_text="The plan drops this module.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["position", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["module", "version"], name="contract_version"),
        ]

    def __str__(self) -> str:
        return f"{self.module} v{self.version}"


class Dependency(models.Model):
    """A typed edge: what a contract needs of another module."""

    class Kind(models.TextChoices):
        CONTRACT = "contract"  #: only the other's interface; both run at once
        IMPLEMENTATION = "implementation"  #: the merged code; starts after it
        COUPLED = "coupled"  #: same lane; never at the same time

    class Gates(models.TextChoices):
        START = "start"  #: counts in needs_to_start
        FINISH = "finish"  #: counts in needs_to_finish

    contract = models.ForeignKey(Contract, on_delete=models.CASCADE, related_name="needs")
    needs = models.ForeignKey(Module, on_delete=models.CASCADE, related_name="needed_by")
    kind = models.CharField(max_length=16, choices=Kind)
    #: False for what follows from the lane alone; people did not write it.
    declared = models.BooleanField(default=True)
    #: Which counter of the dependent it holds up: fixed at approval, for lanes change later.
    gates = models.CharField(max_length=6, blank=True, choices=Gates)
    #: Set when the need is merged, so that it is counted down once.
    satisfied_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["contract", "needs"], name="dependency_once"),
        ]

    def __str__(self) -> str:
        return f"{self.contract} needs {self.needs} ({self.kind})"
