"""What of quotas and providers binds a project right now, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from django.conf import settings
from django.utils import timezone

from agents import quotas, waits
from agents.capacity import Limit
from agents.models import Price, Profile, Provider, Quota, QuotaEntry, Run
from agents.quotas import Estimate, Rule, Use
from agents.services import budgets, providers
from agents.services.profiles import ROLE_OF, profiles_for
from projects.models import Module, Plan, Project

M = Quota.Measure

#: The kind of agent's run that a status wants.
NEXT = {Module.Status.WAITING: "tests", **waits.KINDS}

#: What binds a project when a quota or a provider's breaker does.
BINDING = frozenset(Quota.Scope.values)
#: Further starts that no limit needs to be named for.
PLENTY = 1_000


def rule_of(quota: Quota) -> Rule:
    """The quota as a value that sentences are made of."""
    return Rule(
        whose=_whose(quota),
        measure=quota.measure,
        period=quota.period,
        limit=quota.limit,
        window_seconds=quota.window_seconds,
        time_zone=quota.time_zone,
        currency=settings.TUTTI_CURRENCY,
    )


def use_of(quota: Quota) -> Use:
    return Use(quota.spent, quota.reserved)


def _whose(quota: Quota) -> str:
    if quota.provider:
        return f"The provider {quota.provider}'s"
    if quota.user:
        return f"{quota.user.get_username()}'s"
    return "The project's" if quota.project_id else "The site's"


@dataclass(frozen=True)
class Wall:
    """Why no run of a kind can start: the quota, unless a provider's breaker, and the words."""

    limit: Limit
    quota: Quota | None = None
    #: Only time or people help, not the end of a run at work.
    is_used_up: bool = False


def limits_of(project: Project) -> list[Limit]:
    """What quotas and providers let the project run, as far as they bind all of its roles."""
    now = timezone.now()
    rows = list(budgets.touching(project).select_related("provider", "user"))
    if not rows and not _is_any_broken():
        return []
    profiles = profiles_for(project)
    accounts = {profile.provider_id for profile in profiles.values()}
    only = accounts.pop() if len(accounts) == 1 else None
    found = []
    if only is not None and (limit := _provider_limit(project, only, now)):
        found.append(limit)
    user = budgets.user_of(_plan(project))
    kinds = _estimates(project, profiles) if rows else {}
    for quota in budgets.applying(rows, project.pk, only, user):
        # The kind that needs least tells how many more could start at all.
        kind, least = min(kinds.items(), key=lambda pair: pair[1].of(quota.measure))
        if (limit := _quota_limit(project, quota, kind, least, now)).slots < PLENTY:
            found.append(limit)
    return found


def _plan(project: Project) -> Plan | None:
    return Plan.objects.filter(project=project, status=Plan.Status.APPROVED).first()


def _is_any_broken() -> bool:
    return Provider.objects.exclude(breaker=Provider.Breaker.CLOSED).exists()


def _estimates(project: Project, profiles: Mapping[str, Profile]) -> dict[str, Estimate]:
    """What a turn of each kind needs that the project's modules want next."""
    open_ = Module.objects.filter(project=project, status__in=list(NEXT))
    found = set(open_.order_by().values_list("status", flat=True).distinct())
    kinds = {NEXT[Module.Status(status)] for status in found} or set(NEXT.values())
    prices = list(Price.objects.all())
    return {
        kind: budgets.estimate_for(profiles[ROLE_OF[kind]], kind, prices) for kind in sorted(kinds)
    }


def _provider_limit(project: Project, provider_id: int, now: datetime) -> Limit | None:
    provider = Provider.objects.get(pk=provider_id)
    if provider.breaker == Provider.Breaker.CLOSED:
        return None
    active = project.active_runs
    if providers.is_walled(provider, now) and provider.wake_at:
        return Limit("provider", active, walled(provider, now), {"active": float(active)},
                     provider.wake_at)  # fmt: skip
    if provider.slots is None:
        return None
    more = max(0, provider.slots - provider.active_runs)
    sentence = f"The provider {provider} carries {provider.slots} at once. {provider.reason}"
    return Limit("provider", active + more, sentence, {"slots": float(provider.slots)})


def walled(provider: Provider, now: datetime) -> str:
    """Until when nothing starts at a provider that said so."""
    assert provider.wake_at is not None
    at = quotas.clock(provider.wake_at, now, "UTC")
    if provider.breaker == Provider.Breaker.EXHAUSTED:
        return f"The provider {provider} is used up; its runs start again at {at}."
    return f"The provider {provider} got requests too fast; the next run starts at {at}."


