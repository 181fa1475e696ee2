"""The API of quotas: list, set, change, remove, preview and history, for the site and a project."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Annotated, TypeVar

from django.contrib.auth.models import User
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema
from pydantic import Field

from agents import changes, usage
from agents.models import Provider, Quota
from agents.preview import preview
from agents.services import limits, quotas
from agents.views.fresh import require_admin
from projects import access
from projects.access import HtmxRequest
from projects.models import Project, Role
from projects.schemas import Done, Input
from projects.services.errors import Problem, Refused

T = TypeVar("T")

router = Router(tags=["quotas"])
site_router = Router(tags=["quotas"])

Limit = Annotated[int, Query(ge=1, le=10_000)]
#: Amounts travel as text in answers, so that no digit is lost on the way.
Amount = Annotated[Decimal, Field(ge=0, le=Decimal(10) ** 12, max_digits=20, decimal_places=6)]


class QuotaOut(Schema):
    """A quota and what is used of it now: `spent` and `reserved` count, `left` may still start."""

    id: int
    scope: str
    of: str
    counts: str
    project: str | None
    provider: str | None
    user: str | None
    measure: str
    period: str
    window_seconds: int | None
    time_zone: str
    limit: Decimal
    spent: Decimal
    reserved: Decimal
    left: Decimal
    percent: int
    runs: int
    version: int


class LimitIn(Input):
    """A new limit, and the `version` of the quota that it was decided on."""

    limit: Amount
    version: int


class VersionIn(Input):
    """The `version` of the quota that was decided on."""

    version: int


class QuotaIn(Input):
    """A quota of a project; `period` is now for parallel, else window, day or month."""

    measure: str = Field(max_length=10)
    period: str = Field(max_length=10)
    limit: Amount
    window_seconds: int | None = Field(default=None, ge=1, le=366 * 86_400)
    time_zone: str = Field(default="UTC", max_length=60)


class SiteQuotaIn(QuotaIn):
    """A quota of any scope; names of provider, project or user as the scope needs them."""

    scope: str = Field(max_length=10)
    provider: str = Field(default="", max_length=60)
    project: str = Field(default="", max_length=60)
    user: str = Field(default="", max_length=150)


class WaitingOut(Schema):
    """A project that would wait: what its next run needs, and why that does not fit."""

    project: str
    needs: Decimal
    sentence: str


class PreviewOut(Schema):
    """What a limit would do if it were set; `refused` says why it can't be, if so."""

    sentence: str
    used: Decimal
    left: Decimal
    waiting: list[WaitingOut]
    refused: str


class ChangeOut(Schema):
    """One change; `chain` is the project whose record holds it, or "site"."""

    chain: str
    number: int
    at: datetime
    who: str
    kind: str
    what: str
    before: str
    after: str


def quota_out(use: usage.Use) -> QuotaOut:
    quota = use.quota
    names = ("id", "scope", "measure", "period", "window_seconds", "time_zone", "limit", "spent",
             "reserved", "version")  # fmt: skip
    return QuotaOut(
        **{name: getattr(quota, name) for name in names},
        of=use.of,
        counts=use.what,
        project=quota.project.slug if quota.project else None,
        provider=quota.provider.name if quota.provider else None,
        user=quota.user.get_username() if quota.user else None,
        left=use.left,
        percent=use.percent,
        runs=use.runs,
    )


def quota_of(pk: int, project: Project | None = None) -> Quota:
    rows = Quota.objects.select_related("project", "provider", "user")
    return get_object_or_404(rows.filter(project=project) if project else rows, pk=pk)


def _asked(body: QuotaIn, project: Project | None) -> Quota:
    """The quota that a body describes, unsaved. Raises Refused for what it names wrongly."""
    names = ("measure", "period", "limit", "window_seconds", "time_zone")
    quota = Quota(**{name: getattr(body, name) for name in names}, scope=Quota.Scope.PROJECT)
    if not isinstance(body, SiteQuotaIn):
        quota.project = project
        return quota
    quota.scope = body.scope
    if body.scope == Quota.Scope.PROVIDER:
        quota.provider = _named("provider", Provider.objects.filter(name=body.provider).first())
    elif body.scope == Quota.Scope.PROJECT:
        quota.project = _named("project", Project.objects.filter(slug=body.project).first())
    elif body.scope == Quota.Scope.USER:
        quota.user = _named("user", User.objects.filter(username=body.user).first())
    return quota


def _named(field: str, found: T | None) -> T:
    if found is None:
        message = f"There is no such {field}."
        raise Refused(message, [Problem("", field, message)])
    return found


def _checked(quota: Quota) -> Quota:
    """The same quota. Raises Refused for what could not be set, with each field."""
    _, problems = quotas.checked(
        quota.scope, quota.measure, quota.period, quota.limit, quota.window_seconds, quota.time_zone
    )
    if problems:
        raise Refused("This quota can't be.", problems)
    return quota


def _set(quota: Quota, by: User) -> QuotaOut:
    made = quotas.quota_set(
        by,
        scope=quota.scope,
        measure=quota.measure,
        period=quota.period,
        limit=quota.limit,
        project=quota.project,
        provider=quota.provider,
        user=quota.user,
        window_seconds=quota.window_seconds,
        time_zone=quota.time_zone,
    )
    return quota_out(usage.use(quota_of(made.pk)))


