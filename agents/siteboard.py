"""What the site's pages for admins read: hosts and their readings, providers, waiting projects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import Mod
from django.utils import timezone

from agents import charts, usage
from agents.amounts import plain
from agents.bindings import Binding, binding
from agents.models import Host, HostReading, Price, Provider, Quota, Run
from agents.services.fleet import FRESH_SECONDS
from agents.timeaxis import TimeAxis
from projects.models import Attention, Module, Plan, Project, SiteEvent
from projects.selectors import narrowed

#: Points of one chart; more are thinned out, but never the changes.
MOST_POINTS = 240
MOST_CHANGES = 100
HOURS = (1, 6, 24, 168)
MOST_PROJECTS = 200
MOST_HOSTS = 50


@dataclass(frozen=True)
class Machine:
    """A host with its chart, the changes of what it can carry, and what works there now."""

    host: Host
    is_fresh: bool
    chart: charts.Chart
    capacity_chart: charts.Chart
    changes: Sequence[tuple[datetime, str, str, str]]
    runs: int

    @property
    def used_mb(self) -> int:
        return max(0, self.host.memory_mb - self.host.memory_available_mb)

    @property
    def state(self) -> str:
        if not self.is_fresh:
            return "no sign of life"
        return "draining" if self.host.draining else "takes work"


def machines(hours: int = 6, now: datetime | None = None) -> list[Machine]:
    """Every host, with its readings of the last hours."""
    end = now or timezone.now()
    runs = dict(
        Run.objects.filter(status__in=Run.ACTIVE)
        .values_list("host")
        .annotate(n=Count("pk"))
        .order_by()
    )
    return [
        _machine(host, end - timedelta(hours=hours), end, runs.get(host.name, 0))
        for host in Host.objects.order_by("name")[:MOST_HOSTS]
    ]


def _machine(host: Host, begin: datetime, end: datetime, runs: int) -> Machine:
    readings = thinned(HostReading.objects.filter(host=host, at__gte=begin))
    changed = [reading for reading in readings if reading.reason]
    before: int | None = None
    changes = []
    for reading in readings:
        if reading.reason or reading.capacity != before:
            changes.append((reading.at, _slots(before), _slots(reading.capacity), reading.reason))
        before = reading.capacity
    fresh = end - timedelta(seconds=FRESH_SECONDS)
    axis = TimeAxis(begin, end)
    return Machine(
        host=host,
        is_fresh=host.seen_at is not None and host.seen_at >= fresh,
        chart=_memory(host, axis, readings, changed),
        capacity_chart=_capacity(host, axis, readings, changed),
        changes=changes[::-1][:50],
        runs=runs,
    )


def _slots(capacity: int | None) -> str:
    return "—" if capacity is None else str(capacity)


def thinned(readings: QuerySet[HostReading]) -> list[HostReading]:
    """About MOST_POINTS of them, taken out by the database; changes and the newest all stay."""
    step = max(1, -(-readings.count() // MOST_POINTS))
    newest = readings.order_by("-at").values("pk")[:1]
    changes = readings.exclude(reason="").order_by("-at").values("pk")[:MOST_CHANGES]
    kept = readings.annotate(place=Mod(F("pk"), step))
    kept = kept.filter(Q(place=0) | Q(pk__in=newest) | Q(pk__in=changes))
    return list(kept.order_by("at"))


def _marks(axis: TimeAxis, changed: Sequence[HostReading]) -> list[charts.Mark]:
    return [
        charts.Mark(axis.x(reading.at), f"→ {_slots(reading.capacity)}")
        for reading in changed[-12:]
    ]


def _memory(
    host: Host, axis: TimeAxis, shown: Sequence[HostReading], changed: Sequence[HostReading]
) -> charts.Chart:
    used = [(axis.x(r.at), (r.memory_mb - r.memory_available_mb) / 1024) for r in shown]
    total = [(axis.x(r.at), r.memory_mb / 1024) for r in shown]
    return charts.line_chart(
        f"Memory of {host.name}",
        [charts.Series("used", used), charts.Series("of", total)],
        x_label=f"time, {timezone.get_current_timezone_name()}; marks: agents it may carry",
        y_label="GB",
        marks=_marks(axis, changed),
        x_text=axis.text,
    )


def _capacity(
    host: Host, axis: TimeAxis, shown: Sequence[HostReading], changed: Sequence[HostReading]
) -> charts.Chart:
    alive = [(axis.x(r.at), float(r.alive)) for r in shown]
    room = [(axis.x(r.at), float(r.capacity)) for r in shown if r.capacity is not None]
    return charts.line_chart(
        f"Agents on {host.name}",
        [charts.Series("alive", alive), charts.Series("may be alive", room)],
        x_label=f"time, {timezone.get_current_timezone_name()}",
        y_label="agents",
        marks=_marks(axis, changed),
        step=True,
        x_text=axis.text,
    )


# --- Providers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """A provider with its quotas and who works on it now."""

    provider: Provider
    uses: Sequence[usage.Use]
    runs: int
    projects: int
    profiles: int

    @property
    def state(self) -> str:
        """A word of the templates' chips for the breaker."""
        return {"closed": "ok", "throttled": "stalled", "exhausted": "failed"}.get(
            self.provider.breaker, "queued"
        )


