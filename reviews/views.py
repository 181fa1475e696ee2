"""Pages of what was judged: a review with its diff, and the merge queue."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from projects import access
from projects.access import HtmxRequest
from projects.forms import whole_number
from projects.hub import integration_ref
from projects.models import Project, Role
from projects.redaction import Redactor
from projects.services.comments import comment_add
from projects.services.errors import Stale
from projects.text import clean_text
from projects.views.live import live_response
from reviews import selectors
from reviews.answers import acted
from reviews.models import Review
from reviews.services import review_overrule


@login_required
@require_GET
def review(request: HtmxRequest, slug: str, pk: int) -> HttpResponse:
    project = access.project_for(request.user, slug)
    shown = get_object_or_404(selectors.reviews_of(project), pk=pk)
    return live_response(
        request,
        "reviews/review.html",
        lambda: _review_context(shown, request.redactor),
        project,
        f"{project.topic}/board",
    )


def _review_context(review: Review, redactor: Redactor) -> dict[str, Any]:
    findings = selectors.review_findings(review)
    before, after = selectors.review_neighbours(review)
    return {
        "review": review,
        "findings": findings,
        "diff": selectors.diff_with_findings(
            selectors.review_diff(review, redactor),
            [*findings, *selectors.review_comments(review)],
        ),
        "checks": selectors.commit_checks(review.project, review.head_commit),
        "previous": before,
        "next": after,
        "is_newest": not selectors.is_overtaken(review),
        "verdicts": [Review.Verdict.APPROVE, Review.Verdict.FIX, Review.Verdict.REBUILD],
    }


@login_required
@require_POST
def overrule(request: HtmxRequest, slug: str, pk: int) -> HttpResponse:
    project = access.project_for(request.user, slug, role=Role.MAINTAINER)
    shown = get_object_or_404(selectors.reviews_of(project), pk=pk)

    def act() -> str:
        if selectors.is_overtaken(shown):
            raise Stale("There is a newer review of this module; open that one.")
        verdict, reason = (
            request.POST.get("verdict", ""),
            clean_text(request.POST.get("reason", "")),
        )
        review_overrule(shown.module, verdict, request.user, reason)
        return f"You overruled: {verdict}."

    return acted(request, reverse("reviews:review", args=[slug, pk]), act)


@login_required
@require_POST
def comment(request: HtmxRequest, slug: str, pk: int) -> HttpResponse:
    """A person's remark at a line of the diff, for the module's agent."""
    project = access.project_for(request.user, slug, role=Role.MEMBER)
    shown = get_object_or_404(selectors.reviews_of(project), pk=pk)

    def act() -> str:
        said, path = request.POST.get("text", ""), request.POST.get("path", "")
        line = whole_number(request.POST.get("line", ""))
        comment_add(shown.module, request.user, said, path=path, line=line)
        return "Kept: the agent reads it with its next prompt."

    return acted(request, reverse("reviews:review", args=[slug, pk]), act)


@login_required
@require_GET
def queue(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug)
    return live_response(
        request,
        "reviews/queue.html",
        lambda: {"queue": selectors.queue(project), "head": _head(project)},
        project,
        f"{project.topic}/board",
    )


def _head(project: Project) -> str:
    return selectors.hub_head(project, integration_ref())
