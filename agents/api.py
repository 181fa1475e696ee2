"""The API of runs, their logs, and what they ask."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema
from pydantic import Field

from agents import logs, recording
from agents.models import Request, Run, Steer
from agents.permissions import role_to_answer
from agents.services import answers, runs, steering
from projects import access, live
from projects.access import HtmxRequest
from projects.models import Project, Role
from projects.schemas import Done, Input

router = Router(tags=["runs"])

Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0, le=2**53)]


class RunRow(Schema):
    """A run in a list. Tokens are null where the agent did not say, never 0."""

    id: int
    module: str | None
    kind: str
    number: int
    role: str
    status: str
    backend: str
    model: str
    sandbox: str
    host: str
    turns: int
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    agent_seconds: float
    gate_seconds: float
    input_tokens: int | None
    output_tokens: int | None
    usage_quality: str
    reason_kind: str
    reason_owner: str
    reason: str


class RunOut(RunRow):
    """A run with what was sent to its agent, whole, and what it answered."""

    branch: str
    base_commit: str
    head_commit: str
    assignments: list[dict[str, Any]]
    result: dict[str, Any] | None


class LogRow(Schema):
    """One event of a run; sequences have no gaps."""

    sequence: int
    at: datetime
    kind: str
    data: dict[str, Any]


class LogPage(Schema):
    """Rows after a number; ask again with `after` while `has_more`, or until `is_end`."""

    rows: list[LogRow]
    after: int
    has_more: bool
    is_end: bool


class RecordingOut(Schema):
    """One turn as JSON Lines, and the file name under which it plays."""

    name: str
    text: str


class RequestOut(Schema):
    """What a run asks a person, and the answer."""

    id: int
    module: str
    run: int
    kind: str
    question: str
    data: dict[str, Any]
    asked_at: datetime
    granted: bool | None
    answer: str
    answered_by: str | None
    answered_at: datetime | None


class AnswerIn(Input):
    """Whether it is granted, and what the agent is told."""

    granted: bool
    answer: str = Field(default="", max_length=10_000)


class SteerOut(Schema):
    """What a person told a run's agent; `state` is queued, delivered, kept (for the module's next
    run) or lost, and `receipt` says it in words."""

    id: int
    text: str
    at_once: bool
    by: str
    at: datetime
    state: str
    receipt: str
    told_run: int | None
    told_turn: int | None
    told_at: datetime | None


class SteerIn(Input):
    """What the agent is to know; `at_once` interrupts it, where its backend can (acp)."""

    text: str = Field(min_length=1, max_length=10_000)
    at_once: bool = False


def run_of(project: Project, pk: int) -> Run:
    rows = Run.objects.filter(project=project).select_related("project", "module")
    return get_object_or_404(rows, pk=pk)


def run_row(run: Run) -> RunRow:
    names = set(RunRow.model_fields) - {"module"}
    values = {name: getattr(run, name) for name in names}
    return RunRow(**values, module=run.module.slug if run.module else None)


def request_out(asked: Request) -> RequestOut:
    names = set(RequestOut.model_fields) - {"module", "run", "answered_by"}
    return RequestOut(
        **{name: getattr(asked, name) for name in names},
        module=asked.module.slug,
        run=asked.run_id,
        answered_by=asked.answered_by.get_username() if asked.answered_by else None,
    )


def steer_out(steer: Steer) -> SteerOut:
    names = set(SteerOut.model_fields) - {"by", "told_run"}
    return SteerOut(
        **{name: getattr(steer, name) for name in names},
        by=steer.by.get_username(),
        told_run=steer.told_run_id,
    )


@router.get("/{slug}/runs", response=list[RunRow])
def run_list(
    request: HtmxRequest,
    slug: str,
    module: str = "",
    status: str = "",
    offset: Offset = 0,
    limit: Limit = 100,
) -> list[RunRow]:
    """The newest first; `status` may also be "active"."""
    project = access.project_for(request.user, slug)
    rows = Run.objects.filter(project=project).select_related("module").order_by("-pk")
    rows = rows.filter(module__slug=module) if module else rows
    if status:
        rows = rows.filter(status__in=Run.ACTIVE if status == "active" else [status])
    found = rows.defer("assignments", "result")[offset : offset + limit]
    return [run_row(run) for run in found]


@router.get("/{slug}/runs/{int:pk}", response=RunOut)
def run(request: HtmxRequest, slug: str, pk: int) -> RunOut:
    shown = run_of(access.project_for(request.user, slug), pk)
    names = set(RunOut.model_fields) - set(RunRow.model_fields)
    more = {name: getattr(shown, name) for name in names}
    return RunOut(**run_row(shown).model_dump(), **more)


@router.get("/{slug}/runs/{int:pk}/log", response=LogPage)
def run_log(
    request: HtmxRequest, slug: str, pk: int, after: Offset = 0, limit: Limit = 500
) -> LogPage:
    shown = run_of(access.project_for(request.user, slug), pk)
    page = logs.page(shown, after, limit)
    return LogPage(
        rows=[LogRow(**{n: getattr(row, n) for n in LogRow.model_fields}) for row in page.rows],
        after=page.after,
        has_more=page.has_more,
        is_end=page.is_end,
    )


@router.get("/{slug}/runs/{int:pk}/recording", response=list[RecordingOut])
def run_recording(request: HtmxRequest, slug: str, pk: int) -> list[RecordingOut]:
    """The run's turns as recordings that play again; for a run that has ended."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    found = recording.recordings(run_of(project, pk))
    return [RecordingOut(name=name, text=recording.text(rows)) for name, rows in found.items()]


@router.post("/{slug}/runs/{int:pk}/stop", response=Done)
def run_stop(request: HtmxRequest, slug: str, pk: int) -> Done:
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    runs.run_stop(run_of(project, pk), live.Actor.person(request.user))
    return Done(message="The run is asked to stop.")


@router.get("/{slug}/runs/{int:pk}/steers", response=list[SteerOut])
def steer_list(request: HtmxRequest, slug: str, pk: int) -> list[SteerOut]:
    """What people told the run's agent, with receipts; the oldest first."""
    project = access.project_for(request.user, slug)
    return [steer_out(one) for one in steering.shown(run_of(project, pk))]


@router.post("/{slug}/runs/{int:pk}/steers", response=SteerOut)
def steer_write(request: HtmxRequest, slug: str, pk: int, body: SteerIn) -> SteerOut:
    """Tell a running agent something: with its next prompt, or at once."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    found = run_of(project, pk)
    written = steering.steer_write(found, body.text, request.user, at_once=body.at_once)
    return steer_out(written)


@router.get("/{slug}/requests", response=list[RequestOut])
def request_list(request: HtmxRequest, slug: str, is_open: bool = True) -> list[RequestOut]:
    project = access.project_for(request.user, slug)
    rows = Request.objects.filter(project=project, answered_at__isnull=is_open).order_by("-pk")
    return [request_out(asked) for asked in rows.select_related("module", "answered_by")[:500]]


@router.post("/{slug}/requests/{int:pk}/answer", response=Done)
def request_answer(request: HtmxRequest, slug: str, pk: int, body: AnswerIn) -> Done:
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    asked = get_object_or_404(Request.objects.select_related("project"), project=project, pk=pk)
    access.project_for(request.user, slug, role=role_to_answer(asked))
    answers.request_answer(asked, granted=body.granted, by=request.user, answer=body.answer)
    return Done(message="Granted." if body.granted else "Refused.")
