"""Read what readiness is judged by: the same number of queries for any number of modules."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Count, Min, Q
from django.utils import timezone

from agents.backends import KINDS
from agents.models import Host, Measurement, Price, Profile, Quota, Run
from agents.readiness_values import (
    CheckFact,
    Facts,
    HostFact,
    MeasureFacts,
    PersonFact,
    PlanFacts,
    ProfileFact,
    QuotaFact,
)
from agents.scheduler import clock_runs
from agents.services import coupling, measuring
from agents.services.profiles import DEFAULT_MODELS
from projects import graph, instructions, plancontent, sources
from projects.git import GitError
from projects.hub import Hub, integration_ref
from projects.models import Contract, Event, Instruction, Module, Plan, Project
from projects.planpage import OPEN, plan_shown
from projects.services.plans import topic_of
from projects.specs import ModuleSpec, Problem
from reviews.models import CheckResult


def facts_of(project: Project) -> Facts:
    """Everything that the readiness of a project is judged by."""
    now = timezone.now()
    plan = plan_shown(project)
    head = _head(project)
    contracts = _contracts(plan) if plan else []
    specs = _specs(contracts)
    measure, source_problem = _measure(project, plan, head, now)
    found = coupling.coupling_kept(plan, head, specs) if plan and specs and head else None
    profiles = _profiles(project)
    queued, since = _queued(project)
    return Facts(
        slug=project.slug,
        now=now,
        plan=_plan(project, plan, contracts, specs, head) if plan else None,
        goal=project.goal,
        ceiling=project.ceiling,
        site_ceiling=settings.TUTTI_SITE_CEILING,
        is_paused=project.paused_at is not None,
        environment=project.environment,
        environment_exists=(Path(project.environment) / "bin").is_dir(),
        measure=measure,
        profiles=tuple(_profile_fact(profile) for profile in profiles),
        prices=_prices(),
        quotas=tuple(_quotas(project, plan, profiles)),
        hosts=tuple(_hosts()),
        clock_runs=clock_runs(),
        memory_floor_mb=settings.TUTTI_MEMORY_FLOOR_MB,
        disk_floor_mb=settings.TUTTI_DISK_FLOOR_MB,
        coupling=tuple(found.suggestions) if found else None,
        coupling_missing=found.missing if found else "",
        dismissed=_dismissed(plan) if plan else frozenset(),
        instructions=_texts(project, plan),
        sent=_sent(project),
        people=tuple(_people(project)),
        source=project.source,
        source_problem=_source_problem(project, source_problem),
        hub_head=head,
        hub_path=str(project.hub_path),
        backup_at=_stamp(),
        backup_stamp=str(settings.TUTTI_BACKUP_STAMP or ""),
        published_at=_published(project),
        changed_at=max((c.module.status_at for c, _ in contracts if _is_merged(c)), default=None),
        queued=queued,
        queued_since=since,
    )


def _head(project: Project) -> str:
    try:
        return Hub(project.hub_path).head(integration_ref()) or ""
    except (GitError, OSError):
        return ""


# --- The plan ------------------------------------------------------------------------------------


def _contracts(plan: Plan) -> list[tuple[Contract, list[Any]]]:
    kept = [c for c in plancontent.contracts_of(plan) if c.module.parent_id is None]
    needs = plancontent.needs_of(kept)
    return [(contract, needs[contract.pk]) for contract in kept]


def _specs(contracts: list[tuple[Contract, list[Any]]]) -> list[ModuleSpec]:
    return [plancontent.spec_of(contract, needs) for contract, needs in contracts]


def _is_merged(contract: Contract) -> bool:
    return contract.module.status == Module.Status.MERGED


def _plan(
    project: Project,
    plan: Plan,
    contracts: list[tuple[Contract, list[Any]]],
    specs: list[ModuleSpec],
    head: str,
) -> PlanFacts:
    checks = tuple((str(check["run"]), str(check["at"])) for check in plan.checks)
    key = (str(project.hub_path), head, tuple(specs), checks)
    # An approved plan's globs spoke of the commit that it began with; they are not judged again.
    problems = _problems(*key) if plan.status in OPEN else ()
    return PlanFacts(
        number=plan.number,
        status=plan.status,
        goal=plan.goal,
        specs=tuple(specs),
        briefless=tuple(c.module.slug for c, _ in contracts if not c.brief.strip()),
        merged=frozenset(c.module.slug for c, _ in contracts if _is_merged(c)),
        problems=problems,
        report=_report(tuple(specs), project.ceiling),
        files=_files(str(project.hub_path), head),
        checks=checks,
        policies=plan.policies,
        has_recordings=bool(plan.replay and plan.replay.get("recordings")),
        blocked_reason=plan.blocked_reason,
    )


# Pages ask at every change of a project, and most changes leave the plan as it is.


@lru_cache(maxsize=16)
def _files(hub: str, head: str) -> tuple[str, ...]:
    return tuple(Hub(Path(hub)).files(head)) if head else ()


@lru_cache(maxsize=16)
def _problems(
    hub: str, head: str, specs: tuple[ModuleSpec, ...], checks: tuple[tuple[str, str], ...]
) -> tuple[Problem, ...]:
    if not specs:
        return ()
    return tuple(graph.validate(specs, _files(hub, head), [run for run, _ in checks]))


@lru_cache(maxsize=16)
def _report(specs: tuple[ModuleSpec, ...], ceiling: int) -> graph.Report | None:
    try:
        return graph.why_not_more_parallel(specs, ceiling) if specs else None
    except (ValueError, KeyError):
        return None


# --- Checks --------------------------------------------------------------------------------------


def _measure(
    project: Project, plan: Plan | None, head: str, now: datetime
) -> tuple[MeasureFacts, str | None]:
    """What was measured, and what the team's repository said to it (None: never asked)."""
    newest = Measurement.objects.filter(project=project).order_by("-pk").first()
    rows = CheckResult.objects.filter(project=project, phase__in=["green", "merge"])
    longest = rows.order_by("-pk")[:500].values_list("command", "seconds")
    ran: dict[str, float] = {}
    for command, seconds in longest:
        ran[command] = max(seconds, ran.get(command, 0.0))
    if newest is None or plan is None:
        return MeasureFacts(ran=ran), None
    wanted = {measuring.start_commit(plan, head), plan.source_commit}
    status = measuring.status_of(newest, now)
    facts = MeasureFacts(
        status=status,
        rows=tuple(CheckFact(r["command"], r["kind"], r["seconds"]) for r in newest.rows),
        is_current=newest.commit in wanted,
        problem=newest.problem,
        ran=ran,
    )
    return facts, newest.source_problem if status == "ended" else None


