"""What runs reserve of quotas, spend and give back. Every write is inside the project's change.

Locks keep one order, after the project: providers by key, then every quota that a run of the
project may touch by key. Taking them all at once keeps two transactions that each end one run and
start another from waiting for each other. A run that is checking keeps what it reserved of tokens
and money, for its next prompt needs it, but gives its parallel runs back as it gives back its slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import connection
from django.db.models import Case, DecimalField, F, Q, QuerySet, Sum, Value, When
from django.utils import timezone

from agents import quotas
from agents.models import Price, Profile, Provider, Quota, QuotaEntry, Run
from agents.quotas import Estimate
from agents.services import providers
from projects.models import Plan, Project

PARALLEL = Quota.Measure.PARALLEL
TOKENS = Quota.Measure.TOKENS
#: Earlier turns that an estimate looks at.
TURNS = 50
MOST = Decimal(10) ** 13


class Full(Exception):
    """A quota or a provider refuses; whatever was reserved before it has to be undone."""


class Walled(Full):
    """The provider said that nothing works before a time that has not come."""


@dataclass(frozen=True)
class Hold:
    """What was reserved for a run that is about to be made."""

    estimate: Estimate
    provider_id: int | None
    amounts: dict[int, Decimal]


# --- Reading -------------------------------------------------------------------------------------


def estimate_for(profile: Profile, kind: str, prices: Sequence[Price] | None = None) -> Estimate:
    """What one turn of this kind will need, by earlier turns of the same backend and model.

    `prices` are all that were entered, for those who ask more than once.
    """
    rows = similar(profile, kind).values_list("input_tokens", "output_tokens", "turns")[:TURNS]
    turns = [((tin or 0) // max(1, n), (out or 0) // max(1, n)) for tin, out, n in rows]
    prices = list(Price.objects.all()) if prices is None else prices
    rates, is_priced = pricing(prices, profile)
    return quotas.estimate(kind, turns, rates, is_priced=is_priced)


def similar(profile: Profile, kind: str) -> QuerySet[Run]:
    """Earlier runs that tell what one of this kind needs from this profile, the newest first."""
    known = Run.objects.filter(kind=kind, input_tokens__isnull=False)
    return known.filter(backend=profile.backend, model=profile.model).order_by("-pk")


def pricing(prices: Sequence[Price], profile: Profile) -> tuple[quotas.Rates | None, bool]:
    """The price that a profile is counted with, and whether it is its model's own.

    Without one it is the dearest that was entered for any model; None where there is none at all.
    """
    if found := _rates_among(prices, profile.provider_id, profile.model):
        return found, True
    return quotas.dearest(_rates(price) for price in prices), False


def rates_of(provider_id: int | None, model: str) -> quotas.Rates | None:
    """The price of a model at this account, else at any; None where nobody entered one."""
    return _rates_among(list(Price.objects.filter(model=model)), provider_id, model)


def _rates_among(
    prices: Iterable[Price], provider_id: int | None, model: str
) -> quotas.Rates | None:
    found = {price.provider_id: price for price in prices if price.model == model}
    price = found.get(provider_id) or found.get(None)
    return _rates(price) if price else None


def _rates(price: Price) -> quotas.Rates:
    return quotas.Rates(price.input_per_million, price.output_per_million)


def user_of(plan: Plan | None) -> int | None:
    """Whose quota counts: the person who approved the plan, or who asks for one."""
    return (plan.decided_by_id or plan.proposal_by_id) if plan else None


def applying(
    rows: Iterable[Quota], project_id: int, provider_id: int | None, user_id: int | None
) -> list[Quota]:
    """Those of the quotas that a run of this project, provider and user has to keep."""
    scope = Quota.Scope
    return [
        row
        for row in rows
        if row.scope == scope.SITE
        or (row.scope == scope.PROVIDER and row.provider_id == provider_id)
        or (row.scope == scope.PROJECT and row.project_id == project_id)
        or (row.scope == scope.USER and row.user_id == user_id)
    ]


def runs_of(quota: Quota) -> QuerySet[Run]:
    """Runs of agents that count in a quota."""
    rows = Run.objects.filter(needs_slot=True)
    if quota.scope == Quota.Scope.PROVIDER:
        rows = rows.filter(provider=quota.provider)
    if quota.scope == Quota.Scope.PROJECT:
        rows = rows.filter(project=quota.project)
    if quota.scope == Quota.Scope.USER:
        rows = rows.filter(plan__decided_by=quota.user)
    return rows


def touching(project: Project) -> QuerySet[Quota]:
    """Every quota that a run of the project may touch, in the order of their locks."""
    plans = Plan.objects.filter(project=project)
    return Quota.objects.filter(
        Q(scope__in=[Quota.Scope.SITE, Quota.Scope.PROVIDER])
        | Q(project=project)
        | Q(user__in=plans.filter(decided_by__isnull=False).values("decided_by"))
        | Q(user__in=plans.filter(proposal_by__isnull=False).values("proposal_by"))
    ).order_by("pk")


def start_of(quota: Quota, now: datetime) -> datetime | None:
    return quotas.window_start(
        quota.period, now, window_seconds=quota.window_seconds, time_zone=quota.time_zone
    )


# --- Locking -------------------------------------------------------------------------------------


def lock(project: Project) -> list[Quota]:
    """Lock providers and quotas in their one order, and let go what left its window."""
    accounts = Provider.objects.select_for_update(no_key=True).order_by("pk")
    list(accounts.values_list("pk", flat=True))
    # The lock names the quota's own table, for the plans that it looks at must stay free.
    rows = list(touching(project).select_for_update(of=("self",), no_key=True))
    expire(rows, timezone.now())
    return rows


def expire(rows: Sequence[Quota], now: datetime) -> int:
    """Take from locked quotas what left their window; returns how many entries that were.

    What a run spent counts from its last turn, and not before it ended: a run over midnight never
    counts too little.
    """
    due = Q(pk__in=[])
    for quota in rows:
        if start := start_of(quota, now):
            due |= Q(quota=quota.pk, spent_at__lt=start)
    if not due:
        return 0
    gone = QuotaEntry.objects.filter(due, expired_at__isnull=True).exclude(
        run__status__in=Run.ACTIVE
    )
    freed: dict[int, Decimal] = {}
    keys = []
    for pk, quota_id, spent in gone.values_list("pk", "quota_id", "spent"):
        keys.append(pk)
        freed[quota_id] = freed.get(quota_id, Decimal(0)) + spent
    if not keys:
        return 0
    QuotaEntry.objects.filter(pk__in=keys).update(expired_at=now)
    _move({pk: (-spent, Decimal(0)) for pk, spent in freed.items()})
    for quota in rows:
        quota.spent -= freed.get(quota.pk, Decimal(0))
    return len(keys)


def _add(rows: Sequence[Quota], amounts: dict[int, Decimal]) -> bool:
    """Reserve of each quota by one conditional update; False when any of them refuses."""
    wanted = {row.pk: amounts[row.pk] for row in rows if amounts.get(row.pk)}
    if not wanted:
        return True
    more = _case(wanted)
    fits = Quota.objects.filter(pk__in=wanted).filter(limit__gte=F("spent") + F("reserved") + more)
    return fits.update(reserved=F("reserved") + more) == len(wanted)


def _is_beyond(rows: Sequence[Quota], found: Estimate) -> bool:
    """Whether a locked quota is overrun of which a turn reserves nothing: no price is known.

    What agents told that they cost was spent of it all the same.
    """
    return any(row.spent + row.reserved > row.limit for row in rows if not found.of(row.measure))


def _move(changes: dict[int, tuple[Decimal, Decimal]]) -> None:
    """Change what is spent and reserved of quotas by these differences."""
    kept = {pk: pair for pk, pair in changes.items() if any(pair)}
    if kept:
        Quota.objects.filter(pk__in=kept).update(
            spent=F("spent") + _case({pk: pair[0] for pk, pair in kept.items()}),
            reserved=F("reserved") + _case({pk: pair[1] for pk, pair in kept.items()}),
        )


def _case(values: dict[int, Decimal]) -> Case:
    field = DecimalField(max_digits=20, decimal_places=6)
    whens = [When(pk=pk, then=Value(value, field)) for pk, value in values.items()]
    return Case(*whens, default=Value(Decimal(0), field), output_field=field)


# --- A run's way ---------------------------------------------------------------------------------


def hold(project: Project, plan: Plan | None, profile: Profile, kind: str) -> Hold:
    """Reserve for a run that is about to be made. Raises Full; the caller's savepoint undoes."""
    rows = applying(lock(project), project.pk, profile.provider_id, user_of(plan))
    found = estimate_for(profile, kind)
    if profile.provider_id and not providers.slot_take(profile.provider_id):
        raise Full
    amounts = {row.pk: found.of(row.measure) for row in rows}
    if _is_beyond(rows, found) or not _add(rows, amounts):
        raise Full
    return Hold(found, profile.provider_id, amounts)


