"""What the pages of quotas read: limits beside their use, who uses them, and use over time.

Read only. Names of other projects never leave here for the pages of a project.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncDay, TruncHour
from django.utils import timezone

from agents import charts
from agents.amounts import amount, currency
from agents.models import Profile, Quota, QuotaEntry, Run
from agents.services import budgets
from agents.timeaxis import TimeAxis
from projects.models import Plan, Project

M, P, SCOPE = Quota.Measure, Quota.Period, Quota.Scope

#: Runs that a page lists by name; the rest is counted.
LISTED = 50
MOST_QUOTAS = 500


@dataclass(frozen=True)
class Use:
    """A quota with what is used of it; `runs` are at work on it now, of `projects` projects."""

    quota: Quota
    runs: int
    projects: int

    @property
    def used(self) -> Decimal:
        return self.quota.spent + self.quota.reserved

    @property
    def left(self) -> Decimal:
        return max(Decimal(0), self.quota.limit - self.used)

    @property
    def percent(self) -> int:
        if self.quota.limit <= 0:
            return 100
        return int(self.used * 100 / self.quota.limit)

    @property
    def state(self) -> str:
        """A word for the chip: ok, warning from 80 % on, used up from 100 % on."""
        return "used up" if self.percent >= 100 else "warning" if self.percent >= 80 else "ok"

    def said(self, value: Decimal) -> str:
        return amount(value, self.quota.measure)

    @property
    def limit_plain(self) -> str:
        """The limit as a number field holds it."""
        return f"{self.quota.limit.normalize():f}"

    @property
    def limit_said(self) -> str:
        return self.said(self.quota.limit)

    @property
    def used_said(self) -> str:
        return self.said(self.used)

    @property
    def spent_said(self) -> str:
        return self.said(self.quota.spent)

    @property
    def reserved_said(self) -> str:
        return self.said(self.quota.reserved)

    @property
    def left_said(self) -> str:
        return self.said(self.left)

    @property
    def meter_low(self) -> Decimal:
        """From here on the bar turns to a warning; from `meter_high` on it is used up."""
        return self.quota.limit * Decimal("0.8")

    @property
    def meter_high(self) -> Decimal:
        return self.quota.limit * Decimal("0.999")

    @property
    def of(self) -> str:
        return whose(self.quota)

    @property
    def what(self) -> str:
        return measured(self.quota)


def whose(quota: Quota) -> str:
    """Whom a quota bounds, in words."""
    if quota.scope == SCOPE.PROVIDER and quota.provider:
        return f"provider {quota.provider}"
    if quota.scope == SCOPE.PROJECT and quota.project:
        return f"project {quota.project.name}"
    if quota.scope == SCOPE.USER and quota.user:
        return f"person {quota.user.get_username()}"
    return "the whole site"


def measured(quota: Quota) -> str:
    """What a quota counts and over which time, in words."""
    if quota.measure == M.PARALLEL:
        return "runs at once"
    noun = "tokens" if quota.measure == M.TOKENS else "money"
    if quota.period == P.WINDOW:
        return f"{noun} per {span(quota.window_seconds or 0)}, rolling"
    zone = "" if quota.time_zone == "UTC" else f" in {quota.time_zone}"
    return f"{noun} per {quota.period}{zone}"


def span(seconds: int) -> str:
    """A length of time by its largest whole unit: 5 hours, 90 minutes, 1 day."""
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            count = seconds // size
            return name if count == 1 else f"{count} {name}s"
    return f"{seconds} seconds"


# --- Lists ---------------------------------------------------------------------------------------


def quotas(project: Project | None = None) -> QuerySet[Quota]:
    """A project's own quotas, or every quota of the site; those of the whole site first."""
    rows = Quota.objects.select_related("provider", "project", "user")
    rows = rows if project is None else rows.filter(project=project)
    return rows.order_by("scope", "provider__name", "project__slug", "user__username", "pk")


