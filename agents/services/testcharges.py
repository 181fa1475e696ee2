"""What a test of a provider counts for: whether its account may be asked, and what was used."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from agents import quotas as rules
from agents import usage
from agents.backends.base import BackendError, Usage
from agents.models import Provider, ProviderTest, Quota, QuotaEntry
from agents.services import budgets, providers, walls
from agents.telling import amount

#: Tokens of a prompt for one word with everything that an agent sends along, where it does not say.
GUESS = 20_000


def refusal(test: ProviderTest) -> str:
    """Why nothing may be asked of the account now, in words; empty when it may.

    A test takes no slot and reserves nothing: one word is let through while anything is left.
    """
    now = timezone.now()
    account = test.provider
    if account and providers.is_walled(account, now):
        return (
            f"{walls.walled(account, now)} A site admin can reset it on the site's page of "
            "providers, and then test again."
        )
    if account and _is_full(account):
        return (
            f"The provider {account} carries {account.slots} at once, and as many are at work."
            " Test again when one of them has ended."
        )
    rows = list(_quotas(test).select_related("provider", "user"))
    usage.let_go(rows, now)
    return next((_used_up(row) for row in rows if row.spent + row.reserved >= row.limit), "")


def _is_full(account: Provider) -> bool:
    is_throttled = account.breaker == Provider.Breaker.THROTTLED and account.slots is not None
    return is_throttled and account.active_runs >= (account.slots or 0)


def _used_up(quota: Quota) -> str:
    rule, use, now = walls.rule_of(quota), walls.use_of(quota), timezone.now()
    if quota.spent < quota.limit:
        return rules.held_up(rule, use)
    until = rules.resets_at(rule, use, Decimal(1), now, walls.moments(quota))
    return rules.used_up(rule, use, until, now)


def _quotas(test: ProviderTest) -> QuerySet[Quota]:
    """Quotas of tokens and money that the test counts in, in the order of their locks."""
    scope = Quota.Scope
    mine = Q(scope=scope.SITE)
    if test.provider_id:
        mine |= Q(scope=scope.PROVIDER, provider=test.provider_id)
    if test.project_id:
        mine |= Q(scope=scope.PROJECT, project=test.project_id)
    if test.asked_by_id:
        mine |= Q(scope=scope.USER, user=test.asked_by_id)
    rows = Quota.objects.filter(mine).exclude(measure=Quota.Measure.PARALLEL)
    return rows.order_by("pk")


def money_of(test: ProviderTest, used: Usage) -> Decimal | None:
    """What the test cost, as a run's turn is counted; None where nobody knows."""
    if used.cost is not None and used.currency in ("", settings.TUTTI_CURRENCY):
        return Decimal(str(used.cost))
    rates = budgets.rates_of(test.provider_id, test.model)
    return rules.cost(rates, used.input_tokens, used.output_tokens)


def said(money: Decimal | None) -> str:
    return "" if money is None else amount(money)


def charge(test: ProviderTest, used: Usage, *, is_refused: bool) -> None:
    """Count what was used in every quota that it concerns; what nobody told is estimated.

    In the project's change, where the test has a project, for quotas are locked after projects.
    """
    if is_refused and used.input_tokens is None:
        return
    money = money_of(test, used)
    is_known = used.input_tokens is not None
    tokens = (used.input_tokens or 0) + (used.output_tokens or 0) if is_known else GUESS
    with transaction.atomic():
        now = timezone.now()
        # Lock first: each quota's figure must stay the sum of its entries.
        rows = _quotas(test).select_for_update(of=("self",), no_key=True)
        for row in rows:
            spent = Decimal(tokens) if row.measure == Quota.Measure.TOKENS else money
            if spent is None:
                spent = budgets.guessed(tokens)
            if not spent:
                continue
            is_guess = not is_known or (row.measure == Quota.Measure.MONEY and money is None)
            QuotaEntry.objects.create(quota=row, test=test, spent=spent, spent_at=now,
                                      is_estimated=is_guess)  # fmt: skip
            Quota.objects.filter(pk=row.pk).update(spent=F("spent") + spent)


def tell_breaker(test: ProviderTest, error: BackendError) -> None:
    """Let the account's breaker know what the provider refused, as a run would.

    A missing sign-in is left out: a test is what people make while they set it up.
    """
    if test.provider is None:
        return
    if error.kind in ("rate_limited", "overloaded"):
        providers.provider_limited(test.provider, error.retry_after)
    elif error.kind == "exhausted":
        providers.provider_exhausted(test.provider, error.resets_at, str(error))
