"""Accounts of backends, what their models cost, and the breaker of each."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from agents.models import Price, Profile, Provider, Quota, Run
from projects import live
from projects.services.errors import Problem, Refused
from projects.text import clean_text

B = Provider.Breaker
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
#: Money for a million tokens that is surely a slip of the pen.
DEAREST = Decimal(100_000)
#: How long a wall without a time is believed in before it is tried again: twice as long each time
#: that it still stands, at most the second.
LIMITED_SECONDS, LONGEST_LIMITED = 2.0, 300.0
EXHAUSTED_SECONDS = 900.0
#: No provider is believed when it names a reset further away than this.
LONGEST = timedelta(days=40)


def topic(provider: Provider) -> str:
    return f"site/provider/{provider.pk}"


def provider_set(by: User, name: str, title: str = "") -> Provider:
    """Make an account that runs are charged to, or give it another title."""
    if not NAME.fullmatch(name):
        message = "A provider's name has small letters, digits, - and _, at most 60 of them."
        raise Refused(message, [Problem("", "name", message)])
    title = clean_text(title, 120).strip()
    with transaction.atomic():
        provider = Provider.objects.select_for_update().filter(name=name).first()
        before = provider.title if provider else None
        if provider is None:
            provider = Provider.objects.create(name=name, title=title)
        elif before != title:
            Provider.objects.filter(pk=provider.pk).update(title=title)
            provider.title = title
        live.site_event("provider.set", topic(provider), live.Actor.person(by),
                        name=name, before=before, after=title)  # fmt: skip
    return provider


def provider_remove(provider: Provider, by: User) -> None:
    """Remove an account that nothing refers to. Raises Refused while something does."""
    with transaction.atomic():
        Provider.objects.select_for_update().get(pk=provider.pk)
        uses = [
            (Profile.objects.filter(provider=provider).count(), "profiles use it"),
            (Quota.objects.filter(provider=provider).count(), "quotas are set for it"),
            (Run.objects.filter(provider=provider).count(), "runs were charged to it"),
        ]
        held = ", ".join(f"{count} {text}" for count, text in uses if count)
        if held:
            raise Refused(
                f"{provider.name} can't be removed: {held}. Change those first; an account that"
                " runs were charged to stays for the record."
            )
        gone = topic(provider)
        provider.delete()
        live.site_event("provider.removed", gone, live.Actor.person(by), name=provider.name)


def price_set(
    by: User,
    provider: Provider | None,
    model: str,
    input_per_million: Decimal | str | float,
    output_per_million: Decimal | str | float,
) -> Price:
    """Enter what a model costs, for one account or for all of them; runs keep their old cost."""
    name = clean_text(model, 120).strip()
    problems = [] if name else [Problem("", "model", "Name the model.")]
    rates = {}
    fields = {"input_per_million": input_per_million, "output_per_million": output_per_million}
    for field, raw in fields.items():
        try:
            rates[field] = _money(raw)
        except ValueError as error:
            problems.append(Problem("", field, str(error)))
    if problems:
        raise Refused("; ".join(problem.message for problem in problems), problems)
    with transaction.atomic():
        before = Price.objects.filter(provider=provider, model=name).first()
        price, _ = Price.objects.update_or_create(provider=provider, model=name, defaults=rates)
        live.site_event(
            "price.set",
            topic(provider) if provider else live.SITE,
            live.Actor.person(by),
            model=name,
            provider=provider.name if provider else None,
            before=[before.input_per_million, before.output_per_million] if before else None,
            after=[price.input_per_million, price.output_per_million],
        )
    return price


def price_remove(price: Price, by: User) -> None:
    with transaction.atomic():
        place = topic(price.provider) if price.provider else live.SITE
        live.site_event("price.removed", place, live.Actor.person(by), model=price.model)
        price.delete()


def _money(raw: Decimal | str | float) -> Decimal:
    try:
        value = Decimal(str(raw))
    except InvalidOperation as error:
        raise ValueError("A price is a number.") from error
    if not value.is_finite() or value < 0:
        raise ValueError("A price is 0 or more.")
    if value > DEAREST:
        raise ValueError(f"A price above {DEAREST:,} for a million tokens is surely a slip.")
    return value.quantize(Decimal("0.000001"))


# --- The breaker ---------------------------------------------------------------------------------


def provider_limited(provider: Provider, retry_after: float | None = None) -> None:
    """The account answered 429: half as many at once, and nothing starts before it may.

    Answers that come while the wall is known only move its end, so one storm halves once.
    """
    now = timezone.now()
    with transaction.atomic():
        found = Provider.objects.select_for_update().get(pk=provider.pk)
        wait = _backed_off(found, now) if retry_after is None else max(0.0, retry_after)
        wake_at = now + timedelta(seconds=min(wait, 86_400.0))
        if found.breaker == B.EXHAUSTED and is_walled(found, now):
            return
        known = found.breaker == B.THROTTLED and is_walled(found, now)
        before = found.slots
        if known:
            found.wake_at = max(wake_at, found.wake_at or wake_at)
        else:
            at_once = found.slots if found.breaker == B.THROTTLED and found.slots else None
            found.slots = max(1, (at_once or found.active_runs) // 2)
            found.wake_at, found.changed_at = wake_at, now
        found.breaker = B.THROTTLED
        found.reason = (
            f"It answered that requests come too fast: {_runs(found.slots or 1)} at once, and one"
            " more after each calm."
        )
        found.save(update_fields=["breaker", "slots", "reason", "changed_at", "wake_at"])
        if not known:
            live.site_event("provider.throttled", topic(found), live.SYSTEM, name=found.name,
                            before=before, slots=found.slots, until=found.wake_at)  # fmt: skip


def _backed_off(provider: Provider, now: datetime) -> float:
    """Seconds to wait where the account names none: twice those of the wall before, unless that
    was followed by a calm."""
    since, until = provider.changed_at, provider.wake_at
    if provider.breaker != B.THROTTLED or since is None or until is None or until <= since:
        return LIMITED_SECONDS
    if until > now:  # The same storm.
        return LIMITED_SECONDS
    return min(max(LIMITED_SECONDS, 2 * (until - since).total_seconds()), LONGEST_LIMITED)


def provider_exhausted(
    provider: Provider, wake_at: datetime | None = None, reason: str = ""
) -> None:
    """The account is used up: nothing starts and what runs is paused until it resets.

    A reset time that is missing, past or absurd becomes a try after a quarter of an hour.
    """
    now = timezone.now()
    if wake_at is None or not now < wake_at < now + LONGEST:
        wake_at = now + timedelta(seconds=EXHAUSTED_SECONDS)
    with transaction.atomic():
        found = Provider.objects.select_for_update().get(pk=provider.pk)
        if found.breaker == B.EXHAUSTED and found.wake_at and found.wake_at >= wake_at:
            return
        found.breaker, found.wake_at, found.changed_at = B.EXHAUSTED, wake_at, now
        found.reason = clean_text(reason, 500) or "The account says that it is used up."
        found.save(update_fields=["breaker", "wake_at", "changed_at", "reason"])
        live.site_event("provider.exhausted", topic(found), live.SYSTEM, name=found.name,
                        until=wake_at, reason=found.reason)  # fmt: skip


def provider_reset(provider: Provider, by: User) -> None:
    """A person says that the account works again; waiting work starts at once."""
    with transaction.atomic():
        found = Provider.objects.select_for_update().get(pk=provider.pk)
        before = found.breaker
        _close(found)
        live.site_event("provider.reset", topic(found), live.Actor.person(by), name=found.name,
                        before=before)  # fmt: skip


def provider_mind(now: datetime | None = None) -> None:
    """The clock's part: wake what has slept, climb after calm. Cheap while all is well."""
    now = now or timezone.now()
    for provider in Provider.objects.exclude(breaker=B.CLOSED):
        if not is_walled(provider, now):
            _wake_or_climb(provider.pk, now)