def _source_problem(project: Project, measured: str | None) -> str | None:
    """A path is looked at now; a URL answers only a measuring, for a page must not wait for it."""
    try:
        source = sources.parse(project.source, settings.TUTTI_SOURCE_ROOTS)
    except GitError as error:
        return str(error)
    return "" if source.is_local and measured is None else measured


# --- Agents and limits ---------------------------------------------------------------------------


def _profiles(project: Project) -> list[Profile]:
    """Who plays each role: the project's profile, else the site's, else recorded runs."""
    rows = Profile.objects.filter(Q(project=project) | Q(project=None)).select_related("provider")
    # The project's own come last, and so stay.
    chosen = {row.role: row for row in sorted(rows, key=lambda row: row.project_id is not None)}
    return [
        chosen.get(role, Profile(role=role, backend="replay", model=DEFAULT_MODELS[role]))
        for role in Profile.Role
    ]


def _profile_fact(profile: Profile) -> ProfileFact:
    provider = profile.provider
    return ProfileFact(
        role=profile.role,
        backend=profile.backend,
        model=profile.model,
        is_chosen=profile.pk is not None,
        problem=_backend_problem(profile),
        provider=str(provider) if provider else "",
        breaker=provider.breaker if provider else "",
        wake_at=provider.wake_at if provider else None,
    )


