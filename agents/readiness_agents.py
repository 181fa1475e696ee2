"""Points of the readiness checklist about agents and limits: roles, tiers, accounts, ceiling."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import partial

from agents.readiness_values import (
    Button,
    Facts,
    HostFact,
    Link,
    Point,
    ProfileFact,
    QuotaFact,
    State,
    many,
    named,
)
from projects.forecast import say_seconds

NEARLY = Decimal("0.8")
"""The share of a budget from which people are warned."""

_LIGHT = {"fast", "mini", "nano", "haiku", "small", "flash", "lite", "light", "tiny", "instant"}
_STRONG = {"strong", "opus", "max", "pro", "large", "ultra"}
_WORD = re.compile(r"[a-z0-9]+")


def agent_points(facts: Facts) -> list[Point]:
    """Is there somebody for each role, and who pays?"""
    return [_roles(facts), _tiers(facts), _provider(facts)]


def limit_points(facts: Facts) -> list[Point]:
    """Is the ceiling what machine, quota and plan can use?"""
    points = [_ceiling_machine(facts), _ceiling_quota(facts), _budget(facts)]
    if facts.plan is not None and facts.plan.specs:
        points.append(_ceiling_plan(facts))
    return [*points, _floors(facts), _paused(facts)]


def _roles(facts: Facts) -> Point:
    point = partial(Point, "roles", "agents", "Each role has somebody who works")
    broken = [(one, why) for one in facts.profiles if (why := _role_problem(facts, one))]
    if broken:
        # What is wrong with the profile itself is said before what only this plan lacks.
        profile, why = min(broken, key=lambda pair: not pair[0].problem)
        return point(State.MISSING, f"{len(broken)} of {len(facts.profiles)} roles cannot work:"
                     f" {profile.role}: {why}",
                     facts.page("agents:profiles", anchor=f"profile-{profile.role}"),
                     f"Choose the {profile.role}")  # fmt: skip
    said = ", ".join(f"{p.role} {p.backend} {p.model}".strip() for p in facts.profiles)
    unchosen = [one for one in facts.profiles if not one.is_chosen and one.backend != "replay"]
    if unchosen:
        return point(State.WARNING, f"Nobody chose {named([p.role for p in unchosen])}.",
                     facts.page("agents:profiles", anchor=f"profile-{unchosen[0].role}"),
                     "Choose")  # fmt: skip
    return point(State.READY, f"{len(facts.profiles)} of 3: {said}.")


def _role_problem(facts: Facts, profile: ProfileFact) -> str:
    if profile.problem:
        return profile.problem
    if profile.backend == "replay" and facts.plan and not facts.plan.has_recordings:
        return "it replays recorded runs, and the plan names no recordings."
    return ""


def strength(model: str) -> int | None:
    """1 for a light model, 2 for one between, 3 for a strong one, by its name; None without."""
    words = set(_WORD.findall(model.lower()))
    if not words:
        return None
    return 1 if words & _LIGHT else 3 if words & _STRONG else 2


def is_stronger(one: str, other: str, prices: Mapping[str, Decimal]) -> bool | None:
    """Whether a model is stronger, by price, else by name; None when neither tells."""
    if one in prices and other in prices and prices[one] != prices[other]:
        return prices[one] > prices[other]
    mine, theirs = strength(one), strength(other)
    return None if mine is None or theirs is None or mine == theirs else mine > theirs


def _tiers(facts: Facts) -> Point:
    point = partial(Point, "tiers", "agents", "A strong model judges, a lighter one codes")
    models = {one.role: one.model for one in facts.profiles}
    judge, coder = models.get("orchestrator", ""), models.get("executor", "")
    link = facts.page("agents:profiles", anchor="profile-executor")
    if not judge or not coder:
        lacking = [role for role, model in models.items() if not model]
        return point(State.UNKNOWN, f"No model is named for {named(lacking) or 'the roles'}.",
                     facts.page("agents:profiles",
                                anchor=f"profile-{lacking[0] if lacking else 'orchestrator'}"),
                     "Name the models")  # fmt: skip
    if judge == coder:
        return point(State.WARNING, f"{judge} plays both: 1 model where 2 would cost less for most"
                     " of the tokens.", link, "Choose a lighter executor")  # fmt: skip
    stronger = is_stronger(judge, coder, facts.prices)
    if stronger is None:
        return point(State.UNKNOWN, f"Whether {judge} is stronger than {coder} shows neither in"
                     " their names nor in prices.", link, "Look at the profiles")  # fmt: skip
    if not stronger:
        return point(State.WARNING, f"{judge} judges what {coder} codes, and is the lighter one.",
                     facts.page("agents:profiles", anchor="profile-orchestrator"),
                     "Choose a stronger orchestrator")  # fmt: skip
    return point(State.READY, f"{judge} judges, {coder} codes.")


def _provider(facts: Facts) -> Point:
    point = partial(Point, "provider", "agents", "An account pays, and is open")
    live = [one for one in facts.profiles if one.backend != "replay"]
    if not live:
        return point(State.READY, "All 3 roles replay recorded runs, which no account pays for.")
    shut = next((one for one in live if one.breaker not in ("", "closed")), None)
    if shut is not None:
        until = f" until {shut.wake_at:%Y-%m-%d %H:%M} UTC" if shut.wake_at else ""
        state = State.MISSING if shut.breaker == "exhausted" else State.WARNING
        return point(state, f"The account {shut.provider} is {shut.breaker}{until}.",
                     facts.page("agents:profiles", anchor=f"profile-{shut.role}"),
                     "Choose another account")  # fmt: skip
    bare = [one for one in live if not one.provider]
    if bare:
        return point(State.WARNING, f"{len(bare)} of {len(live)} roles"
                     f" ({named([p.role for p in bare])}) are charged to no account: only the"
                     " limits of site and project count for them.",
                     facts.page("agents:profiles", anchor=f"profile-{bare[0].role}"),
                     "Choose an account")  # fmt: skip
    names = sorted({one.provider for one in live})
    return point(State.READY, f"{named(names)}: {many(len(names), 'account')} open.")


def _ceiling_machine(facts: Facts) -> Point:
    point = partial(Point, "ceiling-machine", "limits", "The machines carry the ceiling")
    hosts = facts.fresh()
    if not hosts or any(host.capacity is None for host in hosts):
        said = "No machine was read yet" if not hosts else "What the machines carry is not read yet"
        return point(State.UNKNOWN, f"{said}; the ceiling is {facts.ceiling}.",
                     facts.page("agents:readiness", anchor="machines"),
                     "See the machines")  # fmt: skip
    carried = sum(host.capacity or 0 for host in hosts)
    said = f"The ceiling is {facts.ceiling}; {many(len(hosts), 'machine')} can carry {carried}"
    if carried < facts.ceiling:
        return point(State.WARNING, f"{said}, so the rest waits. {_why(hosts)}".strip(),
                     facts.settings("id_ceiling"), "Change the ceiling")  # fmt: skip
    return point(State.READY, f"{said}.")


def _why(hosts: list[HostFact]) -> str:
    return next((host.capacity_reason for host in hosts if host.capacity_reason), "")


def _ceiling_quota(facts: Facts) -> Point:
    point = partial(Point, "ceiling-quota", "limits", "Quotas allow the ceiling")
    limits = [quota for quota in facts.quotas if quota.measure == "parallel"]
    tight = min(limits, key=lambda quota: quota.limit, default=None)
    if tight is not None and tight.limit < facts.ceiling:
        button = Button("projects:ceiling", (facts.slug,),
                        f"Set the ceiling to {tight.limit:.0f}", "owner",
                        {"ceiling": int(tight.limit)}) if tight.limit >= 1 else None  # fmt: skip
        return point(State.WARNING, f"The ceiling is {facts.ceiling}; {_owner(tight)} allows"
                     f" {tight.limit:.0f} at once.", _quota_link(facts, tight), "See the quota",
                     button)  # fmt: skip
    if facts.ceiling > facts.site_ceiling:
        return point(State.WARNING, f"The ceiling is {facts.ceiling}; this site allows up to"
                     f" {facts.site_ceiling}.", facts.settings("id_ceiling"),
                     "Change the ceiling")  # fmt: skip
    which = f"{many(len(limits), 'quota')} on runs at once allow it" if limits else (
        f"0 quotas bound runs at once, the site allows {facts.site_ceiling}"
    )  # fmt: skip
    return point(State.READY, f"The ceiling is {facts.ceiling}; {which}.")


def _quota_link(facts: Facts, quota: QuotaFact) -> Link:
    """The row of a project's own quota; what the site or an account sets stands below those."""
    anchor = f"quota-{quota.pk}" if quota.scope == "project" else "above"
    return facts.page("agents:quotas", anchor=anchor)


