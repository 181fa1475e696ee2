"""The clock's part of quotas: warn at 80 %, ask at 100 %, pause what a dead account stops."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from agents import quotas
from agents.models import Provider, Quota, QuotaEntry, Run
from agents.services import budgets, runs
from agents.services.providers import is_walled, provider_mind
from agents.services.quotas import topic
from agents.services.walls import Wall, rule_of, use_of
from projects import live
from projects.models import Attention, Project, Role
from projects.services.attention import attention_close, attention_open

STOPPED = "quota"
WARNED = "quota-warning"


def mind() -> None:
    """One pass of the clock: wake and climb, pause, let go, warn; cheap while nothing is near."""
    now = timezone.now()
    provider_mind(now)
    _pause(now)
    watch(now)


# --- Providers -----------------------------------------------------------------------------------


def _pause(now: datetime) -> None:
    """Pause what an exhausted account still works for; workspaces stay, the reset wakes it."""
    for provider in Provider.objects.filter(breaker=Provider.Breaker.EXHAUSTED):
        if not is_walled(provider, now):
            continue
        for run in Run.objects.filter(provider=provider, status__in=Run.ACTIVE):
            if run.status != Run.Status.STOPPING:
                runs.run_pause(run, "provider", _paused(provider, now))


def _paused(provider: Provider, now: datetime) -> str:
    assert provider.wake_at is not None
    at = quotas.clock(provider.wake_at, now, "UTC")
    return f"The provider {provider} is used up: paused, another run goes on at {at}."


# --- What a project waits for --------------------------------------------------------------------


def note(change: live.Change, found: Iterable[Wall]) -> None:
    """Ask those who may raise what stopped this project; close what is answered by now."""
    project = change.project
    used_up = {wall.quota.pk: wall for wall in found if wall.quota and wall.is_used_up}
    asked = Attention.objects.filter(project=project, kind=STOPPED, closed_at__isnull=True)
    open_topics = set(asked.values_list("topic", flat=True))
    for place in open_topics:
        if _quota_of(place) not in used_up:
            attention_close(project, topic=place, by=live.SYSTEM, kind=STOPPED)
    fresh = [wall for pk, wall in used_up.items() if f"{project.topic}/quota/{pk}" not in
             {"/".join(place.split("/")[:4]) for place in open_topics}]  # fmt: skip
    if fresh:
        budgets.lock(project)
    for wall in fresh:
        _stop(change, wall)


def _stop(change: live.Change, wall: Wall) -> None:
    quota, limit = wall.quota, wall.limit
    assert quota is not None
    Quota.objects.filter(pk=quota.pk, stopped_at__isnull=True).update(stopped_at=timezone.now())
    change.event(
        "quota.stopped",
        change.project.topic,
        live.SYSTEM,
        quota=quota.pk,
        scope=quota.scope,
        reason=limit.sentence,
        until=limit.until,
    )
    _ask(change.project, quota, STOPPED, limit.sentence, limit.until)


def _ask(project: Project, quota: Quota, kind: str, sentence: str, until: datetime | None) -> None:
    """Ask the project's owners about its own quota, every site admin about any other."""
    detail = sentence + " Raise the limit, or wait."
    place = f"{project.topic}/quota/{quota.pk}"
    if quota.scope == Quota.Scope.PROJECT:
        attention_open(project, topic=place, kind=kind, title=sentence[:300], detail=detail,
                       url=_url(quota, project), role=Role.OWNER, deadline=until)  # fmt: skip
        return
    for admin in User.objects.filter(is_superuser=True, is_active=True).order_by("pk"):
        attention_open(project, topic=f"{place}/{admin.pk}", kind=kind, title=sentence[:300],
                       detail=detail, url=_url(quota, project), role=Role.OWNER, user=admin,
                       deadline=until)  # fmt: skip