def _wake_or_climb(pk: int, now: datetime) -> None:
    calm = timedelta(seconds=settings.TUTTI_PROVIDER_CALM_SECONDS)
    with transaction.atomic():
        found = Provider.objects.select_for_update().get(pk=pk)
        if is_walled(found, now):
            return
        if found.breaker == B.EXHAUSTED:
            _close(found)
            live.site_event("provider.woken", topic(found), live.SYSTEM, name=found.name)
            return
        since = max(filter(None, [found.changed_at, found.wake_at]), default=now)
        # A clock that was set back must not keep the ceiling down for as long as it jumped.
        if found.breaker != B.THROTTLED or timedelta(0) <= now - since < calm:
            return
        slots = (found.slots or 0) + 1
        if slots >= _most(found):
            _close(found)
            live.site_event("provider.calm", topic(found), live.SYSTEM, name=found.name)
            return
        found.slots, found.changed_at = slots, now
        found.reason = f"After a calm {_runs(slots)} may work at once again."
        found.save(update_fields=["slots", "changed_at", "reason"])
        live.site_event("provider.climbed", topic(found), live.SYSTEM, name=found.name,
                        before=slots - 1, slots=slots)  # fmt: skip


def _most(provider: Provider) -> int:
    """Slots from which on the breaker binds nothing that other limits would not."""
    row = Quota.objects.filter(provider=provider, measure=Quota.Measure.PARALLEL).first()
    return min(settings.TUTTI_SITE_CEILING, int(row.limit) if row else settings.TUTTI_SITE_CEILING)


def _close(provider: Provider) -> None:
    provider.breaker, provider.slots, provider.wake_at = B.CLOSED, None, None
    provider.reason, provider.changed_at = "", timezone.now()
    provider.save(update_fields=["breaker", "slots", "wake_at", "reason", "changed_at"])


def is_walled(provider: Provider, now: datetime) -> bool:
    """Whether the account said that nothing works before a time that has not come."""
    return provider.breaker != B.CLOSED and provider.wake_at is not None and provider.wake_at > now


def slot_take(provider_id: int) -> bool:
    """Take one of the account's slots; False at its ceiling or before its wall ends."""
    now = timezone.now()
    free = Q(breaker=B.CLOSED) | (
        (Q(wake_at__isnull=True) | Q(wake_at__lte=now))
        & (Q(slots__isnull=True) | Q(active_runs__lt=F("slots")))
    )
    rows = Provider.objects.filter(free, pk=provider_id)
    return bool(rows.update(active_runs=F("active_runs") + 1))


def slot_free(provider_id: int | None) -> None:
    if provider_id:
        Provider.objects.filter(pk=provider_id).update(active_runs=F("active_runs") - 1)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
