"""Quotas as people set them: checked, told in the chain they belong to, and in force at once."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from agents import quotas
from agents.models import Price, Profile, Provider, Quota, QuotaEntry, Run
from agents.quotas import Rule
from agents.services import budgets
from agents.services.profiles import profile_for
from agents.services.walls import rule_of
from projects import live
from projects.models import Project
from projects.services.errors import Problem, Refused

Sc = Quota.Scope
M = Quota.Measure
P = Quota.Period

LEAST_WINDOW = 60
LONGEST_WINDOW = 366 * 86_400
#: What is surely a slip of the pen.
ABSURD = {M.PARALLEL: Decimal(10_000), M.TOKENS: Decimal(10) ** 12, M.MONEY: Decimal(10) ** 9}


# --- Setting -------------------------------------------------------------------------------------


def quota_set(
    by: User,
    *,
    scope: str,
    measure: str,
    period: str,
    limit: Decimal | int | float | str,
    project: Project | None = None,
    provider: Provider | None = None,
    user: User | None = None,
    window_seconds: int | None = None,
    time_zone: str = "UTC",
) -> Quota:
    """Set a maximum; what waits for it starts at once, what runs above it drains.

    The answer's `note` says when more is in use than is allowed now. Raises Refused with the
    field that is wrong.
    """
    target = {"project": project, "provider": provider, "user": user}
    value, problems = checked(scope, measure, period, limit, window_seconds, time_zone)
    owners = {Sc.PROJECT: project, Sc.PROVIDER: provider, Sc.USER: user}
    if scope in owners and owners[Sc(scope)] is None:
        problems.append(Problem("", scope, f"Say which {scope} the quota is for."))
    target = {name: one for name, one in target.items() if name == scope}
    _refuse(problems)
    with transaction.atomic():
        if project is not None and scope == Sc.PROJECT:
            with live.change(project) as change:
                quota, before = _write(target, scope, measure, period, value, window_seconds,
                                       time_zone)  # fmt: skip
                change.event("quota.set", project.topic, live.Actor.person(by),
                             **_said(quota, before))  # fmt: skip
        else:
            quota, before = _write(target, scope, measure, period, value, window_seconds, time_zone)
            live.site_event("quota.set", topic(quota), live.Actor.person(by),
                            **_said(quota, before))  # fmt: skip
    return quota


def checked(
    scope: str,
    measure: str,
    period: str,
    limit: Decimal | int | float | str,
    window_seconds: int | None,
    time_zone: str,
) -> tuple[Decimal, list[Problem]]:
    """The limit as a number, and everything that is wrong with what was asked."""
    problems = []
    if scope not in Sc.values:
        problems.append(Problem("", "scope", f"There is no scope {scope}."))
    if measure not in M.values:
        problems.append(Problem("", "measure", f"There is no measure {measure}."))
    elif period not in P.values or (measure == M.PARALLEL) != (period == P.NOW):
        allowed = "now" if measure == M.PARALLEL else "window, day or month"
        problems.append(Problem("", "period", f"A quota of {measure} has the period {allowed}."))
    if period == P.WINDOW:
        if not window_seconds or window_seconds < LEAST_WINDOW:
            problems.append(
                Problem("", "window_seconds", f"A window has {LEAST_WINDOW} seconds or more.")
            )
        elif window_seconds > LONGEST_WINDOW:
            problems.append(Problem("", "window_seconds", "A window is no longer than a year."))
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        problems.append(
            Problem("", "time_zone", f"There is no time zone {time_zone[:60]}; write one as"
                    " Europe/Berlin.")
        )  # fmt: skip
    value = Decimal(0)
    try:
        value = _limit(measure, limit)
    except ValueError as error:
        problems.append(Problem("", "limit", str(error)))
    return value, problems


def _limit(measure: str, raw: Decimal | int | float | str) -> Decimal:
    try:
        value = Decimal(str(raw))
    except InvalidOperation as error:
        raise ValueError("A limit is a number.") from error
    if not value.is_finite() or value < 0:
        raise ValueError("A limit is 0 or more.")
    most = ABSURD.get(M(measure)) if measure in M.values else None
    if most is not None and value > most:
        raise ValueError(f"A limit above {most:,} is surely a slip.")
    if measure != M.MONEY and value != value.to_integral_value():
        raise ValueError("This limit is a whole number.")
    return value.quantize(quotas.MONEY_STEP)


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise Refused(" ".join(problem.message for problem in problems), problems)


def _write(
    target: dict[str, Project | Provider | User | None],
    scope: str,
    measure: str,
    period: str,
    limit: Decimal,
    window_seconds: int | None,
    time_zone: str,
) -> tuple[Quota, Quota | None]:
    # The site's rows come first in the order of locks, and tell what a project may have.
    above = _above_site(scope, measure, period, limit, window_seconds)
    _refuse([Problem("", "limit", above)] if above else [])
    key = {"scope": scope, "measure": measure, "period": period, "project": None, "provider": None,
           "user": None, **target}  # fmt: skip
    rows = Quota.objects.filter(
        **{name if value is not None else f"{name}__isnull": True if value is None else value
           for name, value in key.items()}
    )  # fmt: skip
    before = rows.select_for_update(of=("self",), no_key=True).first()
    values = {
        "limit": limit,
        "window_seconds": window_seconds if period == P.WINDOW else None,
        "time_zone": time_zone,
        "warned_at": None,
        "stopped_at": None,
    }
    if before is None:
        quota = Quota(**key, **values)
        _backfill(quota)
        return quota, None
    quota = Quota.objects.get(pk=before.pk)
    for name, value in values.items():
        setattr(quota, name, value)
    quota.version += 1
    quota.save(update_fields=[*values, "version"])
    budgets.recount(quota, timezone.now())
    return quota, before


def _above_site(
    scope: str, measure: str, period: str, limit: Decimal, window_seconds: int | None
) -> str:
    """Why a project can't have this much; empty when it can."""
    if scope != Sc.PROJECT:
        return ""
    site = Quota.objects.filter(scope=Sc.SITE, measure=measure, period=period)
    if period == P.WINDOW:
        site = site.filter(window_seconds=window_seconds)
    row = site.first()
    if row is None or limit <= row.limit:
        return ""
    above = quotas.amount(limit - row.limit, measure, unit="full")
    most = quotas.amount(row.limit, measure, unit="full")
    unit = {M.MONEY: f" {settings.TUTTI_CURRENCY}", M.TOKENS: " tokens"}.get(M(measure), "")
    return (
        f"That is {above}{unit} above the site's limit of {most}{unit}. Set {most} or less, or ask"
        " a site admin to raise the site's limit."
    )