def uses(rows: Iterable[Quota]) -> list[Use]:
    """Each quota with who is on it now, in a fixed number of queries."""
    found = sorted(rows, key=lambda quota: (list(SCOPE).index(SCOPE(quota.scope)), whose(quota)))
    let_go(found)
    active = list(
        Run.objects.filter(status__in=Run.ACTIVE, needs_slot=True).values_list(
            "provider_id", "project_id", "plan__decided_by_id"
        )
    )
    return [_use(quota, active) for quota in found[:MOST_QUOTAS]]


def let_go(rows: Sequence[Quota], now: datetime | None = None) -> None:
    """Take what left its window out of the figures in memory; claims do so in the database."""
    starts = {quota.pk: budgets.start_of(quota, now or timezone.now()) for quota in rows}
    gone = Q(pk=None)
    for pk, start in starts.items():
        if start is not None:
            gone |= Q(quota=pk, spent_at__lt=start)
    # A run at work counts as a whole until it ends, as claims have it.
    entries = QuotaEntry.objects.filter(gone, expired_at__isnull=True)
    entries = entries.exclude(run__status__in=Run.ACTIVE)
    sums = dict(entries.values_list("quota").annotate(sum=Sum("spent")).order_by())
    for quota in rows:
        quota.spent = max(Decimal(0), quota.spent - sums.get(quota.pk, Decimal(0)))


def _use(quota: Quota, active: Sequence[tuple[int | None, int, int | None]]) -> Use:
    mine = [run[1] for run in active if _covers(quota, *run)]
    return Use(quota, len(mine), len(set(mine)))


def _covers(quota: Quota, provider: int | None, project: int, person: int | None) -> bool:
    if quota.scope == SCOPE.PROVIDER:
        return provider == quota.provider_id
    if quota.scope == SCOPE.PROJECT:
        return project == quota.project_id
    if quota.scope == SCOPE.USER:
        return person is not None and person == quota.user_id
    return True


def use(quota: Quota) -> Use:
    return uses([quota])[0]


def above(project: Project) -> list[Quota]:
    """The site's, providers' and people's quotas that runs of a project count in, too."""
    plan = Plan.objects.filter(project=project, status=Plan.Status.APPROVED).first()
    person = plan.decided_by_id if plan else None
    concerned = Q(scope=SCOPE.SITE) | Q(provider__in=providers_of([project])[project.pk])
    if person:
        concerned |= Q(user_id=person)
    return list(Quota.objects.filter(concerned).select_related("provider", "project", "user"))


def providers_of(projects: Iterable[Project]) -> dict[int, set[int]]:
    """Project to the provider accounts that its profiles name, or the site's where it has none."""
    found: dict[int, set[int]] = {project.pk: set() for project in projects}
    rows = Profile.objects.filter(Q(project=None) | Q(project__in=list(found)))
    site: dict[str, int | None] = {}
    own: dict[tuple[int, str], int | None] = {}
    for project, role, provider in rows.values_list("project_id", "role", "provider_id"):
        if project is None:
            site[role] = provider
        else:
            own[project, role] = provider
    for project in found:
        named = (own.get((project, role), site.get(role)) for role in Profile.Role.values)
        found[project] = {provider for provider in named if provider}
    return found


# --- One quota -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """What one project has of a quota now."""

    project: Project
    runs: int
    spent: str
    reserved: str
    estimated: int


def active(quota: Quota) -> list[Run]:
    """The runs that are on a quota right now, newest last."""
    rows = budgets.runs_of(quota).filter(status__in=Run.ACTIVE).defer("assignments", "result")
    return list(
        rows.select_related("project", "module", "plan__decided_by").order_by("pk")[:LISTED]
    )