def _owner(quota: QuotaFact) -> str:
    return f"the account {quota.provider}" if quota.provider else f"the {quota.scope}'s quota"


def _budget(facts: Facts) -> Point:
    point = partial(Point, "budget", "limits", "A budget bounds tokens or money")
    budgets = [quota for quota in facts.quotas if quota.measure != "parallel"]
    spent = [quota for quota in budgets if quota.used >= quota.limit]
    nearly = [quota for quota in budgets if quota.used >= quota.limit * NEARLY]
    for state, found in ((State.MISSING, spent), (State.WARNING, nearly)):
        if found:
            one = found[0]
            return point(state, f"{one.used:.0f} of {one.limit:.0f} {one.measure} a {one.period}"
                         f" of {_owner(one)} are used.", _quota_link(facts, one),
                         "See the budget")  # fmt: skip
    if not budgets:
        if all(profile.backend == "replay" for profile in facts.profiles):
            return point(State.READY, "Recorded runs use 0 tokens, so nothing has to bound them.")
        return point(State.WARNING, "0 quotas bound tokens or money: nothing stops a plan that"
                     " runs wild.", facts.page("agents:quotas", anchor="add-quota"),
                     "Set a budget")  # fmt: skip
    return point(State.READY, f"{many(len(budgets), 'budget')}, none used to 80 %.")