def enter(run: Run, held: Hold) -> None:
    """Say which run it was that reserved."""
    QuotaEntry.objects.bulk_create(
        QuotaEntry(quota_id=pk, run=run, reserved=value) for pk, value in held.amounts.items()
    )


def binds(run: Run) -> bool:
    """Whether a provider or any quota has a say in the run; nothing is locked to see that."""
    return run.provider_id is not None or touching(run.project).exists()


def again(run: Run, profile: Profile) -> None:
    """Reserve a whole turn once more before the next prompt. Raises Full when it does not fit.

    It also asks the provider's breaker, so that no prompt is sent into a wall that is known.
    """
    account = Provider.objects.filter(runs=run).first() if run.provider_id else None
    if account and providers.is_walled(account, timezone.now()):
        raise Walled
    rows = applying(lock(run.project), run.project_id, run.provider_id, user_of(run.plan))
    rows = [row for row in rows if row.measure != PARALLEL]
    if not rows:
        return
    found = estimate_for(profile, run.kind)
    entries = {entry.quota_id: entry for entry in _entries(run)}
    missing = {}
    for row in rows:
        have = entries[row.pk].reserved if row.pk in entries else Decimal(0)
        missing[row.pk] = max(Decimal(0), found.of(row.measure) - have)
    if _is_beyond(rows, found) or not _add(rows, missing):
        raise Full
    for pk, value in missing.items():
        if pk not in entries:
            QuotaEntry.objects.create(quota_id=pk, run=run, reserved=value)
        elif value:
            QuotaEntry.objects.filter(pk=entries[pk].pk).update(reserved=F("reserved") + value)