def shares(quota: Quota) -> list[Share]:
    """Projects with something spent or reserved in the quota's time, the largest first.

    Tests of providers count in their project's; those of the site belong to none.
    """
    live = QuotaEntry.objects.filter(quota=quota, expired_at__isnull=True)
    live = live.annotate(whose=Coalesce("run__project_id", "test__project_id"))
    live = live.exclude(whose=None)
    start = budgets.start_of(quota, timezone.now())
    if start:
        live = live.exclude(Q(spent_at__lt=start) & ~Q(run__status__in=Run.ACTIVE))
    rows = live.values("whose").annotate(
        n=Count("pk"),
        used=Sum("spent"),
        held=Sum("reserved"),
        guessed=Count("pk", filter=Q(is_estimated=True)),
    )
    found = sorted(rows, key=lambda row: -(row["used"] + row["held"]))[:LISTED]
    projects = Project.objects.in_bulk([row["whose"] for row in found])
    return [
        Share(
            projects[row["whose"]],
            row["n"],
            amount(row["used"], quota.measure),
            amount(row["held"], quota.measure),
            row["guessed"],
        )
        for row in found
    ]


def over_time(quota: Quota, now: datetime | None = None) -> charts.Chart:
    """Use by hour over two days, or by day over a month; for parallel runs the most at once."""
    end = now or timezone.now()
    by_day = quota.period == P.MONTH or (quota.window_seconds or 0) > 2 * 86400
    begin = end - (timedelta(days=31) if by_day else timedelta(hours=48))
    if quota.measure == M.PARALLEL:
        return _at_once(quota, end - timedelta(hours=24), end)
    trunc = TruncDay if by_day else TruncHour
    rows = (
        QuotaEntry.objects.filter(quota=quota, spent_at__gte=begin)
        .annotate(at=trunc("spent_at"))
        .values_list("at")
        .annotate(total=Sum("spent"))
        .order_by("at")
    )
    spent = dict(rows)
    step = timedelta(days=1) if by_day else timedelta(hours=1)
    axis = TimeAxis(begin, end)
    word, size = _unit(quota, max(spent.values(), default=Decimal(0)))
    points = [
        (axis.x(at), float(spent.get(at, 0) / size))
        for at in _slots(begin, end, step)
        if at >= min(spent, default=end)
    ]
    unit = "day" if by_day else "hour"
    return charts.line_chart(
        f"Spent by {unit}",
        [charts.Series("spent", points)],
        x_label=f"{unit}, {timezone.get_current_timezone_name()}",
        y_label=word,
        step=True,
        x_text=axis.text,
    )


def _unit(quota: Quota, most: Decimal) -> tuple[str, int]:
    """What the y axis counts, so that its numbers stay short."""
    if quota.measure == M.MONEY:
        return currency(), 1
    if most >= 100_000:
        return "thousand tokens", 1000
    return "tokens", 1


def _slots(begin: datetime, end: datetime, step: timedelta) -> list[datetime]:
    """Whole hours or days, as the database truncates them, from begin to end."""
    local = timezone.localtime(begin)
    at = local.replace(minute=0, second=0, microsecond=0)
    if step >= timedelta(days=1):
        at = at.replace(hour=0)
    found = []
    while at <= end:
        found.append(at)
        at += step
    return found


def _at_once(quota: Quota, begin: datetime, end: datetime) -> charts.Chart:
    touched = Q(ended_at__gte=begin) | Q(ended_at=None, status__in=Run.ACTIVE)
    rows = budgets.runs_of(quota).filter(touched)
    steps: dict[datetime, int] = defaultdict(int)
    for queued, ended in rows.order_by("-pk").values_list("queued_at", "ended_at")[:5000]:
        steps[max(queued, begin)] += 1
        if ended:
            steps[max(ended, queued, begin)] -= 1
    axis, count, points = TimeAxis(begin, end), 0, []
    for at, change in sorted(steps.items()):
        count += change
        points.append((axis.x(at), float(count)))
    if points:
        points.append((axis.x(end), float(count)))
    limit = float(quota.limit)
    bound = [(points[0][0], limit), (points[-1][0], limit)] if points else []
    return charts.line_chart(
        "Runs at once, last 24 hours",
        [charts.Series("begun and not ended", points), charts.Series("limit now", bound)],
        x_label=f"time, {timezone.get_current_timezone_name()}",
        y_label="runs",
        step=True,
        x_text=axis.text,
    )
