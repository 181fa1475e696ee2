"""What the readiness checklist is made of: facts of a project in, points out. Values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from projects.coupling import Suggestion
from projects.forecast import Report
from projects.specs import ModuleSpec, Problem

FRESH_SECONDS = 120
"""A machine that was not seen for longer takes no part."""

GROUPS = {
    "plan": "Plan",
    "checks": "Checks",
    "agents": "Agents",
    "limits": "Limits",
    "people": "People and rules",
    "machines": "Machines and keeping",
}


class State(StrEnum):
    """How a point stands."""

    READY = "ready"
    WARNING = "warning"  #: works, but costs time, tokens or safety
    MISSING = "missing"  #: work cannot start or end well without it
    UNKNOWN = "unknown"  #: nobody measured it, or Tutti cannot see it


@dataclass(frozen=True, slots=True)
class Link:
    """A page by its URL name, with the anchor of the form that mends the point."""

    name: str
    args: tuple[Any, ...] = ()
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Button:
    """What mends a point at once: a POST to a URL name, for people of at least `role`."""

    name: str
    args: tuple[Any, ...]
    text: str
    role: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the list: its state, why in a sentence with numbers, and what mends it."""

    key: str
    group: str
    title: str
    state: State
    why: str
    link: Link | None = None
    link_text: str = ""
    button: Button | None = None


@dataclass(frozen=True)
class PlanFacts:
    """The plan that people work on. `files` are the tracked paths of its commit, `merged` and
    `briefless` slugs; `report` is None while needs go round in a circle."""

    number: int
    status: str
    goal: str = ""
    specs: tuple[ModuleSpec, ...] = ()
    briefless: tuple[str, ...] = ()
    merged: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()
    report: Report | None = None
    files: tuple[str, ...] = ()
    checks: tuple[tuple[str, str], ...] = ()
    policies: Mapping[str, Any] = field(default_factory=dict)
    has_recordings: bool = False
    blocked_reason: str = ""

    @property
    def is_draft(self) -> bool:
        return self.status == "draft"


@dataclass(frozen=True, slots=True)
class CheckFact:
    """What one command did on the commit that the plan starts from."""

    command: str
    kind: str
    seconds: float


@dataclass(frozen=True)
class MeasureFacts:
    """The newest measuring: "none", "asked", "measuring", "lost" or "ended"; `is_current` when it
    speaks of the commit that the plan starts from. `ran` has seconds of checks in real runs."""

    status: str = "none"
    rows: tuple[CheckFact, ...] = ()
    is_current: bool = False
    problem: str = ""
    ran: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProfileFact:
    """Who plays a role, why its backend cannot, and the account that pays."""

    role: str
    backend: str
    model: str
    is_chosen: bool = True
    problem: str = ""
    provider: str = ""
    breaker: str = ""
    wake_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class QuotaFact:
    """A limit that counts for this project, and what of it is spent and reserved."""

    scope: str
    measure: str
    period: str
    limit: Decimal
    used: Decimal
    provider: str = ""
    pk: int = 0


@dataclass(frozen=True, slots=True)
class HostFact:
    """A machine as it was read last; sizes in MB, `capacity` in agents."""

    name: str
    seen_at: datetime | None
    memory_available_mb: int = 0
    disk_free_mb: int = 0
    capacity: int | None = None
    capacity_reason: str = ""
    sandbox: str = ""
    draining: bool = False


@dataclass(frozen=True, slots=True)
class PersonFact:
    """An active member of the project."""

    name: str
    role: str
    has_signed_in: bool = True


@dataclass(frozen=True)
class Facts:
    """Everything that the points are judged by, read at one moment."""

    slug: str
    now: datetime
    plan: PlanFacts | None = None
    goal: str = ""
    ceiling: int = 5
    site_ceiling: int = 20
    is_paused: bool = False
    environment: str = ""
    environment_exists: bool = True
    measure: MeasureFacts = MeasureFacts()
    profiles: tuple[ProfileFact, ...] = ()
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    quotas: tuple[QuotaFact, ...] = ()
    hosts: tuple[HostFact, ...] = ()
    clock_runs: bool = True
    memory_floor_mb: int = 500
    disk_floor_mb: int = 1000
    #: None while nobody looked; then what is suggested, and groups that people decided against.
    coupling: tuple[Suggestion, ...] | None = None
    coupling_missing: str = ""
    dismissed: frozenset[frozenset[str]] = frozenset()
    instructions: Mapping[str, str] = field(default_factory=dict)
    #: The newest text that was sent to an agent; None before the first.
    sent: str | None = None
    people: tuple[PersonFact, ...] = ()
    source: str = ""
    source_problem: str | None = None
    hub_head: str = ""
    hub_path: str = ""
    backup_at: datetime | None = None
    backup_stamp: str = ""
    published_at: datetime | None = None
    changed_at: datetime | None = None
    queued: int = 0
    queued_since: datetime | None = None

    def fresh(self) -> list[HostFact]:
        """Machines that take part: seen lately, and not being emptied."""
        return [
            host
            for host in self.hosts
            if host.seen_at is not None
            and not host.draining
            and (self.now - host.seen_at).total_seconds() <= FRESH_SECONDS
        ]

    def page(self, name: str, *args: Any, anchor: str = "") -> Link:
        """A page of this project."""
        return Link(name, (self.slug, *args), anchor)

    def settings(self, anchor: str) -> Link:
        return self.page("projects:settings", anchor=anchor)

    def for_all(self, anchor: str) -> Link:
        """The form of the plan's part for all modules, or the page where such a draft begins."""
        if self.plan is not None and self.plan.is_draft:
            return self.page("projects:plan-edit", anchor=anchor)
        return self.page("projects:plan", anchor="plan")

    def contract(self, slug: str, anchor: str) -> Link:
        """The form of a module's contract, or the module on the plan's page."""
        if self.plan is not None and self.plan.is_draft:
            return self.page("projects:contract-edit", slug, anchor=anchor)
        return self.page("projects:plan", anchor=f"module-{slug}")


def many(count: int, word: str) -> str:
    """A number with its noun: "1 module", "3 modules", "2 people"."""
    if count == 1:
        return f"1 {word}"
    return f"{count} people" if word == "person" else f"{count} {word}s"


def named(words: Sequence[str], most: int = 4) -> str:
    """Names for a sentence: "cart, desk and 3 more"."""
    if len(words) <= most:
        return ", ".join(words)
    return f"{', '.join(words[:most])} and {len(words) - most} more"