def accounts() -> list[Account]:
    """Every provider, in a fixed number of queries."""
    by_provider: dict[int, list[usage.Use]] = {}
    for use in usage.uses(usage.quotas().filter(scope=Quota.Scope.PROVIDER)):
        by_provider.setdefault(use.quota.provider_id or 0, []).append(use)
    rows = Provider.objects.annotate(
        n_profiles=Count("profiles", distinct=True),
        n_runs=Count("runs", filter=Q(runs__status__in=Run.ACTIVE), distinct=True),
        n_projects=Count("runs__project", filter=Q(runs__status__in=Run.ACTIVE), distinct=True),
    )
    return [
        Account(row, by_provider.get(row.pk, []), row.n_runs, row.n_projects, row.n_profiles)
        for row in rows.order_by("name")
    ]


@dataclass(frozen=True)
class PriceRow:
    """A price with its numbers as people write them."""

    price: Price
    into: str
    out: str


def prices() -> list[PriceRow]:
    rows = Price.objects.select_related("provider").order_by("provider__name", "model")
    return [
        PriceRow(price, plain(price.input_per_million), plain(price.output_per_million))
        for price in rows
    ]


def unpriced() -> list[tuple[str, str, int]]:
    """Provider and model of runs whose cost is unknown although their tokens are not, and count."""
    known = set(Price.objects.values_list("provider_id", "model"))
    rows = (
        Run.objects.filter(cost=None, input_tokens__isnull=False)
        .exclude(model="")
        .values_list("provider_id", "provider__name", "model")
        .annotate(n=Count("pk"))
        .order_by("-n")
    )
    return [
        (name or "", model, n)
        for provider, name, model, n in rows[:50]
        if not known & {(provider, model), (None, model)}
    ]


# --- Projects ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """A project at work: what binds it since when, and what waits in it."""

    project: Project
    binding: Binding | None
    waiting: int
    asked: int


def standings() -> list[Standing]:
    """Projects whose plan is not finished, those that wait first."""
    plans = Plan.objects.filter(
        status=Plan.Status.APPROVED, finished_at=None, project__archived_at=None
    )
    projects = [plan.project for plan in plans.select_related("project")[:MOST_PROJECTS]]
    waiting = _counts(Module.objects.filter(status=Module.Status.WAITING), projects)
    asked = _counts(Attention.objects.filter(closed_at=None), projects)
    rows = [
        Standing(project, binding(project), waiting.get(project.pk, 0), asked.get(project.pk, 0))
        for project in projects
    ]
    return sorted(rows, key=lambda row: (-row.waiting, row.project.name))


def _counts(
    rows: QuerySet[Module] | QuerySet[Attention], projects: Sequence[Project]
) -> dict[int, int]:
    found = rows.filter(project__in=projects).values_list("project_id").annotate(n=Count("pk"))
    return dict(found.order_by())


# --- The site's record ---------------------------------------------------------------------------


def events(*, kind: str = "", topic: str = "", actor: str = "") -> QuerySet[SiteEvent]:
    """The site's events, newest first, narrowed as a project's are."""
    return narrowed(SiteEvent.objects.all(), kind=kind, topic=topic, actor=actor)


def event_kinds() -> list[str]:
    rows = SiteEvent.objects.order_by("kind").values_list("kind", flat=True)
    return list(rows.distinct())
