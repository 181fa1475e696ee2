"""What a limit would do if it were set now: which projects would wait, and for how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from agents import usage
from agents.amounts import amount
from agents.models import Quota
from agents.services import budgets, quotas
from agents.services.profiles import ROLE_OF, profile_for
from projects.models import Plan, Project

#: Projects that the sentence names before it only counts.
NAMED = 5
#: Projects whose next run is reckoned one by one; the others count as needing next to nothing.
RECKONED = 50
KINDS = ("tests", "build", "review", "fix")


@dataclass(frozen=True)
class Waiting:
    """A project whose next run would not start: what it needs, and what would be left."""

    project: Project
    needs: Decimal
    sentence: str


@dataclass(frozen=True)
class Preview:
    """The effect of a limit: its sentence, the projects that would wait, and why it is refused."""

    sentence: str
    used: Decimal
    left: Decimal
    waiting: Sequence[Waiting] = ()
    refused: str = ""


def preview(quota: Quota, limit: Decimal, only: Project | None = None) -> Preview:
    """The effect of `limit` on the projects that a quota bounds; the quota may be unsaved.

    `only` keeps other projects out of sight of a project's own people. `refused` says why the
    limit could not be set at all, and by how much it is too high.
    """
    used = _used(quota)
    left = limit - used
    projects = concerned(quota)
    needs = _needs(quota, projects)
    waiting = [
        Waiting(project, needs[project.pk], _why(quota, needs[project.pk], left))
        for project in projects
        if left <= 0 or needs[project.pk] > left
    ]
    shown = [one for one in waiting if only is None or one.project.pk == only.pk]
    return Preview(
        sentence=_sentence(quota, limit, used, shown, len(projects)),
        used=used,
        left=max(Decimal(0), left),
        waiting=shown,
        refused=refused(quota, limit),
    )


def refused(quota: Quota, limit: Decimal) -> str:
    """Why a project's limit is above the site's, and by how much; empty when it is not."""
    over = site_limit(quota)
    if over is None or limit <= over:
        return ""
    too_much = amount(limit - over, quota.measure)
    return (
        f"The site allows {amount(over, quota.measure)} ({usage.measured(quota)}): this is "
        f"{too_much} too many. Ask a site admin to raise the site's limit."
    )


def site_limit(quota: Quota) -> Decimal | None:
    """The site's own limit that bounds a project's of the same measure and period."""
    if quota.scope != Quota.Scope.PROJECT:
        return None
    row = Quota.objects.filter(
        scope=Quota.Scope.SITE,
        measure=quota.measure,
        period=quota.period,
        window_seconds=quota.window_seconds,
    ).first()
    return row.limit if row else None


def concerned(quota: Quota) -> list[Project]:
    """Projects with an approved plan that is not finished, whose runs count in the quota."""
    plans = Plan.objects.filter(
        status=Plan.Status.APPROVED, finished_at=None, project__archived_at=None
    ).select_related("project")
    if quota.scope == Quota.Scope.PROJECT:
        plans = plans.filter(project=quota.project)
    if quota.scope == Quota.Scope.USER:
        plans = plans.filter(decided_by=quota.user)
    projects = {plan.project_id: plan.project for plan in plans.order_by("project__name")}
    if quota.scope != Quota.Scope.PROVIDER:
        return list(projects.values())
    named = usage.providers_of(projects.values())
    return [project for pk, project in projects.items() if quota.provider_id in named[pk]]


def _used(quota: Quota) -> Decimal:
    """What counts in the quota now; for one that is not saved, what it would begin with."""
    if quota.pk:
        return usage.use(quota).used
    entries = quotas.begun(quota)
    return sum((entry.spent + entry.reserved for entry in entries), Decimal(0))


def _needs(quota: Quota, projects: Sequence[Project]) -> dict[int, Decimal]:
    """The least that a next run of each project would reserve, as claims reckon it."""
    if quota.measure == Quota.Measure.PARALLEL:
        return dict.fromkeys([project.pk for project in projects], Decimal(1))
    return {
        project.pk: min(
            budgets.estimate_for(profile_for(project, ROLE_OF[kind]), kind).of(quota.measure)
            for kind in KINDS
        )
        for project in projects[:RECKONED]
    } | dict.fromkeys([project.pk for project in projects[RECKONED:]], Decimal(0))


def _why(quota: Quota, needs: Decimal, left: Decimal) -> str:
    if quota.measure == Quota.Measure.PARALLEL:
        return "there would be no room for its next run"
    rest = amount(max(Decimal(0), left), quota.measure)
    if not needs:
        return f"nothing would be left ({rest})"
    return f"its next run takes {amount(needs, quota.measure)}, {rest} would be left"


def _sentence(
    quota: Quota, limit: Decimal, used: Decimal, waiting: Sequence[Waiting], projects: int
) -> str:
    part = f"{amount(used, quota.measure)} in use, {amount(limit, quota.measure)} allowed"
    below = used > limit and quota.measure == Quota.Measure.PARALLEL
    goes_on = " Runs at work go on to their end." if below else ""
    if not projects:
        return f"No project works under this limit now; {part}."
    if not waiting:
        return f"With this limit no project would wait: {part}.{goes_on}"
    names = ", ".join(one.project.name for one in waiting[:NAMED])
    more = f" and {len(waiting) - NAMED} more" if len(waiting) > NAMED else ""
    what = "this project" if len(waiting) == 1 else f"these {len(waiting)} projects"
    return f"With this limit {what} would wait: {names}{more}; {part}.{goes_on}"