def _url(quota: Quota, project: Project) -> str:
    """Where the limit is raised."""
    try:
        if quota.scope == Quota.Scope.PROJECT:
            return reverse("agents:quotas", args=[project.slug])
        return reverse("agents:site-quotas")
    except NoReverseMatch:
        return reverse("agents:board", args=[project.slug])


def _quota_of(place: str) -> int | None:
    """The key of the quota in the topic p/7/quota/3, or p/7/quota/3/12 for one admin."""
    parts = place.split("/")
    return int(parts[3]) if len(parts) > 3 and parts[3].isdigit() else None


# --- Levels --------------------------------------------------------------------------------------


def watch(now: datetime) -> None:
    """Let go what left its window, warn once per window, and take back what no longer holds."""
    rows = Quota.objects.exclude(measure=Quota.Measure.PARALLEL)
    for quota in rows.select_related("provider", "project", "user"):
        _let_go(quota, now)
        near = quotas.level(quota.spent, quota.limit)
        if near and quota.warned_at is None:
            _warn(quota, now)
        elif quota.warned_at and not near and _is_over(quota, quota.warned_at, now):
            Quota.objects.filter(pk=quota.pk).update(warned_at=None)
    warned = set(Quota.objects.filter(warned_at__isnull=False).values_list("pk", flat=True))
    asked = Attention.objects.filter(kind__in=[WARNED, STOPPED], closed_at__isnull=True)
    stopped = set()
    for row in asked.select_related("project"):
        pk = _quota_of(row.topic)
        if row.kind == STOPPED:
            stopped.add(pk)
        elif pk not in warned:
            attention_close(row.project, topic=row.topic, by=live.SYSTEM, kind=WARNED)
    Quota.objects.filter(stopped_at__isnull=False).exclude(
        pk__in=[pk for pk in stopped if pk]
    ).update(stopped_at=None)


def _let_go(quota: Quota, now: datetime) -> None:
    start = budgets.start_of(quota, now)
    old = QuotaEntry.objects.filter(quota=quota, expired_at__isnull=True, spent_at__lt=start)
    if not old.exclude(run__status__in=Run.ACTIVE).exists():
        return
    with transaction.atomic():
        locked = Quota.objects.select_for_update(no_key=True).get(pk=quota.pk)
        if budgets.expire([locked], now) and quota.stopped_at:
            # The doorbell: what waited for this may start now.
            live.site_event("quota.reset", topic(quota), live.SYSTEM, quota=quota.pk,
                            spent=locked.spent)  # fmt: skip
    quota.spent = locked.spent


def _is_over(quota: Quota, since: datetime, now: datetime) -> bool:
    """Whether the window in which something was said has passed."""
    if quota.period == Quota.Period.WINDOW:
        return since + timedelta(seconds=quota.window_seconds or 0) <= now
    start = budgets.start_of(quota, now)
    return start is None or since < start


def _warn(quota: Quota, now: datetime) -> None:
    """Say it once: whoever marks the quota first tells."""
    rule, use = rule_of(quota), use_of(quota)
    until = quotas.window_end(quota.period, now, time_zone=quota.time_zone)
    sentence = quotas.warning(rule, use, until, now)
    said = {"quota": quota.pk, "scope": quota.scope, "reason": sentence}
    mark = Quota.objects.filter(pk=quota.pk, warned_at__isnull=True)
    if quota.project:
        with live.change(quota.project) as change:
            if mark.update(warned_at=now):
                change.event("quota.warned", quota.project.topic, live.SYSTEM, **said)
                _ask(quota.project, quota, WARNED, sentence, until)
        return
    with transaction.atomic():
        if not mark.update(warned_at=now):
            return
        live.site_event("quota.warned", topic(quota), live.SYSTEM, **said)
    latest = QuotaEntry.objects.filter(quota=quota, run__isnull=False).order_by("-pk")
    entry = latest.select_related("run__project").first()
    if entry is not None and entry.run is not None:
        _ask(entry.run.project, quota, WARNED, sentence, until)
