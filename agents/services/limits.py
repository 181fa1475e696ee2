"""Change a limit as a person saw it, never over a change that was made meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from django.contrib.auth.models import User
from django.db import transaction

from agents.amounts import amount
from agents.models import Quota
from agents.services import quotas
from projects import live
from projects.services.errors import Problem, Stale


def limit_set(quota: Quota, limit: Decimal, version: int, by: User) -> Quota:
    """Set a limit that was `version` when the person saw it. Raises Stale, Refused."""
    with _as_seen(quota, version) as found:
        return quotas.quota_set(
            by,
            scope=found.scope,
            measure=found.measure,
            period=found.period,
            limit=limit,
            project=found.project,
            provider=found.provider,
            user=found.user,
            window_seconds=found.window_seconds,
            time_zone=found.time_zone,
        )


def limit_remove(quota: Quota, version: int, by: User) -> None:
    """Remove a quota that was `version` when the person saw it. Raises Stale."""
    with _as_seen(quota, version) as found:
        quotas.quota_remove(found, by)


@contextmanager
def _as_seen(quota: Quota, version: int) -> Iterator[Quota]:
    """Lock the quota (its project before it) while nothing has changed since."""
    if quota.project is not None:
        with live.change(quota.project):
            yield _locked(quota, version)
        return
    with transaction.atomic():
        yield _locked(quota, version)


def _locked(quota: Quota, version: int) -> Quota:
    # Only the quota itself: what it points to may be null, which no lock can be taken on.
    rows = Quota.objects.select_related("project", "provider", "user")
    found = rows.select_for_update(of=("self",), no_key=True).filter(pk=quota.pk).first()
    if found is None:
        raise Stale("Somebody removed this quota meanwhile. Reload the page.")
    if found.version != version:
        now = amount(found.limit, found.measure)
        message = f"Somebody saved a limit meanwhile: it is {now} now. Save again to set yours."
        raise Stale(message, [Problem("", "limit", message)])
    return found
