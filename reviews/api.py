"""The API of reviews, findings, checks and merges."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema
from pydantic import Field

from projects import access
from projects.access import HtmxRequest
from projects.models import Role
from projects.schemas import Done, Input
from projects.services.comments import comment_add
from projects.services.errors import Stale
from reviews import selectors
from reviews.models import CheckResult, Finding, Merge, Review
from reviews.services import review_overrule

router = Router(tags=["reviews"])

Limit = Annotated[int, Query(ge=1, le=500)]
Offset = Annotated[int, Query(ge=0, le=2**53)]


class ReviewRow(Schema):
    """A judgement in a list; `person` is who is accountable for it."""

    id: int
    module: str
    verdict: str
    summary: str
    model: str
    prompt_version: str
    person: str | None
    base_commit: str
    head_commit: str
    run_topic: str
    at: datetime


class FindingOut(Schema):
    """A remark at a path and line, with the clause of the contract that it touches."""

    id: int
    source: str
    path: str
    line: int | None
    clause: str
    message: str
    at: datetime


class CheckOut(Schema):
    """What a command did on a commit; `exit_code` is null when it did not end by itself."""

    id: int
    phase: str
    command: str
    commit: str
    exit_code: int | None
    ok: bool
    kind: str
    flaky: bool
    seconds: float
    output: str
    at: datetime


class CommentOut(Schema):
    """What a person said of the judged work."""

    by: str
    path: str
    line: int | None
    text: str
    at: datetime


class CommentIn(Input):
    """A text for the agent; `line` counts from 1 in the new file at `path`."""

    text: str = Field(min_length=1, max_length=10_000)
    path: str = Field(default="", max_length=500)
    line: int | None = Field(default=None, ge=1, le=2**31 - 1)


class ReviewOut(ReviewRow):
    """A judgement with its findings, people's comments and the checks of the judged commit."""

    findings: list[FindingOut]
    comments: list[CommentOut]
    checks: list[CheckOut]


class MergeOut(Schema):
    """One try to bring a module's branch in; `tested_commit` is what its checks ran on."""

    id: int
    module: str
    branch: str
    status: str
    reason: str
    base_commit: str
    head_commit: str
    tested_commit: str
    started_at: datetime
    ended_at: datetime | None


class OverruleIn(Input):
    """Another verdict, and why."""

    verdict: str = Field(pattern="^(approve|fix|rebuild)$")
    reason: str = Field(min_length=1, max_length=10_000)


def review_row(review: Review) -> ReviewRow:
    names = set(ReviewRow.model_fields) - {"module", "person"}
    return ReviewRow(
        **{name: getattr(review, name) for name in names},
        module=review.module.slug,
        person=review.person.get_username() if review.person else None,
    )


def finding_out(finding: Finding) -> FindingOut:
    return FindingOut(**{name: getattr(finding, name) for name in FindingOut.model_fields})


def check_out(check: CheckResult) -> CheckOut:
    return CheckOut(**{name: getattr(check, name) for name in CheckOut.model_fields})


def merge_out(merge: Merge) -> MergeOut:
    names = set(MergeOut.model_fields) - {"module"}
    return MergeOut(**{name: getattr(merge, name) for name in names}, module=merge.module.slug)


@router.get("/{slug}/reviews", response=list[ReviewRow])
def review_list(
    request: HtmxRequest, slug: str, module: str = "", offset: Offset = 0, limit: Limit = 100
) -> list[ReviewRow]:
    """The newest first."""
    project = access.project_for(request.user, slug)
    rows = selectors.reviews_of(project).order_by("-pk")
    rows = rows.filter(module__slug=module) if module else rows
    return [review_row(review) for review in rows[offset : offset + limit]]


@router.get("/{slug}/reviews/{int:pk}", response=ReviewOut)
def review(request: HtmxRequest, slug: str, pk: int) -> ReviewOut:
    project = access.project_for(request.user, slug)
    shown = get_object_or_404(selectors.reviews_of(project), pk=pk)
    checks = selectors.commit_checks(project, shown.head_commit)
    return ReviewOut(
        **review_row(shown).model_dump(),
        findings=[finding_out(finding) for finding in selectors.review_findings(shown)],
        comments=[
            CommentOut(
                by=said.source, path=said.path, line=said.line, text=said.message, at=said.at
            )
            for said in selectors.review_comments(shown)
        ],
        checks=[check_out(check) for check in checks],
    )


@router.post("/{slug}/reviews/{int:pk}/overrule", response=Done)
def overrule(request: HtmxRequest, slug: str, pk: int, body: OverruleIn) -> Done:
    project = access.project_for(request.user, slug, role=Role.MAINTAINER)
    shown = get_object_or_404(selectors.reviews_of(project), pk=pk)
    if selectors.is_overtaken(shown):
        raise Stale("There is a newer review of this module; overrule that one.")
    review_overrule(shown.module, body.verdict, request.user, body.reason)
    return Done(message=f"You overruled: {body.verdict}.")


@router.post("/{slug}/reviews/{int:pk}/comments", response=Done)
def comment(request: HtmxRequest, slug: str, pk: int, body: CommentIn) -> Done:
    """A person's remark on the module's work, at a line or on all of it, for its agent."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    shown = get_object_or_404(selectors.reviews_of(project), pk=pk)
    comment_add(shown.module, request.user, body.text, path=body.path, line=body.line)
    return Done(message="Kept: the agent reads it with its next prompt.")


@router.get("/{slug}/merges", response=list[MergeOut])
def merge_list(
    request: HtmxRequest, slug: str, offset: Offset = 0, limit: Limit = 100
) -> list[MergeOut]:
    """The newest first."""
    project = access.project_for(request.user, slug)
    return [merge_out(m) for m in selectors.merges_of(project)[offset : offset + limit]]
