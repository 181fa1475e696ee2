from __future__ import annotations

from django.db import models
from django.db.models import Q

from agents.models.provider import Provider
from projects.models import Module, Plan, Project


class Run(models.Model):
    """One attempt at a module's wanted work, by an agent of one role or by Tutti itself."""

    class Kind(models.TextChoices):
        PREPARE = "prepare"  #: skeleton commit of an approved plan
        DECOMPOSE = "decompose"  #: the orchestrator proposes a plan
        TESTS = "tests"  #: the planner writes tests, or the red gate alone for given tests
        BUILD = "build"  #: the executor codes
        RECHECK = "recheck"  #: checks again once everything needed is merged
        REVIEW = "review"  #: the orchestrator judges
        FIX = "fix"  #: the orchestrator mends
        MERGE = "merge"  #: the merge queue's turn
        FINISH = "finish"  #: the project checks at the end of the plan

    class Status(models.TextChoices):
        QUEUED = "queued"  #: has its slot, waits for a worker
        RUNNING = "running"  #: an agent works
        CHECKING = "checking"  #: gates run; holds no slot
        STOPPING = "stopping"  #: is asked to end
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"
        INTERRUPTED = "interrupted"  #: its worker was shut down
        STALLED = "stalled"  #: its worker gave no sign of life
        PARKED = "parked"  #: waits for a person's answer; another run goes on

    ACTIVE = ("queued", "running", "checking", "stopping")
    HOLDING = ("queued", "running", "stopping")

    class Owner(models.TextChoices):
        AGENT = "agent"  #: counts as the agent's failure
        PROVIDER = "provider"  #: waits, does not count
        TUTTI = "tutti"  #: host lost, disk full: does not count
        PERSON = "person"  #: cancelled or paused by somebody

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="runs")
    plan = models.ForeignKey(Plan, null=True, on_delete=models.PROTECT, related_name="runs")
    module = models.ForeignKey(Module, null=True, on_delete=models.PROTECT, related_name="runs")
    kind = models.CharField(max_length=10, choices=Kind)
    role = models.CharField(max_length=14, blank=True)
    number = models.PositiveIntegerField(default=1, help_text="Attempt: nth run of this kind.")
    status = models.CharField(max_length=12, choices=Status, default=Status.QUEUED)
    #: Whether this run counts in the project's ceiling, and whether it does right now.
    needs_slot = models.BooleanField(default=True)
    holds_slot = models.BooleanField(default=False)
    #: Since when a checking run waits for its slot before the next prompt.
    slot_wanted_at = models.DateTimeField(null=True, blank=True)
    fence = models.PositiveIntegerField(default=1)
    worker = models.CharField(max_length=200, blank=True)
    host = models.CharField(max_length=200, blank=True)
    sandbox = models.CharField(max_length=20, blank=True)
    backend = models.CharField(max_length=20, blank=True)
    model = models.CharField(max_length=120, blank=True)
    provider = models.ForeignKey(
        Provider, null=True, blank=True, on_delete=models.PROTECT, related_name="runs"
    )
    branch = models.CharField(max_length=200, blank=True)
    base_commit = models.CharField(max_length=64, blank=True)
    head_commit = models.CharField(max_length=64, blank=True)
    turns = models.PositiveIntegerField(default=0, help_text="Prompts whose gate has judged.")
    queued_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    agent_seconds = models.FloatField(default=0)
    gate_seconds = models.FloatField(default=0)
    #: Time without work: for a check slot of the machine, or for a slot before the next prompt.
    waited_seconds = models.FloatField(default=0)
    #: What each turn took, in order: [{agent, gate, input, output, cost}], in seconds and tokens.
    laps = models.JSONField(default=list)
    input_tokens = models.BigIntegerField(null=True, blank=True)
    output_tokens = models.BigIntegerField(null=True, blank=True)
    usage_quality = models.CharField(max_length=12, default="unknown")
    #: Tokens that were reserved for one turn when the run was claimed.
    estimate_tokens = models.BigIntegerField(null=True, blank=True)
    #: Money in TUTTI_CURRENCY; None where the price or the tokens are unknown, never 0 for it.
    cost = models.DecimalField(max_digits=14, decimal_places=6, null=True, blank=True)
    #: Most memory of the agent's whole process tree, and its CPU time; None while unmeasured.
    memory_peak_mb = models.PositiveIntegerField(null=True, blank=True)
    cpu_seconds = models.FloatField(null=True, blank=True)
    #: Tokens of this run exist only because work ran in parallel (conflict repairs, splits).
    parallel_only = models.BooleanField(default=False)
    session = models.CharField(max_length=200, blank=True)
    conversation = models.ForeignKey(
        "agents.Conversation", null=True, blank=True, on_delete=models.PROTECT, related_name="runs"
    )
    #: The assignment of every turn, whole, as it was sent: [{turn, text, prompt_version, at}].
    assignments = models.JSONField(default=list)
    result = models.JSONField(null=True, blank=True)
    reason_kind = models.CharField(max_length=40, blank=True)
    reason_owner = models.CharField(max_length=10, blank=True, choices=Owner)
    reason = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["module"],
                condition=Q(status__in=["queued", "running", "checking", "stopping"]),
                name="run_one_active_per_module",
            ),
            models.UniqueConstraint(
                fields=["plan", "kind"],
                condition=Q(
                    status__in=["queued", "running", "checking", "stopping"],
                    module__isnull=True,
                ),
                name="run_one_active_per_plan",
            ),
            models.UniqueConstraint(
                fields=["module", "kind", "number"], name="run_number", nulls_distinct=True
            ),
            models.CheckConstraint(
                condition=Q(holds_slot=False)
                | Q(status__in=["queued", "running", "stopping"], needs_slot=True),
                name="run_slot_held_while_working",
            ),
        ]
        indexes = [
            models.Index(
                fields=["project", "status"],
                name="run_active",
                condition=Q(status__in=["queued", "running", "checking", "stopping"]),
            ),
            models.Index(fields=["plan", "queued_at"], name="run_plan"),
            models.Index(
                fields=["-id"],
                name="run_memory",
                condition=Q(memory_peak_mb__isnull=False, needs_slot=True),
            ),
            # What a turn of a kind and model used so far is asked at every start.
            models.Index(
                fields=["kind", "model", "-id"],
                name="run_used",
                condition=Q(input_tokens__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"run {self.pk} ({self.kind})"

    @property
    def topic(self) -> str:
        return f"p/{self.project_id}/run/{self.pk}"

    @property
    def is_active(self) -> bool:
        return self.status in Run.ACTIVE


class RunLog(models.Model):
    """One event of a run; append-only, numbered without gaps per run."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="log")
    sequence = models.PositiveIntegerField()
    at = models.DateTimeField()
    kind = models.CharField(max_length=30)
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["sequence"]
        constraints = [
            models.UniqueConstraint(fields=["run", "sequence"], name="runlog_sequence"),
        ]

    def __str__(self) -> str:
        return f"{self.sequence} {self.kind}"
