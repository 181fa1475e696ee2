"""Recognise in an agent's words that its provider refused, and when it will not any more. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from projects.text import clean_text

#: Kinds whose owner is the provider: nobody's attempt, the work waits.
PROVIDER_KINDS = ("rate_limited", "overloaded", "signed_out", "exhausted")

#: What becomes of the work; a sign-in differs from agent to agent.
THEN = {
    "exhausted": "Work goes on by itself once the account has something left: fill it up, wait for "
    "its reset, or choose another provider in the role's profile.",
    "rate_limited": "It is tried again by itself, later each time.",
    "overloaded": "It is tried again by itself, later each time.",
}


@dataclass(frozen=True)
class Trouble:
    """What went wrong, as the agent said it; `kind` is "failed" when it is not the provider's."""

    kind: str
    message: str
    retry_after: float | None = None
    resets_at: datetime | None = None

    @property
    def is_provider(self) -> bool:
        return self.kind in PROVIDER_KINDS


def _status(*codes: int) -> str:
    """A status code where it is one: a bare number may be a line of a program."""
    numbers = "|".join(map(str, codes))
    return (
        rf"(?:status|code|error|http(?:/[\d.]+)?)\W{{0,4}}(?:code\W{{0,3}})?(?:{numbers})\b"
        rf"|\b(?:{numbers})\b\W{{0,3}}(?:too many|unauthorized|payment|service|overloaded|\{{)"
    )


# In this order: a used up account also answers 429, and an expired sign-in may mention limits.
_SIGNS = [
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("signed_out",
         r"invalid api key|incorrect api key|api key not valid|invalid x-api-key|/login\b"
         r"|not (?:logged|signed) in|authentication[_ ](?:failed|error|required)|unauthenticated"
         r"|(?:token|session|sign-in|login|credentials?) (?:has |have |is )?expired"
         r"|(?:codex|gemini|claude|opencode) (?:auth )?login"
         r"|no (?:auth|api) (?:credentials|key|type)|fatalauthenticationerror"
         r"|set an auth method|sign in again|log in again"
         r"|missing environment variable\W{0,4}\w{0,40}(?:key|token)\b"
         r"|refresh token|" + _status(401)),
        ("exhausted",
         r"usage[_ ]limit|insufficient[_ ]quota|credit balance is too low|out of credits"
         r"|exceeded your (?:current |monthly |daily )?(?:quota|credit|limit)|billing[_ ]error"
         r"|quota (?:exceeded|exhausted)|exhausted your (?:\w+ )?(?:quota|capacity)"
         r"|hit your (?:\w+ )?(?:limit|quota)|(?:hour|daily|weekly|session) limit reached"
         r"|requests? per day|terminalquotaerror|payment required|" + _status(402)),
        ("overloaded",
         r"overloaded|\bunavailable\b|at capacity|high demand|server is busy|" + _status(503, 529)),
        ("rate_limited",
         r"rate[-_ ]?limit|too many requests|resource[_ ]?exhausted|retryablequotaerror|"
         + _status(429)),
    )
]  # fmt: skip
_CODES = {401: "signed_out", 402: "exhausted", 403: "signed_out", 429: "rate_limited",
          503: "overloaded", 529: "overloaded"}  # fmt: skip

_EPOCH = re.compile(r"(?:limit reached\||resets?_?at\W{1,4})(\d{10})\b", re.IGNORECASE)
_SECONDS = re.compile(
    r"(?:resets_in_seconds|retry[-_ ]?after(?:[-_ ]seconds)?)\W{1,4}(\d+(?:\.\d+)?)", re.IGNORECASE
)
_SPAN = re.compile(
    r"(?:again|retry|resets?|reset after) (?:in |after )?((?:\d+(?:\.\d+)? ?(?:days?|hours?|"
    r"minutes?|seconds?|mins?|secs?|ms|[dhms])(?![a-z]),? ?(?:and )?)+)",
    re.IGNORECASE,
)
_PART = re.compile(r"(\d+(?:\.\d+)?) ?(ms|[dhms])", re.IGNORECASE)
_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_CLOCK = re.compile(
    r"(?:again|resets?)(?: at| on)? (?:(?P<month>[A-Z][a-z]{2})[a-z]* (?P<day>\d{1,2})"
    r"(?:st|nd|rd|th)?,? ?(?P<year>\d{4})?,? ?(?:at )?)?(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?"
    r" ?(?P<half>[AaPp]\.?[Mm])?(?: \((?P<zone>[\w/+-]+)\))?"
)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def trouble_of(
    said: str, now: datetime, *, status: Any = None, resets: Any = None, kind: str = ""
) -> Trouble:
    """What a failed line says; `status` is an HTTP code and `resets` an epoch, where it has them.

    Times of day without a zone are UTC: the sandbox has no other.
    """
    code = int(status) if isinstance(status, int | str) and str(status).isdecimal() else 0
    found = kind or _kind(said, code)
    message = clean_text(said, 500).strip() or "The agent did not say what failed."
    if found not in PROVIDER_KINDS:
        return Trouble("failed", message)
    retry_after, resets_at = times_of(said, now)
    if isinstance(resets, int | float) and 10**9 <= resets < 10**11:
        resets_at = datetime.fromtimestamp(resets, UTC)
    return Trouble(found, message, retry_after, resets_at)


def _kind(said: str, code: int) -> str:
    for kind, signs in _SIGNS:
        if signs.search(said):
            return kind
    return _CODES.get(code, "failed")


def times_of(said: str, now: datetime) -> tuple[float | None, datetime | None]:
    """Seconds to wait and the moment of the reset; both where the text names one of them."""
    if found := _EPOCH.search(said):
        moment = datetime.fromtimestamp(int(found[1]), UTC)
        return max((moment - now).total_seconds(), 0.0), moment
    seconds: float | None = None
    if found := _SECONDS.search(said):
        seconds = float(found[1])
    elif found := _SPAN.search(said):
        parts = _PART.findall(found[1])
        seconds = sum(float(number) * _UNITS[unit.lower()] for number, unit in parts)
    if seconds is not None and seconds < 400 * 86_400:
        return seconds, now + timedelta(seconds=seconds)
    moment_of = _CLOCK.search(said)
    at = _clock(moment_of, now) if moment_of else None
    return (max((at - now).total_seconds(), 0.0), at) if at else (None, None)


def _clock(found: re.Match[str], now: datetime) -> datetime | None:
    """The next moment with that time of day, or on that day."""
    if not found["half"] and not found["minute"]:
        return None  # A bare number is no time.
    hour = int(found["hour"])
    if found["half"]:
        hour = hour % 12 + (12 if found["half"][0] in "Pp" else 0)
    try:
        zone = ZoneInfo(found["zone"]) if found["zone"] else UTC
        local = now.astimezone(zone)
        at = local.replace(hour=hour, minute=int(found["minute"] or 0), second=0, microsecond=0)
        if found["month"]:
            year = int(found["year"] or local.year)
            at = at.replace(year=year, month=_MONTHS.index(found["month"]) + 1,
                            day=int(found["day"]))  # fmt: skip
        elif at <= local:
            at += timedelta(days=1)
    except (ValueError, KeyError, OSError):
        return None
    return at.astimezone(UTC)