def _ceiling_plan(facts: Facts) -> Point:
    point = partial(Point, "ceiling-plan", "limits", "The plan can use the ceiling")
    report = facts.plan.report if facts.plan else None
    if report is None:
        return point(State.UNKNOWN, "It can be said once nothing waits in a circle.",
                     facts.page("projects:plan", anchor="plan"), "See the plan")  # fmt: skip
    best = min(report.wall_clock.values())
    enough = min(n for n, wall in report.wall_clock.items() if wall <= best * 1.001)
    now = report.wall_clock[max(1, min(facts.ceiling, max(report.wall_clock)))]
    said = f"With {facts.ceiling} at once the plan takes about {say_seconds(now)}"
    if facts.ceiling > enough:
        button = Button("projects:ceiling", (facts.slug,), f"Set the ceiling to {enough}", "owner",
                        {"ceiling": enough})  # fmt: skip
        return point(State.WARNING, f"{said}, and no less than with {enough}: a ceiling above"
                     f" {enough} gains nothing.", facts.settings("id_ceiling"),
                     "Change the ceiling", button)  # fmt: skip
    more = "" if facts.ceiling == enough else (
        f"; {enough} at once would take {say_seconds(best)}, more gain nothing"
    )  # fmt: skip
    return point(State.READY, f"{said}{more}.")


def _floors(facts: Facts) -> Point:
    point = partial(Point, "floors", "limits", "Memory and disk are above their floors")
    hosts = facts.fresh()
    link, text = facts.page("agents:readiness", anchor="machines"), "See the machines"
    if not hosts:
        return point(State.UNKNOWN, "No machine was read in the last 2 minutes.", link, text)
    low = [
        host
        for host in hosts
        if host.memory_available_mb < facts.memory_floor_mb
        or host.disk_free_mb < facts.disk_floor_mb
    ]
    if low:
        one = low[0]
        state = State.MISSING if len(low) == len(hosts) else State.WARNING
        return point(state, f"{one.name} has {one.memory_available_mb} MB of memory and"
                     f" {one.disk_free_mb} MB of disk free; the floors are"
                     f" {facts.memory_floor_mb} and {facts.disk_floor_mb} MB.", link,
                     text)  # fmt: skip
    memory, disk = min(h.memory_available_mb for h in hosts), min(h.disk_free_mb for h in hosts)
    return point(State.READY, f"At least {memory} MB of memory and {disk} MB of disk are free; the"
                 f" floors are {facts.memory_floor_mb} and {facts.disk_floor_mb} MB.")  # fmt: skip


def _paused(facts: Facts) -> Point:
    point = partial(Point, "going", "limits", "The project is not paused")
    if facts.is_paused:
        button = Button("projects:resume", (facts.slug,), "Resume the project", "maintainer")
        return point(State.WARNING, "It is paused: 0 new runs start.",
                     facts.page("agents:board", anchor="do-pause"), "See the board",
                     button)  # fmt: skip
    return point(State.READY, "New runs start as soon as they can.")