def _preview(quota: Quota, only: Project | None) -> PreviewOut:
    found = preview(quota, quota.limit, only)
    waiting = [
        WaitingOut(project=one.project.slug, needs=one.needs, sentence=one.sentence)
        for one in found.waiting
    ]
    return PreviewOut(
        sentence=found.sentence,
        used=found.used,
        left=found.left,
        waiting=waiting,
        refused=found.refused,
    )


def _changes(rows: Iterator[changes.Changed], limit: int) -> list[ChangeOut]:
    names = ChangeOut.model_fields
    return [
        ChangeOut(**{name: getattr(row, name) for name in names}) for row in islice(rows, limit)
    ]


# --- A project's ---------------------------------------------------------------------------------


@router.get("/{slug}/quotas", response=list[QuotaOut])
def quota_list(request: HtmxRequest, slug: str) -> list[QuotaOut]:
    """The project's own quotas, then those of site, provider and person that count here, too."""
    project = access.project_for(request.user, slug)
    own = usage.uses(usage.quotas(project))
    return [quota_out(use) for use in [*own, *usage.uses(usage.above(project))]]


@router.post("/{slug}/quotas", response=QuotaOut)
def quota_set(request: HtmxRequest, slug: str, body: QuotaIn) -> QuotaOut:
    """Set a limit of the project, at most the site's."""
    project = access.project_for(request.user, slug, role=Role.OWNER)
    return _set(_asked(body, project), request.user)


@router.post("/{slug}/quotas/preview", response=PreviewOut)
def quota_preview(request: HtmxRequest, slug: str, body: QuotaIn) -> PreviewOut:
    """What such a limit would do; nothing is saved."""
    project = access.project_for(request.user, slug)
    return _preview(_as_kept(_checked(_asked(body, project))), project)


@router.get("/{slug}/quotas/history", response=list[ChangeOut])
def quota_history(
    request: HtmxRequest, slug: str, bindings: bool = False, limit: Limit = 200
) -> list[ChangeOut]:
    """Who changed which limit of the project; with `bindings` also what bound it when."""
    project = access.project_for(request.user, slug)
    return _changes(changes.of_project(project, bindings=bindings), limit)


@router.post("/{slug}/quotas/{int:pk}/limit", response=QuotaOut)
def limit_set(request: HtmxRequest, slug: str, pk: int, body: LimitIn) -> QuotaOut:
    """Change a limit; 409 when somebody changed it since `version`."""
    project = access.project_for(request.user, slug, role=Role.OWNER)
    limits.limit_set(quota_of(pk, project), body.limit, body.version, request.user)
    return quota_out(usage.use(quota_of(pk, project)))


@router.post("/{slug}/quotas/{int:pk}/remove", response=Done)
def quota_remove(request: HtmxRequest, slug: str, pk: int, body: VersionIn) -> Done:
    project = access.project_for(request.user, slug, role=Role.OWNER)
    limits.limit_remove(quota_of(pk, project), body.version, request.user)
    return Done(message="The limit is removed.")


def _as_kept(quota: Quota) -> Quota:
    """The quota that exists already with the limit that is asked for, so that its use counts."""
    kept = Quota.objects.filter(
        scope=quota.scope, measure=quota.measure, period=quota.period, project=quota.project,
        provider=quota.provider, user=quota.user,
    ).first()  # fmt: skip
    if kept is None:
        return quota
    kept.limit = quota.limit
    return kept


# --- The site's ----------------------------------------------------------------------------------


@site_router.get("/quotas", response=list[QuotaOut])
def site_quota_list(request: HtmxRequest) -> list[QuotaOut]:
    require_admin(request)
    return [quota_out(use) for use in usage.uses(usage.quotas())]


@site_router.post("/quotas", response=QuotaOut)
def site_quota_set(request: HtmxRequest, body: SiteQuotaIn) -> QuotaOut:
    require_admin(request)
    return _set(_asked(body, None), request.user)


@site_router.post("/quotas/preview", response=PreviewOut)
def site_quota_preview(request: HtmxRequest, body: SiteQuotaIn) -> PreviewOut:
    """Which projects would wait with such a limit; nothing is saved."""
    require_admin(request)
    return _preview(_as_kept(_checked(_asked(body, None))), None)


@site_router.get("/quotas/history", response=list[ChangeOut])
def site_quota_history(request: HtmxRequest, limit: Limit = 200) -> list[ChangeOut]:
    """Changes of the site's record and of every project's limits, newest first."""
    require_admin(request)
    return _changes(changes.of_site(), limit)


@site_router.post("/quotas/{int:pk}/limit", response=QuotaOut)
def site_limit_set(request: HtmxRequest, pk: int, body: LimitIn) -> QuotaOut:
    """Change a limit; 409 when somebody changed it since `version`."""
    require_admin(request)
    limits.limit_set(quota_of(pk), body.limit, body.version, request.user)
    return quota_out(usage.use(quota_of(pk)))


@site_router.post("/quotas/{int:pk}/remove", response=Done)
def site_quota_remove(request: HtmxRequest, pk: int, body: VersionIn) -> Done:
    require_admin(request)
    limits.limit_remove(quota_of(pk), body.version, request.user)
    return Done(message="The limit is removed.")
