"""Quotas of the site and of a project: limit beside use, edit, add, remove, preview, history."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from agents import bindings, changes, usage
from agents.amounts import amount
from agents.forms import LimitForm, QuotaForm
from agents.models import Quota
from agents.preview import Preview, preview, site_limit
from agents.services import limits, quotas
from agents.views.fresh import fresh_response, require_admin
from projects import access, feed, live
from projects.access import HtmxRequest
from projects.models import Project, Role
from projects.services.errors import Refused
from projects.views.answers import go, sentence, status_of
from projects.views.live import is_live

#: Rows of the history that a page shows; the CSV has all.
SHOWN = 200


def _project(request: HtmxRequest, slug: str | None) -> Project | None:
    """The project of the page (its people look, owners change); None on the site's pages."""
    if slug is None:
        require_admin(request)
        return None
    role = Role.OWNER if request.method == "POST" else Role.VIEWER
    return access.project_for(request.user, slug, role=role)


def _kept(project: Project | None) -> QuerySet[Quota]:
    """Quotas that the page may show: the project's own, or all."""
    rows = Quota.objects.select_related("project", "provider", "user")
    return rows.filter(project=project) if project else rows


def _quota(project: Project | None, pk: int) -> Quota:
    return get_object_or_404(_kept(project), pk=pk)


def _list_url(project: Project | None) -> str:
    if project:
        return reverse("agents:quotas", args=[project.slug])
    return reverse("agents:site-quotas")


def _frame(project: Project | None) -> dict[str, Any]:
    frame = "projects/settings.html" if project else "agents/site_base.html"
    return {"project": project, "frame": frame, "section": "quotas"}


def _place(project: Project | None) -> tuple[str, int]:
    """Topic and version of a page, to be read before its rows."""
    if project:
        return f"{project.topic}/board", project.event_count
    return live.SITE, feed.site_version()


# --- The list ------------------------------------------------------------------------------------


@login_required
@require_GET
def quota_list(request: HtmxRequest, slug: str | None = None) -> HttpResponse:
    project = _project(request, slug)
    topic, version = _place(project)
    context = _list(request, project)
    return fresh_response(request, "agents/quotas.html", context, topic=topic, version=version)


def _list(
    request: HtmxRequest, project: Project | None, form: QuotaForm | None = None
) -> dict[str, Any]:
    return {
        **_frame(project),
        "uses": usage.uses(usage.quotas(project)),
        "above": usage.uses(usage.above(project)) if project else [],
        "binding": bindings.binding(project) if project else None,
        "form": form or QuotaForm(own=project, initial={"time_zone": "UTC"}),
    }


@login_required
@require_POST
def quota_add(request: HtmxRequest, slug: str | None = None) -> HttpResponse:
    project = _project(request, slug)
    form = QuotaForm(request.POST, own=project)
    if form.is_valid():
        values = form.values()
        try:
            if Quota.objects.filter(**_key(values)).exists():
                raise Refused("There is such a quota already: change its limit instead.")
            made = quotas.quota_set(request.user, **values)
        except Refused as error:
            form.add_problems(error.problems, error.message)
        else:
            said = f"Added for {usage.whose(made)}: {usage.use(made).limit_said}"
            said += f" ({usage.measured(made)}). {quotas.note(made)}"
            messages.success(request, said.strip())
            return go(request, _list_url(project))
    name = "agents/quotas.html" + ("#add" if request.htmx else "")
    topic, version = _place(project)
    context = {**_list(request, project, form), "topic": topic, "version": version}
    return render(request, name, context, status=422)


def _key(values: dict[str, Any]) -> dict[str, Any]:
    names = ("scope", "provider", "project", "user", "measure", "period")
    return {name: values[name] for name in names}


@login_required
@require_GET
def quota_download(request: HtmxRequest, slug: str | None = None) -> HttpResponse:
    project = _project(request, slug)
    rows = usage.uses(usage.quotas(project))
    columns = ("bounds", "counts", "limit", "spent", "reserved", "left", "percent", "runs_now")
    cells = (
        (
            use.of, use.what, use.quota.limit, use.quota.spent, use.quota.reserved, use.left,
            use.percent, use.runs,
        )
        for use in rows
    )  # fmt: skip
    return csv_file(f"{project.slug if project else 'site'}-quotas", columns, cells)


def csv_file(name: str, columns: Any, rows: Any) -> HttpResponse:
    return HttpResponse(
        changes.table(columns, rows),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )


# --- One quota -----------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
def quota(request: HtmxRequest, pk: int, slug: str | None = None) -> HttpResponse:
    project = _project(request, slug)
    topic, version = _place(project)
    if is_live(request) and request.method == "GET" and not _kept(project).filter(pk=pk).exists():
        # A page that was open when somebody removed the quota says so instead of failing.
        gone = render(request, "agents/quota.html#gone", _frame(project))
        gone["X-Version"] = str(version)
        return gone
    found = _quota(project, pk)
    if request.method == "POST":
        return _set(request, project, found)
    context = _one(project, found)
    return fresh_response(request, "agents/quota.html", context, topic=topic, version=version)


