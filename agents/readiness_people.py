"""Points of the readiness checklist about people, standing texts, rules, machines and copies."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from agents.readiness_values import Facts, Point, State, many, named

ALL_PATHS = frozenset({"*", "**", "/", "/*", "/**", "**/*", "."})
WAIT_SECONDS = 30
BACKUP_SECONDS = 7 * 24 * 3600
"""A copy of the hub that is older than this, with newer work in it, is a warning."""

REMINDER = "Split the work into independent components"


def people_points(facts: Facts) -> list[Point]:
    """Who decides, who is asked, and by which rules?"""
    return [_deciders(facts), _approver(facts), _inbox(facts), _instructions(facts),
            _reminder(facts), *([_policies(facts)] if facts.plan else [])]  # fmt: skip


def machine_points(facts: Facts) -> list[Point]:
    """Does something tick, work, confine and keep?"""
    return [_clock(facts), _workers(facts), _sandbox(facts), _source(facts), _hub(facts),
            _backup(facts)]  # fmt: skip


def _deciders(facts: Facts) -> Point:
    point = partial(Point, "deciders", "people", "More than one person can decide")
    names = [one.name for one in facts.people if one.role in ("owner", "maintainer")]
    if len(names) < 2:
        return point(State.WARNING, f"{many(len(names), 'person')} can approve, overrule and grant:"
                     " when that one is away, work waits.",
                     facts.page("projects:settings-members", anchor="invite-role"),
                     "Invite a maintainer")  # fmt: skip
    return point(State.READY, f"{len(names)} owners and maintainers: {named(names)}.")


def _approver(facts: Facts) -> Point:
    point = partial(Point, "approver", "people", "Somebody may approve the plan")
    able = [p for p in facts.people if p.role in ("owner", "maintainer")]
    seen = [person.name for person in able if person.has_signed_in]
    link, text = facts.page("projects:settings-members", anchor="invite-role"), "Invite somebody"
    if not able:
        return point(State.MISSING, "0 people may approve, so nothing can run.", link, text)
    if not seen:
        return point(State.WARNING, f"{many(len(able), 'person')} may approve, and 0 of them have"
                     " ever signed in.", link, text)  # fmt: skip
    return point(State.READY, f"{many(len(able), 'person')} may approve; {len(seen)} of them have"
                 " signed in.")  # fmt: skip


def _inbox(facts: Facts) -> Point:
    point = partial(Point, "inbox", "people", "Somebody gets what agents ask")
    asked = [person for person in facts.people if person.role != "viewer"]
    seen = [person.name for person in asked if person.has_signed_in]
    link, text = facts.page("projects:settings-members", anchor="invite-role"), "Invite a member"
    if not asked:
        return point(State.MISSING, "0 members get the inbox: agents' questions reach nobody.",
                     link, text)  # fmt: skip
    if not seen:
        return point(State.WARNING, f"{many(len(asked), 'member')} get the inbox, and 0 have ever"
                     " signed in to read it.", link, text)  # fmt: skip
    return point(State.READY, f"{many(len(asked), 'member')} get the inbox.")


def _instructions(facts: Facts) -> Point:
    point = partial(Point, "instructions", "people", "Standing instructions are in place")
    link = facts.page("projects:settings-instructions", anchor="text-project")
    texts = {scope: text for scope, text in facts.instructions.items() if text.strip()}
    if not texts:
        return point(State.MISSING, "All 5 standing texts (site, project, 3 roles) are empty.",
                     link, "Write them")  # fmt: skip
    said = f"{many(len(texts), 'text')} in force ({named(list(texts))})"
    if not any("paralleli" in text.lower() for text in texts.values()):
        return point(State.WARNING, f"{said}, none of which asks to parallelize when possible.",
                     link, "Say it to the agents")  # fmt: skip
    return point(State.READY, f"{said}; they ask to parallelize when possible.")


def _reminder(facts: Facts) -> Point:
    point = partial(Point, "reminder", "people", "Agents are reminded to split, and what not to")
    specs = facts.plan.specs if facts.plan else ()
    laned = sum(bool(spec.lane) for spec in specs)
    said = f"each assignment ends with it and names the coupled ones of {many(laned, 'module')}"
    if facts.sent is not None and REMINDER not in facts.sent:
        return point(State.WARNING, "The newest assignment did not hold the reminder (0 of 1).",
                     facts.page("projects:settings-instructions", anchor="text-project"),
                     "Say it in the instructions")  # fmt: skip
    proof = "as the newest one did" if facts.sent else "none was sent yet"
    return point(State.READY, f"{said[0].upper()}{said[1:]}; {proof}.")


def _policies(facts: Facts) -> Point:
    point = partial(Point, "policies", "people", "It is decided what agents may do by themselves")
    policies = facts.plan.policies if facts.plan else {}
    lacking = [name for name in ("review", "split", "exceptions") if name not in policies]
    if lacking:
        return point(State.MISSING, f"{len(lacking)} of 3 are not decided: {named(lacking)}.",
                     facts.for_all("id_review"), "Decide")  # fmt: skip
    allowed = list(policies["exceptions"].get("allow", []))
    wide = [glob for glob in allowed if glob.strip() in ALL_PATHS]
    if wide:
        return point(State.WARNING, f"Exceptions are granted unasked for {named(wide)}: any module"
                     " may change any file.", facts.for_all("id_exceptions_allow"),
                     "Narrow the exceptions")  # fmt: skip
    split = policies["split"]
    splits = (
        f"up to {split.get('modules')} parts, {split.get('depth')} deep, unasked"
        if split.get("depth")
        else "always asked"
    )
    grants = f"{many(len(allowed), 'glob')} unasked" if allowed else "always asked"
    return point(State.READY, f"Splits: {splits}. Exceptions: {grants}. Reviews:"
                 f" {policies['review']}.")  # fmt: skip


def _age(facts: Facts, at: datetime) -> float:
    return max(0.0, (facts.now - at).total_seconds())


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _clock(facts: Facts) -> Point:
    point = partial(Point, "clock", "machines", "The clock ticks")
    link, text = facts.page("agents:readiness", anchor="machines"), "See the machines"
    seen = max((host.seen_at for host in facts.hosts if host.seen_at), default=None)
    if seen is None:
        return point(State.MISSING, "0 machines have ever reported: no clock was started.", link,
                     text)  # fmt: skip
    if not facts.fresh():
        return point(State.MISSING, f"The last sign of life of {many(len(facts.hosts), 'machine')}"
                     f" came at {_moment(seen)}.", link, text)  # fmt: skip
    said = f"{many(len(facts.fresh()), 'machine')} reported in the last 2 minutes"
    if not facts.clock_runs:
        return point(State.MISSING, f"{said}, but 0 clocks run: nothing is swept, woken or sent"
                     " again.", link, text)  # fmt: skip
    return point(State.READY, f"{said}, and a clock runs.")


def _workers(facts: Facts) -> Point:
    point = partial(Point, "workers", "machines", "Workers take what is queued")
    if not facts.queued or facts.queued_since is None:
        return point(State.READY, "0 runs wait for a worker.")
    age = _age(facts, facts.queued_since)
    # A time and no age: an age would be untrue on a page that stays open.
    said = f"{many(facts.queued, 'run')} wait for a worker, since {_moment(facts.queued_since)}"
    if age > WAIT_SECONDS:
        return point(State.MISSING, f"{said}: no worker is alive, or all are at work.",
                     facts.page("agents:readiness", anchor="machines"),
                     "See the machines")  # fmt: skip
    return point(State.READY, f"{said}.")


def _sandbox(facts: Facts) -> Point:
    point = partial(Point, "sandbox", "machines", "Agents and checks are confined")
    link, text = facts.page("agents:readiness", anchor="machines"), "See the machines"
    hosts = facts.fresh()
    if not hosts or not all(host.sandbox for host in hosts):
        return point(State.UNKNOWN, "No machine has said lately how it confines.", link, text)
    loose = [host.name for host in hosts if host.sandbox != "bubblewrap"]
    if loose:
        return point(State.WARNING, f"Agents run unconfined on {len(loose)} of"
                     f" {many(len(hosts), 'machine')} ({named(loose)}): use only those that you"
                     " trust.", link,
                     text)  # fmt: skip
    return point(State.READY, f"{len(hosts)} of {many(len(hosts), 'machine')} confine by"
                 " bubblewrap.")  # fmt: skip


def _source(facts: Facts) -> Point:
    point = partial(Point, "source", "machines", "The team's repository can be reached")
    link = facts.settings("publish-branch")
    if facts.source_problem is None:
        return point(State.UNKNOWN, f"{facts.source} was never asked; measuring the checks also"
                     " asks it.", facts.page("agents:readiness", anchor="measure"),
                     "Measuring")  # fmt: skip
    if facts.source_problem:
        return point(State.WARNING, f"{facts.source_problem} Nothing can be published.",
                     link, "See the repository")  # fmt: skip
    return point(State.READY, f"{facts.source} answers.")


def _hub(facts: Facts) -> Point:
    point = partial(Point, "hub", "machines", "The hub is on disk")
    if not facts.hub_head:
        return point(State.MISSING, f"There is no hub with a commit at {facts.hub_path}: bring it"
                     " back from its copy.", facts.page("agents:readiness", anchor="copies"),
                     "Where it should be")  # fmt: skip
    return point(State.READY, f"The integration branch is at {facts.hub_head[:10]}.")


def _backup(facts: Facts) -> Point:
    point = partial(Point, "backup", "machines", "The hub has a copy elsewhere")
    link, text = facts.settings("publish-branch"), "Publish what is merged"
    copies = {"backup": facts.backup_at, "publishing": facts.published_at}
    known = {name: at for name, at in copies.items() if at is not None}
    if not known:
        return point(State.UNKNOWN, "Tutti sees 0 copies: no backup leaves a stamp, and nothing"
                     " was published yet.", facts.page("agents:readiness", anchor="copies"),
                     "How a copy is known")  # fmt: skip
    name, newest = max(known.items(), key=lambda pair: pair[1])
    age = _age(facts, newest)
    changed = facts.changed_at is not None and facts.changed_at > newest
    if age > BACKUP_SECONDS and changed:
        return point(State.WARNING, f"The newest copy ({name}) is {age / 86400:.0f} days old, and"
                     " work was merged since.", link, text)  # fmt: skip
    return point(State.READY, f"The newest copy is a {name} of {newest:%Y-%m-%d}.")
