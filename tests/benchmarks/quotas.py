"""One quota decision, on four quotas and a provider, against one bare update of a quota."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from agents.models import Price, Profile, Provider, Quota, QuotaEntry, Run
from agents.services import budgets
from projects import live
from projects.models import Module, Plan, Project
from tests import factories
from tests.benchmarks.engine import COMMAND, timed
from tests.benchmarks.rows import Row, median, row

#: Runs whose use still counts in each quota, and as many that left its window long ago.
ENTRIES = 500


def quota_rows(repetitions: int) -> Sequence[Row]:
    """What a claim pays for keeping quotas: both sides in a transaction that is undone."""
    project, plan, profile = _busy_site()
    bare, decided = [], []
    for _ in range(repetitions + 3):
        bare.append(_undone(project, _touch))
        decided.append(
            _undone(project, lambda: budgets.hold(project, plan, profile, Run.Kind.BUILD))
        )
    ratio = median(decided[3:]) / median(bare[3:])
    return [
        row("one decision over four quotas and a provider / one bare update", ratio, "x", COMMAND,
            most=25),
        row("one quota decision, p50", median(decided[3:]) * 1000, "ms", COMMAND),
    ]  # fmt: skip


def _undone(project: Project, action: object) -> float:
    with transaction.atomic(), live.change(project):
        seconds = timed(action)  # type: ignore[arg-type]
        transaction.set_rollback(True)
    return seconds


def _touch() -> None:
    Quota.objects.filter(scope="site", limit__gte=F("spent") + F("reserved") + 1).update(
        reserved=F("reserved") + 1
    )


def _busy_site() -> tuple[Project, Plan, Profile]:
    """A site with much behind it: entries in and out of four quotas, and measured turns."""
    project = factories.project("quotas", {"alice": "owner"})
    user = User.objects.get(username="alice")
    plan = factories.plan(project, decided_by=user)
    account = Provider.objects.create(name="bench")
    Price.objects.create(model="m", input_per_million=3, output_per_million=15)
    profile = Profile.objects.create(
        project=project, role="executor", backend="command", model="m", provider=account
    )
    module = factories.module(plan, "done", Module.Status.MERGED)
    now = timezone.now()
    runs = Run.objects.bulk_create(
        Run(project=project, plan=plan, module=module, kind="build", number=number + 1,
            status="succeeded", backend="command", model="m", turns=1, input_tokens=1_000,
            output_tokens=number, provider=account, ended_at=now)
        for number in range(2 * ENTRIES)
    )  # fmt: skip
    big = Decimal(10) ** 9
    kinds: list[dict[str, object]] = [
        {"scope": "site", "measure": "tokens", "period": "window", "window_seconds": 18_000},
        {"scope": "provider", "provider": account, "measure": "parallel", "period": "now"},
        {"scope": "project", "project": project, "measure": "money", "period": "month"},
        {"scope": "user", "user": user, "measure": "tokens", "period": "day"},
    ]
    for values in kinds:
        quota = Quota.objects.create(limit=big, spent=ENTRIES, **values)
        QuotaEntry.objects.bulk_create(
            QuotaEntry(quota=quota, run=run, spent=1, spent_at=now,
                       expired_at=now if place % 2 else None)
            for place, run in enumerate(runs)
        )  # fmt: skip
    return project, plan, profile