def _one(project: Project | None, found: Quota) -> dict[str, Any]:
    return {
        **_frame(project),
        "use": usage.use(found),
        "chart": usage.over_time(found),
        "runs": usage.active(found),
        "shares": usage.shares(found),
        "site_allows": _site_allows(found),
    }


def _site_allows(found: Quota) -> str:
    """What the site allows of the same, for a project's quota; empty without such a limit."""
    over = site_limit(found)
    return amount(over, found.measure) if over is not None else ""


def _set(request: HtmxRequest, project: Project | None, found: Quota) -> HttpResponse:
    form = LimitForm(request.POST, quota=found)
    status = 422
    if form.is_valid():
        try:
            limits.limit_set(
                found, form.cleaned_data["limit"], form.cleaned_data["version"], request.user
            )
        except Refused as error:
            form.add_problems(error.problems, error.message)
            status = status_of(error)
        else:
            changed = usage.use(_quota(project, found.pk))
            said = f"Saved: {changed.limit_said} ({changed.what}). {quotas.note(changed.quota)}"
            messages.success(request, said.strip())
            return go(request, _list_url(project))
    # The version of what the person now sees: who saves again means to.
    found = _quota(project, found.pk)
    context = {**_frame(project), "use": usage.use(found), "form": form}
    if request.htmx:
        return render(request, "agents/_quota_edit.html", context, status=status)
    topic, version = _place(project)
    context = {**_one(project, found), "form": form, "topic": topic, "version": version}
    return render(request, "agents/quota.html", context, status=status)


@login_required
@require_POST
def quota_remove(request: HtmxRequest, pk: int, slug: str | None = None) -> HttpResponse:
    project = _project(request, slug)
    found = _quota(project, pk)
    text = request.POST.get("version", "")
    version = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    try:
        limits.limit_remove(found, version, request.user)
    except Refused as error:
        messages.error(request, sentence(error))
        return go(request, request.path.removesuffix("remove/"))
    messages.success(request, f"Removed: {usage.whose(found)}, {usage.measured(found)}.")
    return go(request, _list_url(project))


# --- What a limit would do -----------------------------------------------------------------------


@login_required
@require_GET
def quota_preview(request: HtmxRequest, slug: str | None = None) -> HttpResponse:
    """The effect of the limit that is being typed, for a quota that exists (`pk`) or a new one."""
    project = _project(request, slug)
    pk = request.GET.get("pk", "")
    effect: Preview | None = None
    if pk:
        if not (pk.isascii() and pk.isdigit() and len(pk) < 16):
            raise Http404("There is no such quota.")
        found = _quota(project, int(pk))
        values = {"limit": request.GET.get("limit"), "version": found.version}
        form: LimitForm | QuotaForm = LimitForm(values, quota=found)
        if form.is_valid():
            effect = preview(found, form.cleaned_data["limit"], project)
    else:
        form = QuotaForm(request.GET, own=project)
        if form.is_valid() and _can_be_set(form):
            made = Quota(**form.values())
            effect = preview(made, made.limit, project)
    name = "agents/quota_preview.html" + ("#effect" if request.htmx else "")
    return render(request, name, {**_frame(project), "effect": effect, "form": form})


def _can_be_set(form: QuotaForm) -> bool:
    names = ("scope", "measure", "period", "limit", "window_seconds", "time_zone")
    values = form.values()
    _, problems = quotas.checked(**{name: values[name] for name in names})
    form.add_problems(problems)
    return not problems


# --- History -------------------------------------------------------------------------------------


@login_required
@require_GET
def quota_history(request: HtmxRequest, slug: str | None = None) -> HttpResponse:
    project = _project(request, slug)
    topic, version = _place(project)
    bindings_too = request.GET.get("bindings") == "1"
    rows = changes.of_project(project, bindings=bindings_too) if project else changes.of_site()
    shown = [row for _, row in zip(range(SHOWN + 1), rows, strict=False)]
    context = {
        **_frame(project),
        "rows": shown[:SHOWN],
        "more": len(shown) > SHOWN,
        "bindings_too": bindings_too,
    }
    return fresh_response(
        request, "agents/quota_history.html", context, topic=topic, version=version
    )


@login_required
@require_GET
def quota_history_download(request: HtmxRequest, slug: str | None = None) -> HttpResponse:
    project = _project(request, slug)
    bindings_too = request.GET.get("bindings") == "1"
    rows = changes.of_project(project, bindings=bindings_too) if project else changes.of_site()
    name = f"{project.slug if project else 'site'}-quota-history"
    return csv_file(name, changes.Changed.COLUMNS, (row.cells() for row in rows))
