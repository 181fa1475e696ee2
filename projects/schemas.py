"""The shapes that the API gives and takes for what people define."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ninja import Schema
from pydantic import ConfigDict, Field, SecretStr, field_validator

from projects import planfile


class Input(Schema):
    """What a request may hold, and nothing else."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def without_nul(cls, value: object) -> object:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("holds a NUL, which no text may hold")
        return value


class Done(Schema):
    """What was done, in words."""

    message: str


class ProjectOut(Schema):
    """A project and what bounds its runs right now; `topic` is what its live hints name."""

    slug: str
    name: str
    goal: str
    topic: str
    role: str
    default_branch: str
    policies: dict[str, Any]
    ceiling: int
    active_runs: int
    binding: dict[str, Any]
    paused_at: datetime | None
    event_count: int
    published_commit: str
    created_at: datetime


class PlanRow(Schema):
    """A plan in a list."""

    number: int
    status: str
    digest: str
    submitted_at: datetime | None
    decided_at: datetime | None
    prepared_at: datetime | None
    finished_at: datetime | None
    blocked_reason: str


class PlanOut(PlanRow):
    """A plan as its file, with what keeps a draft from being submitted."""

    base_commit: str
    source_commit: str
    version: int
    file: dict[str, Any]
    problems: list[ProblemOut]


class ProblemOut(Schema):
    """One thing that is wrong: module (or empty), field, and what to do."""

    module: str
    field: str
    message: str


class ModuleRow(Schema):
    """A module in a list. Times are ISO 8601, `path_length` is seconds to the end of the plan."""

    slug: str
    title: str
    status: str
    reason: str
    parent: str | None
    lane: str
    priority: int
    needs_to_start: int
    needs_to_finish: int
    path_length: float
    failures: int
    paused_at: datetime | None
    status_at: datetime
    merged_commit: str
    version: int


class NeedOut(Schema):
    """What a module needs, how, and how far that is."""

    module: str
    kind: str
    declared: bool
    status: str


class ContractOut(Schema):
    """A contract as the plan file writes it, and its version."""

    version: int
    brief: str
    owns: list[str]
    exceptions: list[str]
    tests: list[str]
    tests_given: bool
    provides: list[str]
    checks: list[str]
    estimate_seconds: float | None


class ModuleOut(ModuleRow):
    """A module with its contract and needs."""

    contract: ContractOut | None
    needs: list[NeedOut]
    children: list[str]


class EventOut(Schema):
    """One fact of the record, chained to the one before by its hash."""

    number: int
    at: datetime
    actor: str
    kind: str
    topic: str
    data: dict[str, Any]
    previous_hash: str
    hash: str


class EventPage(Schema):
    """Events after a number; `after` is where the next page begins."""

    events: list[EventOut]
    after: int
    newest: int


class AttentionOut(Schema):
    """What waits for a person, and the page that answers it."""

    topic: str
    kind: str
    title: str
    detail: str
    role: str
    url: str
    deadline: datetime | None
    opened_at: datetime


class ApproveIn(Input):
    """The digest of exactly the plan that was read."""

    digest: str = Field(min_length=1, max_length=64)


class CancelIn(Input):
    """Why a module is given up."""

    reason: str = Field(default="", max_length=500)


class PublishIn(Input):
    """An empty branch moves the team's own branch forward; a name pushes that branch."""

    branch: str = Field(default="", max_length=200)


class ProjectIn(Input):
    """A new project of a repository; `plan` is the text of a tutti.yaml, for its first draft.

    `secret` is the token (https) or private key (ssh) of a private one, and is never given out.
    """

    name: str = Field(min_length=1, max_length=200)
    source: str = Field(min_length=1, max_length=1000)
    goal: str = Field(default="", max_length=50_000)
    branch: str = Field(default="", max_length=200)
    environment: str = Field(default="", max_length=1000)
    plan: str = Field(default="", max_length=planfile.LARGEST)
    secret: SecretStr = Field(default=SecretStr(""), max_length=20_000)
    user: str = Field(default="", max_length=200)
    known_hosts: str = Field(default="", max_length=20_000)


class SourceKeyIn(Input):
    """A token or private key for the project's source; an empty one removes what is kept."""

    secret: SecretStr = Field(max_length=20_000)
    user: str = Field(default="", max_length=200)
    known_hosts: str = Field(default="", max_length=20_000)


PlanOut.model_rebuild()
