"""The economics page of a plan, its tables as CSV, and the list of runs behind its figures."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from agents import economicspage, figures, runlist, telling
from agents.changes import table
from agents.economics import economics as economics_of
from agents.models import Run
from projects import access
from projects.access import HtmxRequest
from projects.forms import whole_number
from projects.models import Plan, Project
from projects.views.live import live_response


def _plan(request: HtmxRequest, project: Project) -> Plan | None:
    """The plan that the address names, else the last approved one. Raises Http404."""
    asked = request.GET.get("plan", "")
    number = whole_number(asked)
    if asked and number is None:
        raise Http404("There is no plan of this number.")
    plan = figures.plan_shown(project, number)
    if plan is None and number is not None:
        raise Http404("There is no approved plan of this number.")
    return plan


@login_required
@require_GET
def economics(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug)
    plan = _plan(request, project)
    page = whole_number(request.GET.get("page", "")) or 1
    sort = request.GET.get("sort", "seconds")

    def context() -> dict[str, Any]:
        return {**economicspage.context(project, plan, page, sort), "is_live": _is_live(plan)}

    return live_response(
        request, "agents/economics.html", context, project, f"{project.topic}/board"
    )


def _is_live(plan: Plan | None) -> bool:
    """Whether the page follows the plan by itself: while it runs, and is not too large for it."""
    if plan is None:
        return True
    if plan.finished_at is not None or plan.status != Plan.Status.APPROVED:
        return False
    return Run.objects.filter(plan=plan).count() <= economicspage.LIVE_RUNS


@login_required
@require_GET
def economics_download(request: HtmxRequest, slug: str) -> HttpResponse:
    """Every row of every table of the page, all modules included."""
    project = access.project_for(request.user, slug)
    plan = _plan(request, project)
    if plan is None:
        raise Http404("There is no approved plan yet.")
    found = economics_of(figures.facts(plan), with_curve=False)
    rows = telling.csv_rows(found)
    return _csv(table(telling.COLUMNS, rows), f"{project.slug}-plan-{plan.number}-economics.csv")


@login_required
@require_GET
def runs(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug)
    filters = runlist.filters_of(request.GET)
    before = whole_number(request.GET.get("before", ""))
    found = runlist.runs(project, filters)
    rows = list((found.filter(pk__lt=before) if before else found)[: runlist.PAGE + 1])
    context = {
        "project": project,
        "filters": filters,
        "runs": rows[: runlist.PAGE],
        "older": rows[runlist.PAGE - 1].pk if len(rows) > runlist.PAGE else None,
        "before": before,
        **runlist.choices(project),
    }
    return render(request, "agents/runs.html", context)


@login_required
@require_GET
def runs_download(request: HtmxRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug)
    found = runlist.runs(project, runlist.filters_of(request.GET))
    return _csv(table(runlist.COLUMNS, runlist.csv_rows(found)), f"{project.slug}-runs.csv")


def _csv(text: str, name: str) -> HttpResponse:
    return HttpResponse(
        text,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