def _backfill(quota: Quota) -> None:
    """A new quota knows what its window already saw, and who is at work now."""
    # Waiting for runs that end right now keeps them from being counted for ever, or never.
    at_work = budgets.runs_of(quota).filter(status__in=Run.ACTIVE)
    list(at_work.select_for_update(of=("self",), no_key=True).values_list("pk"))
    entries = begun(quota)
    quota.spent = sum((entry.spent for entry in entries), Decimal(0))
    quota.reserved = sum((entry.reserved for entry in entries), Decimal(0))
    quota.save(force_insert=True)
    for entry in entries:
        entry.quota = quota
    QuotaEntry.objects.bulk_create(entries)


def begun(quota: Quota) -> list[QuotaEntry]:
    """The entries that a new quota would begin with, unsaved."""
    rows = budgets.runs_of(quota).select_related("project").defer("assignments", "result", "laps")
    entries = [_at_work(quota, run) for run in rows.filter(status__in=Run.ACTIVE)]
    if quota.measure != M.PARALLEL:
        start = budgets.start_of(quota, timezone.now())
        entries += [_spent(quota, run) for run in rows.filter(ended_at__gte=start)]
    return [entry for entry in entries if entry.spent or entry.reserved]


def _at_work(quota: Quota, run: Run) -> QuotaEntry:
    """What a run at work holds and what its earlier turns took; the one at hand is reserved."""
    if quota.measure == M.PARALLEL:
        return QuotaEntry(run=run, reserved=Decimal(int(run.holds_slot)))
    entry = _spent(quota, run)
    found = budgets.estimate_for(profile_for(run.project, run.role), run.kind)
    entry.reserved = found.of(quota.measure)
    return entry


def _spent(quota: Quota, run: Run) -> QuotaEntry:
    """What a run took until now; what has no price counts as it would have when it was used."""
    known = run.input_tokens is not None
    tokens = (run.input_tokens or 0) + (run.output_tokens or 0)
    is_guess = quota.measure == M.MONEY and run.cost is None and known
    spent = Decimal(tokens)
    if quota.measure == M.MONEY:
        spent = budgets.guessed(tokens) if is_guess else run.cost or Decimal(0)
    at = run.ended_at or timezone.now()
    return QuotaEntry(run=run, spent=spent, is_estimated=is_guess, spent_at=at if spent else None)


def _said(quota: Quota, before: Quota | None) -> dict[str, object]:
    return {
        "quota": quota.pk,
        "scope": quota.scope,
        "of": _target(quota),
        "measure": quota.measure,
        "period": quota.period,
        "window_seconds": quota.window_seconds,
        "time_zone": quota.time_zone,
        "before": before.limit if before else None,
        "after": quota.limit,
    }


def _target(quota: Quota) -> str:
    if quota.provider:
        return quota.provider.name
    if quota.user:
        return quota.user.get_username()
    return quota.project.slug if quota.project else ""


def topic(quota: Quota) -> str:
    """Where a quota's changes are told: its project, or a place of its own on the site."""
    return quota.project.topic if quota.project else f"site/quota/{quota.pk}"


def note(quota: Quota) -> str:
    """What the person who set a quota should know: that more is in use; empty when not."""
    inside = quota.spent + quota.reserved
    rule = rule_of(quota)
    if quota.measure == M.MONEY and (said := _unpriced(rule)):
        return said
    if inside <= quota.limit:
        return ""
    if quota.measure == M.PARALLEL:
        return (
            f"{int(inside)} runs are at work, more than the {int(quota.limit)} that are allowed"
            " now: they go on, and nothing starts until enough of them end."
        )
    return (
        f"{quotas.used(rule, inside)} are spent or reserved already: runs at work end after their"
        " turn, and nothing starts until the window lets go or the limit is raised."
    )


def _unpriced(rule: Rule) -> str:
    """What of the money can't be counted, or only with another model's price."""
    known = set(Price.objects.values_list("model", flat=True))
    if not known:
        return quotas.unpriced(rule)
    used = Profile.objects.exclude(model__in=known).exclude(model="").order_by("model")
    names = ", ".join(used.values_list("model", flat=True).distinct()[:5])
    if not names:
        return ""
    return f"No price is known for {names}: the dearest known one counts until it is entered."


def quota_remove(quota: Quota, by: User) -> None:
    """Take a quota away; what waits for it starts at once. Its entries go, the events stay."""
    with transaction.atomic():
        if quota.project:
            with live.change(quota.project) as change:
                said = _said(quota, quota) | {"after": None}
                Quota.objects.filter(pk=quota.pk).delete()
                change.event("quota.removed", quota.project.topic, live.Actor.person(by), **said)
            return
        said, place = _said(quota, quota) | {"after": None}, topic(quota)
        Quota.objects.filter(pk=quota.pk).delete()
        live.site_event("quota.removed", place, live.Actor.person(by), **said)
