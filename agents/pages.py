"""What the board and the pages of modules show; read only, in a fixed number of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from django.db.models import Case, Count, F, OrderBy, QuerySet, Value, When, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from agents import telling, waits
from agents.models import Channel, Request, Run, Steer
from agents.services import steering, walls
from projects.models import Dependency, Module, Plan, Project
from reviews import selectors as judged
from reviews.models import CheckResult, Finding, Merge, Review

S = Module.Status

#: Cards of one column; the rest is counted.
WINDOW = 200

#: Key, title, statuses, and the state that colours the cards.
COLUMNS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("waiting", "Waiting", (S.WAITING,), "queued"),
    ("planning", "Planning", (S.PLANNING,), "running"),
    ("building", "Building", (S.BUILDING,), "running"),
    ("built", "Built", (S.BUILT,), "blocked"),
    ("reviewing", "In review", (S.REVIEWING, S.FIXING), "review"),
    ("merging", "Merging", (S.MERGING,), "running"),
    ("needs_person", "Needs a person", (S.NEEDS_PERSON,), "needs"),
    ("merged", "Merged", (S.MERGED,), "passed"),
    ("cancelled", "Cancelled", (S.CANCELLED,), "queued"),
)
COLUMN_OF = {status: key for key, _, statuses, _ in COLUMNS for status in statuses}
ENDED = (S.MERGED, S.CANCELLED)


@dataclass
class Card:
    """How a module looks on the board."""

    module: Module
    run: Run | None = None
    findings: int = 0
    waits: str = ""


@dataclass
class Column:
    """The cards of one or two statuses; `left_out` more are not shown."""

    key: str
    title: str
    state: str
    total: int
    cards: list[Card] = field(default_factory=list)

    @property
    def left_out(self) -> int:
        return self.total - len(self.cards)


@dataclass
class Board:
    """The board of a project at one moment."""

    columns: list[Column]
    plan: Plan | None
    open_plan: Plan | None
    runs: list[Run]
    merged: int
    total: int

    @property
    def working(self) -> int:
        return sum(run.holds_slot for run in self.runs)

    @property
    def own_runs(self) -> list[Run]:
        """Runs that belong to no module: the skeleton, the checks at the end, a decomposition."""
        return [run for run in self.runs if run.module_id is None]


def board(project: Project) -> Board:
    """Everything the board shows; the same number of queries for 10 and for 10,000 modules."""
    plans = {plan.status: plan for plan in _plans(project)}
    plan = plans.get(Plan.Status.APPROVED)
    runs = list(active_runs(project))
    modules = [*_window(project, ended=False), *_window(project, ended=True)]
    cards = defaultdict(list)
    for card in _cards(project, plan, modules, runs):
        cards[COLUMN_OF[card.module.status]].append(card)
    totals = status_counts(project)
    columns = [
        Column(key, title, state, sum(totals.get(status, 0) for status in statuses), cards[key])
        for key, title, statuses, state in COLUMNS
    ]
    merged = totals.get(S.MERGED, 0)
    total = sum(n for status, n in totals.items() if status not in (S.DRAFT, S.CANCELLED))
    open_plan = plans.get(Plan.Status.SUBMITTED) or plans.get(Plan.Status.DRAFT)
    return Board(columns, plan, open_plan, runs, merged, total)


def _plans(project: Project) -> QuerySet[Plan]:
    wanted = [Plan.Status.APPROVED, Plan.Status.SUBMITTED, Plan.Status.DRAFT]
    return Plan.objects.filter(project=project, status__in=wanted).select_related("decided_by")


def status_counts(project: Project) -> dict[str, int]:
    rows = Module.objects.filter(project=project).values("status").annotate(n=Count("pk"))
    return {row["status"]: row["n"] for row in rows.order_by()}


def active_runs(project: Project) -> QuerySet[Run]:
    runs = Run.objects.filter(project=project, status__in=Run.ACTIVE)
    return runs.select_related("module").defer("assignments", "result").order_by("pk")


def _window(project: Project, *, ended: bool) -> QuerySet[Module]:
    """The first cards of each column: what starts next, or what ended last."""
    statuses = ENDED if ended else tuple(status for status in COLUMN_OF if status not in ENDED)
    order: list[OrderBy | F] = [F("priority").desc(), F("path_length").desc(), F("pk").asc()]
    if ended:
        order = [F("status_at").desc(), F("pk").desc()]
    column = Case(*(When(status=status, then=Value(COLUMN_OF[status])) for status in statuses))
    modules = Module.objects.filter(project=project, status__in=statuses)
    placed = modules.annotate(
        place=Window(RowNumber(), partition_by=column, order_by=order)
    )  # fmt: skip
    return placed.filter(place__lte=WINDOW).defer("outline", "locked_tests").order_by(*order)


def _cards(
    project: Project, plan: Plan | None, modules: Sequence[Module], runs: Sequence[Run]
) -> list[Card]:
    running = {run.module_id: run for run in runs}
    findings = judged.open_findings(module.pk for module in modules if module.open_findings)
    sentences = why_waiting(project, plan, modules, running)
    return [
        Card(
            module,
            running.get(module.pk),
            findings.get(module.pk, 0),
            sentences[module.pk],
        )
        for module in modules
    ]


def why_waiting(
    project: Project, plan: Plan | None, modules: Sequence[Module], running: Iterable[int | None]
) -> dict[int, str]:
    """For each module the sentence that says what it waits for; empty while it runs."""
    active = set(running)
    starts, finishes = _open_needs(modules)
    children = _open_children(modules)
    holders = _lane_holders(project, modules)
    ground = _ground(project, plan)
    found = {}
    for module in modules:
        holder = holders.get(module.lane)
        around = waits.Around(
            starts_after=starts.get(module.pk, ()),
            finishes_after=finishes.get(module.pk, ()),
            children=children.get(module.pk, ()),
            lane_holder=holder if holder and holder.slug != module.slug else None,
            is_running=module.pk in active,
        )
        found[module.pk] = waits.sentence(module, around, ground)
    return found


def _ground(project: Project, plan: Plan | None) -> waits.Ground:
    merge = Merge.objects.filter(project=project, ended_at__isnull=True).select_related("module")
    current = merge.first()
    return waits.Ground(
        now=timezone.now(),
        is_paused=project.paused_at is not None,
        is_prepared=plan is None or plan.prepared_at is not None,
        blocked_reason=plan.blocked_reason if plan else "",
        binding=str(project.binding.get("sentence", "")),
        walls=_walls(project),
        merging=current.module.slug if current else "",
    )


def _walls(project: Project) -> dict[str, str]:
    """For each kind of run that a quota or a provider stops: which, and until when."""
    found = walls.walls(project, ["tests", "build", "review", "fix"])
    return {kind: wall.limit.sentence for kind, wall in found.items()}


Others = dict[int, list[waits.Other]]


def _open_needs(modules: Sequence[Module]) -> tuple[Others, Others]:
    """What holds up the start, and what the end, of the modules that wait for either."""
    waiting = [m for m in modules if m.status in (S.WAITING, S.BUILT) and m.contract_id]
    module_of = {module.contract_id: module for module in waiting}
    rows = Dependency.objects.filter(contract__in=list(module_of), satisfied_at__isnull=True)
    values = rows.values_list("contract_id", "gates", "needs__slug", "needs__status")
    starts: Others = defaultdict(list)
    finishes: Others = defaultdict(list)
    for contract, gates, slug, status in values.order_by("needs__slug"):
        kind = starts if gates == Dependency.Gates.START else finishes
        if gates:
            kind[module_of[contract].pk].append(waits.Other(slug, status))
    return starts, finishes


def _open_children(modules: Sequence[Module]) -> Others:
    parents = [module.pk for module in modules if module.status == S.BUILT]
    rows = Module.objects.filter(parent__in=parents).exclude(status=S.MERGED).order_by("pk")
    found: Others = defaultdict(list)
    for parent, slug, status in rows.values_list("parent_id", "slug", "status"):
        found[parent or 0].append(waits.Other(slug, status))
    return found


def _lane_holders(project: Project, modules: Sequence[Module]) -> dict[str, waits.Other]:
    lanes = {module.lane for module in modules if module.lane and module.status == S.WAITING}
    rows = Module.objects.filter(project=project, lane__in=lanes, status__in=Module.IN_LANE)
    values = rows.values_list("lane", "slug", "status")
    return {lane: waits.Other(slug, status) for lane, slug, status in values}


@dataclass
class ModulePage:
    """Everything the page of a module shows."""

    module: Module
    waits: str
    run: Run | None
    needs: list[Dependency]
    needed_by: list[Dependency]
    children: list[Module]
    runs: list[Run]
    reviews: list[Review]
    findings: list[Finding]
    open_findings: int
    checks: list[CheckResult]
    merges: list[Merge]
    requests: list[Request]

    @property
    def open_requests(self) -> list[Request]:
        return [request for request in self.requests if request.answered_at is None]


def module_page(module: Module) -> ModulePage:
    project = module.project
    runs = list(module.runs.defer("assignments", "result").order_by("-pk")[:100])
    running = next((run for run in runs if run.is_active), None)
    plan = Plan.objects.filter(project=project, status=Plan.Status.APPROVED).first()
    waiting = why_waiting(project, plan, [module], [module.pk] if running else [])
    return ModulePage(
        module=module,
        waits=waiting[module.pk],
        run=running,
        needs=module_needs(module),
        needed_by=_needed_by(module),
        children=list(module.children.order_by("pk")),
        runs=runs,
        reviews=list(module.reviews.select_related("person").order_by("-pk")[:50]),
        findings=judged.module_findings(module, 100),
        open_findings=judged.open_findings([module.pk]).get(module.pk, 0),
        checks=list(module.check_results.order_by("-pk")[:40]),
        merges=list(module.merges.order_by("-pk")[:20]),
        requests=list(module.requests.select_related("answered_by", "run").order_by("-pk")[:50]),
    )


def module_needs(module: Module) -> list[Dependency]:
    if module.contract is None:
        return []
    return list(module.contract.needs.select_related("needs").order_by("needs__slug"))


def _needed_by(module: Module) -> list[Dependency]:
    rows = Dependency.objects.filter(needs=module, contract=F("contract__module__contract"))
    return list(rows.select_related("contract__module").order_by("contract__module__slug")[:200])


@dataclass
class RunPage:
    """What the page of a run shows beside its own row and its log."""

    findings: list[Finding]
    checks: list[CheckResult]
    requests: list[Request]
    steers: list[Steer]
    can_be_told: bool
    can_be_interrupted: bool
    channel: Channel | None
    review: Review | None
    merge: Merge | None
    previous: Run | None
    next: Run | None
    #: What it cost, in words; empty for a run without an agent.
    money: str


def run_page(run: Run) -> RunPage:
    by_topic = {"project": run.project_id, "run_topic": run.topic}
    siblings = Run.objects.filter(project=run.project_id, module=run.module_id)
    siblings = siblings.defer("assignments", "result")
    return RunPage(
        findings=list(Finding.objects.filter(**by_topic).order_by("pk")[:200]),
        checks=list(CheckResult.objects.filter(**by_topic).order_by("pk")[:200]),
        requests=list(run.requests.order_by("pk")),
        steers=steering.shown(run),
        can_be_told=run.is_active and run.needs_slot and run.module_id is not None,
        can_be_interrupted=run.backend in steering.AT_ONCE,
        channel=Channel.objects.filter(run=run).first(),
        review=Review.objects.filter(**by_topic).order_by("-pk").first(),
        merge=Merge.objects.filter(**by_topic).order_by("-pk").first(),
        previous=siblings.filter(pk__lt=run.pk).order_by("-pk").first(),
        next=siblings.filter(pk__gt=run.pk).order_by("pk").first(),
        money=_money(run),
    )


def _money(run: Run) -> str:
    if not (run.needs_slot and run.role):
        return ""
    if run.cost is None:
        return "unpriced" if run.ended_at else "not known yet"
    return telling.amount(run.cost)
