"""Reconcile rows, processes and branches after a crash, and say what was done."""

from __future__ import annotations

from django.conf import settings
from django.db import connection
from django.db.models import Count, F, Q

from agents import processes
from agents.models import Run
from agents.services import budgets, runs
from projects import live
from projects.hub import Hub, integration_ref, remove_leftovers
from projects.models import Dependency, Module, Plan, Project
from projects.services.plans import plan_retry
from reviews.models import Merge


def lost_runs(lease_seconds: float) -> list[Run]:
    """Claimed runs whose last sign of life is older than the lease, by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM agents_run WHERE status IN ('running', 'checking', 'stopping') AND "
            "coalesce(heartbeat_at, started_at, queued_at) < clock_timestamp() - %s * interval "
            "'1 second'",
            [lease_seconds],
        )
        ids = [row[0] for row in cursor.fetchall()]
    return list(Run.objects.filter(pk__in=ids).select_related("module", "project"))


def project_recover(project: Project, by: live.Actor, *, host: str = "") -> list[str]:
    """Put right what a crash left in a project; returns a sentence for each thing done.

    With `host`, every run that this host had claimed is given up at once: its processes are gone.
    """
    said = []
    rows = Run.objects.filter(project=project, status__in=["running", "checking", "stopping"])
    lost = {run.pk for run in lost_runs(settings.TUTTI_LEASE_SECONDS)}
    for run in rows.select_related("module", "project"):
        is_gone = (host and run.host == host) or run.pk in lost
        if is_gone and runs.run_lost(
            run, Run.Status.STALLED, "Given up by a recovery.", "worker_lost"
        ):
            said.append(f"Run {run.pk} ({run.kind}) was given up; another run goes on.")
    with live.change(project) as change:
        held = Run.objects.filter(project=project, holds_slot=True).count()
        if change.project.active_runs != held:
            said.append(f"The count of working runs was {change.project.active_runs}, is {held}.")
            Project.objects.filter(pk=project.pk).update(active_runs=held)
        said += budgets.repair(change.project)
        for sentence in said:
            change.event("project.recovered", project.topic, by, did=sentence)
    if host and (ended := processes.end_orphans()):
        said.append(f"{ended} processes of dead workers were ended.")
    if host and (removed := processes.remove_scratch() + remove_leftovers(project.hub_path.parent)):
        said.append(f"{removed} directories that dead processes left were removed.")
    for plan in Plan.objects.filter(project=project, status=Plan.Status.APPROVED):
        if plan.blocked_reason and plan.decided_by:
            plan_retry(plan, plan.decided_by)
            said.append(f"Plan {plan.number} is tried again.")
    return said


def check_invariants() -> list[str]:
    """Everything that must never be so and is; an empty list is the proof."""
    return [
        *_ceilings(),
        *_one_each(),
        *_approved_only(),
        *_counters(),
        *_merges(),
        *_hubs(),
        *_yielded(),
        *budgets.violations(),
    ]


def _ceilings() -> list[str]:
    found = []
    holding = Count("runs", filter=Q(runs__holds_slot=True))
    for project in Project.objects.annotate(holding=holding):
        if project.holding != project.active_runs:
            found.append(
                f"{project.slug}: active_runs is {project.active_runs}, "
                f"{project.holding} runs hold a slot."
            )
    return found


def _one_each() -> list[str]:
    active = Run.objects.filter(status__in=Run.ACTIVE, module__isnull=False)
    doubled = active.values("module", "module__slug").annotate(n=Count("pk")).filter(n__gt=1)
    lanes = (
        Module.objects.filter(status__in=Module.IN_LANE)
        .exclude(lane="")
        .values("project__slug", "lane")
        .annotate(n=Count("pk"))
        .filter(n__gt=1)
    )
    return [
        *(f"{row['module__slug']} has {row['n']} active runs." for row in doubled),
        *(f"{row['project__slug']}: lane {row['lane']} holds {row['n']} modules." for row in lanes),
    ]


def _approved_only() -> list[str]:
    wild = Run.objects.exclude(kind=Run.Kind.DECOMPOSE).filter(
        Q(plan__isnull=True) | Q(plan__status__in=["draft", "submitted", "rejected"])
    )
    loose = Plan.objects.filter(status="approved").exclude(approved_digest=F("digest"))
    return [
        *(f"Run {run.pk} has no approved plan." for run in wild),
        *(f"Plan {plan.pk} was approved with another digest." for plan in loose),
    ]


def _counters() -> list[str]:
    found = []
    working = Module.objects.exclude(status__in=["draft", "merged", "cancelled"])
    for module in working.select_related("contract"):
        open_needs = Dependency.objects.filter(contract=module.contract, satisfied_at__isnull=True)
        start = open_needs.filter(gates="start").count()
        parts = module.children.exclude(contract=None)
        children = parts.exclude(status="merged").count()
        finish = open_needs.filter(gates="finish").count() + children
        if (module.needs_to_start, module.needs_to_finish) != (start, finish):
            found.append(
                f"{module.slug}: counters are {module.needs_to_start}/{module.needs_to_finish}, "
                f"open needs are {start}/{finish}."
            )
    return found


def _merges() -> list[str]:
    found = []
    doubled = (
        Merge.objects.filter(status="merged")
        .values("module__slug", "head_commit")
        .annotate(n=Count("pk"))
        .filter(n__gt=1)
    )
    found += [f"{row['module__slug']} was merged {row['n']} times." for row in doubled]
    for module in Module.objects.filter(status="merged"):
        if not Merge.objects.filter(module=module, status="merged").exists():
            found.append(f"{module.slug} is merged without a merge.")
    return found


def _yielded() -> list[str]:
    """A run that gave way for want of memory is nobody's failure."""
    wrong = Run.objects.filter(reason_kind=runs.MEMORY, ended_at__isnull=False).exclude(
        status=Run.Status.INTERRUPTED, reason_owner=Run.Owner.TUTTI
    )
    return [f"Run {run.pk} gave way, but ended as {run.status}." for run in wrong]


def _hubs() -> list[str]:
    """Every merged commit is on the branch that it was merged into."""
    found = []
    # Parts that were given up went with the branch of their module.
    gone = Q(module__status="cancelled") & ~Q(branch=integration_ref())
    merges = Merge.objects.filter(status="merged").exclude(gone)
    for merge in merges.select_related("project", "module"):
        hub = Hub(merge.project.hub_path)
        if not hub.path.exists():
            continue
        head = hub.head(merge.branch)
        if head is None or not hub.is_ancestor(merge.tested_commit, head):
            found.append(f"{merge.module.slug}: {merge.tested_commit} is not on {merge.branch}.")
    return found