def settle(run: Run, tokens: int | None, money: Decimal | None) -> None:
    """Move what a turn used from reserved to spent; unknown use counts as what was reserved.

    A turn whose money is unknown is counted with the dearest price, as the estimate was.
    """
    lock(run.project)
    changes = {}
    now = timezone.now()
    for entry in _entries(run).exclude(quota__measure=PARALLEL):
        value = _counted(entry, tokens, money)
        is_estimated = value is None
        spent = min(entry.reserved if value is None else value, MOST)
        given = min(entry.reserved, spent)
        QuotaEntry.objects.filter(pk=entry.pk).update(
            spent=F("spent") + spent,
            reserved=F("reserved") - given,
            spent_at=now,
            is_estimated=entry.is_estimated or is_estimated or _is_guessed(entry, money),
        )
        changes[entry.quota_id] = (spent, -given)
    _move(changes)


def _counted(entry: QuotaEntry, tokens: int | None, money: Decimal | None) -> Decimal | None:
    """What a turn counts for; an agent may tell its money and no tokens."""
    if entry.quota.measure != TOKENS and money is not None:
        return money
    if tokens is None:
        return None
    return Decimal(tokens) if entry.quota.measure == TOKENS else guessed(tokens)


def guessed(tokens: int) -> Decimal:
    """What so many tokens cost at the dearest price that is known; 0 where none is."""
    known = quotas.dearest(_rates(price) for price in Price.objects.all())
    out = int(tokens * quotas.OUTPUT_SHARE)
    return quotas.cost(known, tokens - out, out) or Decimal(0)


def _is_guessed(entry: QuotaEntry, money: Decimal | None) -> bool:
    return entry.quota.measure == Quota.Measure.MONEY and money is None


def slot_free(run: Run) -> None:
    """The run gave its slot back, at its end or while it checks: others may be parallel now."""
    entries = list(_entries(run).filter(quota__measure=PARALLEL, reserved__gt=0))
    if not entries and run.provider_id is None:
        return
    lock(run.project)
    providers.slot_free(run.provider_id)
    QuotaEntry.objects.filter(pk__in=[entry.pk for entry in entries]).update(reserved=0)
    _move({entry.quota_id: (Decimal(0), -entry.reserved) for entry in entries})


def slot_take(run: Run) -> None:
    """Be one of the parallel runs again. Raises Full; the caller's savepoint undoes."""
    rows = applying(lock(run.project), run.project_id, run.provider_id, user_of(run.plan))
    rows = [row for row in rows if row.measure == PARALLEL]
    if run.provider_id and not providers.slot_take(run.provider_id):
        raise Full
    if not _add(rows, {row.pk: Decimal(1) for row in rows}):
        raise Full
    for row in rows:
        QuotaEntry.objects.update_or_create(quota=row, run=run, defaults={"reserved": Decimal(1)})