def _quota_limit(project: Project, quota: Quota, kind: str, need: Estimate, now: datetime) -> Limit:
    each = need.of(quota.measure)
    left = quota.limit - quota.spent - quota.reserved
    more = max(0, int(left // each)) if each else (PLENTY if left >= 0 else 0)
    numbers = {
        "limit": float(quota.limit),
        "spent": float(quota.spent),
        "reserved": float(quota.reserved),
        "each": float(each),
    }
    slots = project.active_runs + min(more, PLENTY)
    if more == 0:
        wall = _quota_wall(project, quota, kind, need, now)
        return Limit(quota.scope, slots, wall.limit.sentence, numbers, wall.limit.until)
    rule = rule_of(quota)
    runs = "1 more run" if more == 1 else f"{more} more runs"
    sentence = (
        f"{rule.whose} {quotas.what(rule)} leave room for {runs}"
        f" ({quotas.used(rule, quota.spent + quota.reserved)} spent or reserved)."
        if quota.measure != M.PARALLEL
        else f"{rule.whose} limit of {int(quota.limit)} parallel runs leaves room for {runs}."
    )
    return Limit(quota.scope, slots, sentence, numbers)


def walls(project: Project, kinds: Iterable[str]) -> dict[str, Wall]:
    """For each kind of run that can't start now for quota or provider, why and until when."""
    now = timezone.now()
    rows = list(budgets.touching(project).select_related("provider", "user"))
    if not rows and not _is_any_broken():
        return {}
    user = budgets.user_of(_plan(project))
    profiles, prices = profiles_for(project), list(Price.objects.all())
    found = {}
    for kind in kinds:
        if role := ROLE_OF.get(kind):
            need = budgets.estimate_for(profiles[role], kind, prices)
            if wall := _wall(project, rows, profiles[role], kind, user, now, need):
                found[kind] = wall
    return found


def wall_of(run: Run, profile: Profile) -> Wall | None:
    """Why a run can't take its next turn, in words; None when nothing is known against it."""
    rows = list(budgets.touching(run.project).select_related("provider", "user"))
    now, user = timezone.now(), budgets.user_of(run.plan)
    need = budgets.estimate_for(profile, run.kind)
    return _wall(run.project, rows, profile, run.kind, user, now, need, is_at_work=True)


def _wall(
    project: Project,
    rows: list[Quota],
    profile: Profile,
    kind: str,
    user: int | None,
    now: datetime,
    need: Estimate,
    *,
    is_at_work: bool = False,
) -> Wall | None:
    account = profile.provider
    if account:
        full = account.slots is not None and account.active_runs >= account.slots
        if providers.is_walled(account, now) or (
            full and not is_at_work and account.breaker == Provider.Breaker.THROTTLED
        ):
            limit = _provider_limit(project, account.pk, now)
            if limit:
                return Wall(limit)
    blocking = [
        quota
        for quota in budgets.applying(rows, project.pk, profile.provider_id, user)
        if quota.spent + quota.reserved + need.of(quota.measure) > quota.limit
        and not (is_at_work and quota.measure == M.PARALLEL)
    ]
    found = [_quota_wall(project, quota, kind, need, now) for quota in blocking]
    # What ends last is what is waited for; without an end it is people's turn.
    never = datetime.max.replace(tzinfo=UTC)
    return max(found, key=lambda wall: (wall.is_used_up, wall.limit.until or never), default=None)


def _quota_wall(project: Project, quota: Quota, kind: str, need: Estimate, now: datetime) -> Wall:
    rule, use, each = rule_of(quota), use_of(quota), need.of(quota.measure)
    active = project.active_runs
    numbers = {"limit": float(quota.limit), "spent": float(quota.spent),
               "reserved": float(quota.reserved), "each": float(each)}  # fmt: skip
    if quota.measure != M.PARALLEL and each > quota.limit:
        return Wall(Limit(quota.scope, active, quotas.too_small(rule, kind, need), numbers), quota,
                    True)  # fmt: skip
    if quota.measure == M.PARALLEL or quota.spent + each <= quota.limit:
        return Wall(Limit(quota.scope, active, quotas.held_up(rule, use), numbers), quota)
    until = quotas.resets_at(rule, use, each, now, moments(quota))
    sentence = quotas.used_up(rule, use, until, now)
    return Wall(Limit(quota.scope, active, sentence, numbers, until), quota, True)


def moments(quota: Quota) -> list[tuple[datetime, Decimal]]:
    """When what counts in a rolling window was spent."""
    if quota.period != Quota.Period.WINDOW:
        return []
    rows = QuotaEntry.objects.filter(quota=quota, expired_at__isnull=True, spent_at__isnull=False)
    return [(at, spent) for at, spent in rows.values_list("spent_at", "spent") if at]
