"""What starts next: read little, choose purely, claim by conditional update."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from agents import messages
from agents.capacity import Limit, ceiling_now, paused_limit, project_limit
from agents.models import Run
from agents.services import fleet, quotawatch, runs, walls
from agents.services.recovery import lost_runs
from projects import live
from projects.lifecycle import OPEN, transition
from projects.models import Module, Plan, Project
from projects.services.proposals import proposal_begun

S = Module.Status
K = Run.Kind

#: What is nearly done goes first, so that finished work does not pile up.
ORDER = (K.MERGE, K.REVIEW, K.FIX, K.RECHECK, K.BUILD, K.TESTS)

#: The run that a status wants.
WANTED = {
    S.PLANNING: K.TESTS,
    S.BUILDING: K.BUILD,
    S.BUILT: K.RECHECK,
    S.REVIEWING: K.REVIEW,
    S.FIXING: K.FIX,
    S.MERGING: K.MERGE,
}
#: And the other way round: the status in which a run's work is wanted.
STATUS_OF = {kind: status for status, kind in WANTED.items()}
WITHOUT_SLOT = frozenset({K.MERGE, K.RECHECK})
TICK_LOCK = 0x7475_7474
#: Held by the clock that ticks; a second clock stands by until it is free.
CLOCK_LOCK = 0x636C_6F63


@dataclass(frozen=True)
class Wanted:
    """A run that a module wants: what `choose` needs to know of it."""

    module_id: int
    kind: str
    is_new: bool = False
    needs_slot: bool = True
    lane: str = ""
    branch: str = ""
    priority: int = 0
    path_length: float = 0.0
    since: float = 0.0


def choose(
    wanted: Iterable[Wanted], slots: int, lanes: Collection[str], branches: Collection[str]
) -> list[Wanted]:
    """Which wanted runs start, in order: by kind, people's priority, longest path, then age.

    `slots` bounds those that need one; a taken lane lets no new module start, and a branch has
    one merge at a time.
    """
    taken_lanes, taken_branches = set(lanes), set(branches)
    chosen: list[Wanted] = []
    for run in sorted(wanted, key=_rank):
        if run.needs_slot and slots <= 0:
            continue
        if run.is_new and run.lane in taken_lanes:
            continue
        if run.kind == K.MERGE and run.branch in taken_branches:
            continue
        slots -= run.needs_slot
        if run.is_new and run.lane:
            taken_lanes.add(run.lane)
        if run.kind == K.MERGE:
            taken_branches.add(run.branch)
        chosen.append(run)
    return chosen


def _rank(run: Wanted) -> tuple[int, int, int, float, float, int]:
    place = ORDER.index(K(run.kind))
    # New modules come last even when their tests were given and they begin at building.
    return (run.is_new, place, -run.priority, -run.path_length, run.since, run.module_id)


def clock_runs() -> bool:
    """Whether some clock of this database holds its lock: seen without taking it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND classid::bigint << 32 | objid::bigint = %s LIMIT 1",
            [CLOCK_LOCK],
        )
        return cursor.fetchone() is not None


def tick() -> int:
    """One pass over all projects and quotas; returns how many runs it started."""
    quotawatch.mind()
    return start_all()