def close(run: Run, *, is_cut_off: bool = False) -> None:
    """A run ended: give back what it did not use. Its slot is given back before.

    A turn that was cut off with its worker used nobody knows how much: its estimate counts.
    """
    entries = list(_entries(run))
    if not entries:
        return
    if is_cut_off and _in_turn(run, entries):
        settle(run, None, None)
        entries = list(_entries(run))
    else:
        lock(run.project)
    now = timezone.now()
    _move({entry.quota_id: (Decimal(0), -entry.reserved) for entry in entries})
    QuotaEntry.objects.filter(run=run).update(reserved=0)
    QuotaEntry.objects.filter(run=run, spent=0).update(expired_at=now)


def _in_turn(run: Run, entries: Sequence[QuotaEntry]) -> bool:
    """Whether a prompt was sent whose use was never settled."""
    if run.status not in (Run.Status.RUNNING, Run.Status.STOPPING) or not run.assignments:
        return False
    settled = max((entry.spent_at for entry in entries if entry.spent_at), default=None)
    return settled is None or datetime.fromisoformat(run.assignments[-1]["at"]) > settled


def _entries(run: Run) -> QuerySet[QuotaEntry]:
    return QuotaEntry.objects.filter(run=run, expired_at__isnull=True).select_related("quota")


# --- Repair and proof ----------------------------------------------------------------------------


def recount(quota: Quota, now: datetime) -> bool:
    """Make a locked quota's figures the sums of its entries; whether they were something else."""
    start = start_of(quota, now)
    ended = QuotaEntry.objects.filter(quota=quota).exclude(run__status__in=Run.ACTIVE)
    ended.filter(reserved__gt=0).update(reserved=0)
    if start:
        ended.filter(expired_at__isnull=True, spent_at__lt=start).update(expired_at=now)
        ended.filter(expired_at__isnull=False, spent__gt=0, spent_at__gte=start).update(
            expired_at=None
        )
    ended.filter(expired_at__isnull=True, spent=0).update(expired_at=now)
    spent, reserved = _sums(quota)
    if (quota.spent, quota.reserved) == (spent, reserved):
        return False
    quota.spent, quota.reserved = spent, reserved
    # What is only counted again may lie above the limit; the wall is against new reservations.
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('tutti.recount', 'on', true)")
        Quota.objects.filter(pk=quota.pk).update(spent=spent, reserved=reserved)
        cursor.execute("SELECT set_config('tutti.recount', 'off', true)")
    return True


def _sums(quota: Quota) -> tuple[Decimal, Decimal]:
    live = QuotaEntry.objects.filter(quota=quota, expired_at__isnull=True)
    found = live.aggregate(spent=Sum("spent"), reserved=Sum("reserved"))
    return found["spent"] or Decimal(0), found["reserved"] or Decimal(0)


def violations() -> list[str]:
    """Sums that differ from what is kept, and reservations that nobody holds."""
    found = []
    for quota in Quota.objects.order_by("pk"):
        spent, reserved = _sums(quota)
        if (spent, reserved) != (quota.spent, quota.reserved):
            found.append(
                f"Quota {quota.pk} ({quota}): spent and reserved are {quota.spent} and "
                f"{quota.reserved}, its entries say {spent} and {reserved}."
            )
    loose = QuotaEntry.objects.filter(reserved__gt=0).exclude(run__status__in=Run.ACTIVE)
    found += [f"Run {entry.run_id} ended and holds {entry.reserved} of a quota." for entry in loose]
    idle = QuotaEntry.objects.filter(quota__measure=PARALLEL, reserved__gt=0, run__holds_slot=False)
    found += [f"Run {entry.run_id} holds no slot, but a parallel quota." for entry in idle]
    for provider in Provider.objects.order_by("pk"):
        holding = Run.objects.filter(provider=provider, holds_slot=True).count()
        if holding != provider.active_runs:
            found.append(
                f"{provider.name}: active_runs is {provider.active_runs}, {holding} runs hold a"
                " slot."
            )
    return found


def repair(project: Project) -> list[str]:
    """Put the counters right that this project's runs touch; a sentence for each. In its change."""
    said = []
    rows = lock(project)
    for entry in QuotaEntry.objects.filter(
        quota__measure=PARALLEL, reserved__gt=0, run__holds_slot=False, quota__in=rows
    ):
        QuotaEntry.objects.filter(pk=entry.pk).update(reserved=0)
    for quota in rows:
        if recount(quota, timezone.now()):
            said.append(f"What is used of {quota} was counted again.")
    for provider in Provider.objects.order_by("pk"):
        held = Run.objects.filter(provider=provider, holds_slot=True).count()
        if provider.active_runs != held:
            said.append(f"The runs of {provider.name} were {provider.active_runs}, are {held}.")
            Provider.objects.filter(pk=provider.pk).update(active_runs=held)
    return said
