"""Write down how much of something a quota counts. Pure."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings

from agents.models.quota import Quota


def currency() -> str:
    return str(getattr(settings, "TUTTI_CURRENCY", "USD"))


def amount(value: Decimal | float | int, measure: str) -> str:
    """An amount with its unit: 1 run, 1,200,000 tokens, 12.50 USD."""
    number = Decimal(value)
    if measure == Quota.Measure.MONEY:
        return f"{money(number)} {currency()}"
    noun = "run" if measure == Quota.Measure.PARALLEL else "token"
    return f"{plain(number)} {noun}" + ("" if number == 1 else "s")


def plain(value: Decimal) -> str:
    """A number with separators and without needless zeros."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def money(value: Decimal) -> str:
    """Two digits after the point, or as many as there are when that would show nothing."""
    if value and abs(value) < Decimal("0.01"):
        return plain(value)
    return f"{value:,.2f}"