def start_all(*, but: int | None = None) -> int:
    """Start what can start in every project that wants something; returns how many runs began.

    Leaves out the project with the key `but`, whose own change has just looked.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [TICK_LOCK])
        row = cursor.fetchone()
        if not row or not row[0]:
            return 0
        wanting = Plan.objects.filter(
            Q(status=Plan.Status.APPROVED) | Q(proposal_at__isnull=False), project=OuterRef("pk")
        )
        projects = list(
            Project.objects.filter(Exists(wanting), archived_at__isnull=True)
            .exclude(pk=but or 0)
            .order_by(F("active_runs") * 1.0 / F("weight"), "pk")
        )
    return sum(len(start(project)) for project in projects)


def start(project: Project) -> list[Run]:
    """Start what a project can start, and wake workers for it."""
    with live.change(project) as change:
        return start_next(change)


def start_next(change: live.Change) -> list[Run]:
    """Start what can start, inside an open change; workers are woken after commit."""
    if change.project.archived_at is not None:
        return []
    plans = Plan.objects.filter(project=change.project)
    plan = plans.filter(status=Plan.Status.APPROVED, blocked_reason="").first()
    proposed = plans.filter(proposal_at__isnull=False).first()
    if plan is None and proposed is None:
        quotawatch.note(change, [])
        return []
    fleet.lock()
    ceiling = ceiling_of(change.project)
    _note_binding(change, ceiling)
    if ceiling.binds == "paused":
        # It waits for people and for no quota, so that nobody is asked about one.
        quotawatch.note(change, [])
        started = []
    else:
        started = _start_wanted(change, plan, proposed, ceiling)
    change.is_scheduled = True
    return started


def _start_wanted(
    change: live.Change, plan: Plan | None, proposed: Plan | None, ceiling: Limit
) -> list[Run]:
    started = _proposal_run(change, proposed, ceiling.slots) if proposed else []
    if plan is not None:
        started += _plan_runs(change, plan)
        if plan.prepared_at is not None:
            started += _module_runs(change, plan, ceiling)
    for run in started:
        transaction.on_commit(lambda run=run: messages.send(run))  # type: ignore[misc]
    return started


def ceiling_of(project: Project) -> Limit:
    """How many runs may work right now, and what binds."""
    if project.paused_at is not None:
        return paused_limit()
    set_by_people = [project_limit(project.ceiling), *walls.limits_of(project)]
    return ceiling_now([*set_by_people, *fleet.limits_of(project)])


def _note_binding(change: live.Change, ceiling: Limit) -> None:
    """Keep on the project what binds and since when; a change of it is an event.

    Numbers that move while the same limit binds stay as they were when it began to.
    """
    now: dict[str, Any] = {
        "limit": ceiling.binds,
        "sentence": ceiling.sentence,
        "slots": ceiling.slots,
        "numbers": ceiling.numbers,
        "until": ceiling.until.isoformat() if ceiling.until else None,
        "since": timezone.now().isoformat(),
    }
    before = change.project.binding
    if all(before.get(name, "") == now[name] for name in ("limit", "slots", "until")):
        if before.get("sentence") != now["sentence"] and ceiling.binds in walls.BINDING:
            # How much of a quota is used is no change of what binds, but is told as it is.
            kept = {**before, "sentence": now["sentence"], "numbers": now["numbers"]}
            change.project.binding = kept
            Project.objects.filter(pk=change.project.pk).update(binding=kept)
        return
    if before.get("limit") == now["limit"]:
        now["since"] = before.get("since") or now["since"]
    change.project.binding = now
    Project.objects.filter(pk=change.project.pk).update(binding=now)
    change.event("project.binding", change.project.topic, live.SYSTEM, before=before, after=now)


def _plan_runs(change: live.Change, plan: Plan) -> list[Run]:
    """The runs that a plan as a whole wants: its skeleton, and its checks at the end."""
    kind = K.PREPARE
    if plan.prepared_at is not None:
        if plan.finished_at is not None or _is_open(plan):
            return []
        kind = K.FINISH
    if Run.objects.filter(plan=plan, kind=kind, status__in=Run.ACTIVE).exists():
        return []
    run = runs.run_queue(change, kind=kind, module=None, plan=plan, needs_slot=False)
    return [run] if run else []


def _proposal_run(change: live.Change, plan: Plan, slots: int) -> list[Run]:
    """The orchestrator's run for a draft that a person asked it to cut; she waits, so it is first.

    The only run without an approved plan: it writes nothing to the repository.
    """
    if Run.objects.filter(plan=plan, kind=K.DECOMPOSE, status__in=Run.ACTIVE).exists():
        return []
    run = runs.run_queue(
        change, kind=K.DECOMPOSE, module=None, plan=plan, needs_slot=True, slots=slots
    )
    if run is None:
        return []
    change.project.active_runs += 1
    proposal_begun(plan, run.topic)
    return [run]


def _is_open(plan: Plan) -> bool:
    return Module.objects.filter(project_id=plan.project_id, status__in=list(OPEN)).exists()


def _module_runs(change: live.Change, plan: Plan, ceiling: Limit) -> list[Run]:
    project = change.project
    reserved = Run.objects.filter(project=project, slot_wanted_at__isnull=False).count()
    slots = ceiling.slots - project.active_runs - reserved
    wanted = [*_wanted_started(project), *(_wanted_new(project, slots) if slots > 0 else [])]
    wanted = _behind_no_wall(change, wanted, slots)
    if not wanted:
        return []
    lanes = set(_in_lane(project).exclude(lane="").values_list("lane", flat=True))
    branches = set(_merging_branches(project))
    started = []
    for choice in choose(wanted, slots, lanes, branches):
        if run := _start(change, choice, ceiling.slots):
            started.append(run)
    return started


def _behind_no_wall(change: live.Change, wanted: list[Wanted], slots: int) -> list[Wanted]:
    """Those that no quota or provider stops; the others are asked about, and take no turn."""
    found = walls.walls(change.project, [K.TESTS, K.BUILD, K.REVIEW, K.FIX])
    stopped = [run for run in wanted if run.needs_slot and run.kind in found]
    asked = stopped
    if found and slots <= 0:
        new = _wanted_new(change.project, 1)
        asked = stopped + [run for run in new if run.needs_slot and run.kind in found]
    quotawatch.note(change, [found[run.kind] for run in asked])
    return [run for run in wanted if run not in stopped] if stopped else wanted


def _start(change: live.Change, choice: Wanted, slots: int) -> Run | None:
    module = Module.objects.select_related("plan", "contract").get(pk=choice.module_id)
    run = runs.run_queue(
        change,
        kind=choice.kind,
        module=module,
        plan=module.plan,
        needs_slot=choice.needs_slot,
        slots=slots,
    )
    if run is None:
        return None
    change.project.active_runs += choice.needs_slot
    if choice.is_new:
        to = S.PLANNING if choice.kind == K.TESTS else S.BUILDING
        transition(module, to, by=live.SYSTEM)
    return run


def branch_key(module: Module) -> str:
    """The branch a module merges into: its parent's, or the integration branch."""
    return f"module:{module.parent_id}" if module.parent_id else "integration"