def _backend_problem(profile: Profile) -> str:
    kind = KINDS.get(profile.backend)
    if kind is None:
        return f"there is no backend {profile.backend}."
    return kind.problem(profile.settings) or ""


def _prices() -> dict[str, Decimal]:
    rows = Price.objects.order_by("model").values_list("model", "output_per_million")[:1000]
    return dict(rows)


def _quotas(
    project: Project, plan: Plan | None, profiles: Iterable[Profile]
) -> Iterable[QuotaFact]:
    """The limits that a run of this project would count in."""
    providers = [profile.provider_id for profile in profiles if profile.provider_id]
    counts = Q(scope="site") | Q(project=project) | Q(provider__in=providers)
    if plan is not None and plan.decided_by_id:
        counts |= Q(user=plan.decided_by_id)
    rows = Quota.objects.filter(counts).select_related("provider").order_by("pk")
    for row in rows:
        yield QuotaFact(
            scope=row.scope,
            measure=row.measure,
            period=row.period,
            limit=row.limit,
            used=row.spent + row.reserved,
            provider=str(row.provider) if row.provider else "",
            pk=row.pk,
        )


def _hosts() -> Iterable[HostFact]:
    for host in Host.objects.order_by("name")[:200]:
        yield HostFact(
            name=host.name,
            seen_at=host.seen_at,
            memory_available_mb=host.memory_available_mb,
            disk_free_mb=host.disk_free_mb,
            capacity=host.capacity,
            capacity_reason=host.capacity_reason,
            sandbox=host.sandbox,
            draining=host.draining,
        )


def _queued(project: Project) -> tuple[int, datetime | None]:
    rows = Run.objects.filter(project=project, status=Run.Status.QUEUED)
    found = rows.aggregate(count=Count("pk"), since=Min("queued_at"))
    return found["count"], found["since"]


# --- People, texts and copies --------------------------------------------------------------------


def _people(project: Project) -> Iterable[PersonFact]:
    rows = project.memberships.filter(user__is_active=True).select_related("user")
    for row in rows.order_by("pk"):
        yield PersonFact(row.user.get_username(), row.role, row.user.last_login is not None)


def _texts(project: Project, plan: Plan | None) -> dict[str, str]:
    """Scope to the text in force, as `instructions.standing` puts them together."""
    rows = Instruction.objects.filter(Q(project=project) | Q(project=None))
    newest = rows.order_by("scope", "project", "role", "-version").distinct(
        "scope", "project", "role"
    )
    texts = {"site": instructions.SITE_DEFAULT}
    for row in newest:
        where = "site" if row.project_id is None else "project"
        texts[where if not row.role else f"{row.role} of the {where}"] = row.text
    return {**texts, "plan": plan.instructions if plan else ""}


def _sent(project: Project) -> str | None:
    runs = Run.objects.filter(project=project).exclude(role="").exclude(assignments=[])
    sent = runs.order_by("-pk").values_list("assignments", flat=True).first()
    return str(sent[-1].get("text", "")) if sent else None


def _published(project: Project) -> datetime | None:
    rows = Event.objects.filter(topic=project.topic, kind="project.published")
    return rows.order_by("-number").values_list("at", flat=True).first()


def _dismissed(plan: Plan) -> frozenset[frozenset[str]]:
    """Groups that people decided on in this plan: whatever suggests them again is settled."""
    kinds = [coupling.APPLIED, coupling.DISMISSED]
    rows = Event.objects.filter(topic=topic_of(plan), kind__in=kinds)
    decided = rows.order_by("-number").values_list("data", flat=True)[:500]
    # What was put into a lane and is suggested again was taken apart by a person.
    return frozenset(frozenset(data.get("modules", [])) for data in decided)


def _stamp() -> datetime | None:
    """When the file that a backup touches was written last."""
    path = settings.TUTTI_BACKUP_STAMP
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC) if path else None
    except OSError:
        return None