def _merging_branches(project: Project) -> Iterable[str]:
    rows = Run.objects.filter(project=project, kind=K.MERGE, status__in=Run.ACTIVE)
    for run in rows.select_related("module"):
        if run.module:
            yield branch_key(run.module)


def _in_lane(project: Project) -> QuerySet[Module]:
    return Module.objects.filter(project=project, status__in=Module.IN_LANE)


def _idle(modules: QuerySet[Module]) -> QuerySet[Module]:
    active = Run.objects.filter(module=OuterRef("pk"), status__in=Run.ACTIVE)
    due = Q(not_before__isnull=True) | Q(not_before__lte=Now())
    return modules.filter(~Exists(active), due, paused_at__isnull=True)


def _wanted_started(project: Project) -> list[Wanted]:
    """Modules that began and have no active run; their number is bounded by what was started."""
    rows = Module.objects.filter(project=project, status__in=list(WANTED)).exclude(
        status=S.BUILT, needs_to_finish__gt=0
    )
    return [_wanted(module, WANTED[S(module.status)]) for module in _idle(rows)]


def _wanted(module: Module, kind: K) -> Wanted:
    given = kind == K.TESTS and bool(module.contract and module.contract.tests_given)
    return Wanted(
        module_id=module.pk,
        kind=kind,
        needs_slot=kind not in WITHOUT_SLOT and not given,
        lane=module.lane,
        branch=branch_key(module),
        priority=module.priority,
        path_length=module.path_length,
        since=_age(module.status_at),
    )


def _age(at: datetime) -> float:
    return at.timestamp()


def _wanted_new(project: Project, slots: int) -> list[Wanted]:
    """Waiting modules, best first, read page by page from the index until there are enough."""
    held = _in_lane(project).exclude(lane="").values("lane")
    rows = _idle(
        Module.objects.filter(project=project, status=S.WAITING, needs_to_start=0)
        .exclude(lane__in=held)
        .select_related("contract")
    ).order_by("-priority", "-path_length", "pk")
    found: list[Wanted] = []
    lanes: set[str] = set()
    page = max(8, slots * 2)
    for begin in range(0, 40 * page, page):
        batch = list(rows[begin : begin + page])
        for module in batch:
            if module.lane and module.lane in lanes:
                continue
            lanes.add(module.lane)
            found.append(_new(module))
        if len(batch) < page or len(found) >= slots:
            break
    return found


def _new(module: Module) -> Wanted:
    kind = K.BUILD if module.tests_commit else K.TESTS
    given = kind == K.TESTS and bool(module.contract and module.contract.tests_given)
    return Wanted(
        module_id=module.pk,
        kind=kind,
        is_new=True,
        needs_slot=not given,
        lane=module.lane,
        branch=branch_key(module),
        priority=module.priority,
        path_length=module.path_length,
        since=_age(module.status_at),
    )


def sweep() -> None:
    """Heal what messages and workers lost: send again, and end what gave no sign of life."""
    for run in lost_runs(settings.TUTTI_LEASE_SECONDS):
        runs.run_lost(
            run,
            Run.Status.STALLED,
            "Its worker gave no sign of life; another run goes on.",
            "worker_lost",
        )
    unclaimed = Run.objects.filter(
        status=Run.Status.QUEUED,
        sent_at__lt=timezone.now() - timedelta(seconds=settings.TUTTI_SWEEP_SECONDS),
    )
    for run in unclaimed[:200]:
        Run.objects.filter(pk=run.pk).update(sent_at=timezone.now())
        messages.send(run)
