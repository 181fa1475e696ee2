"""Read who would do what of a plan and what it would take, in a fixed number of queries.

Earlier runs of the whole site count where the project has too few of its own, as they do for the
amounts that claims reserve. Of these only a median and a number of runs leave here, the same for
everybody: no name of a project, and nothing that depends on which projects the reader may see,
because a page's fragments and a project's budget are one for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from agents import confinement, estimates, quotas, usage
from agents.estimates import KINDS, Past, Row, Source, Step, Total, Wanted
from agents.models import Host, Price, Profile, Quota, Run
from agents.services import budgets, walls
from agents.services.fleet import FRESH_SECONDS
from agents.services.profiles import ROLE_OF, profiles_for
from projects import plancontent
from projects.models import Contract, Dependency, Module, Plan, Project
from projects.planpage import OPEN
from projects.services.plans import CONTENT

#: Runs that used what they needed. What a provider, Tutti or a person cut off tells too little.
FINISHED = Q(status=Run.Status.SUCCEEDED) | Q(
    status=Run.Status.FAILED, reason_owner=Run.Owner.AGENT
)

DEAREST = "What has no price counts at the dearest one, as it does for claims."


@dataclass(frozen=True)
class Player:
    """Who plays a role, where that was decided, and in which confinement it works.

    `network` is None for a model that the server asks itself: it works in no sandbox of its own.
    """

    role: str
    backend: str
    agent: str
    model: str
    provider: str
    chosen_by: str
    network: bool | None

    @property
    def does(self) -> str:
        return {"planner": "tests", "executor": "build"}.get(self.role, "review, fixes")

    @property
    def sandbox(self) -> str:
        if self.network is None:
            return "asked by a worker, edits in the sandbox"
        return f"in the sandbox, network {'on' if self.network else 'off'}"


@dataclass(frozen=True)
class PlanEstimate:
    """What a plan would still take; `warnings` are sentences, one for each quota too small."""

    plan: Plan
    players: Sequence[Player]
    rows: Sequence[Row]
    total: Total
    warnings: Sequence[str]
    quotas: int
    unconfined: Sequence[str]
    currency: str

    @property
    def modules(self) -> int:
        return sum(bool(row.steps) for row in self.rows)

    @property
    def sentence(self) -> str:
        return estimates.say_total(self.total, self.modules, self.currency)


def estimate_of(plan: Plan) -> PlanEstimate:
    """Who would do what of a plan, and what each module still needs of tokens and money."""
    project, now = plan.project, timezone.now()
    profiles = profiles_for(project)
    sources = _sources(project, profiles)
    rows = estimates.rows_of(_wanted(plan), sources)
    steps = [step for row in rows for step in row.steps.values()]
    found = _budgets(project)
    return PlanEstimate(
        plan=plan,
        players=[_player(profiles[role]) for role in dict.fromkeys(ROLE_OF[k] for k in KINDS)],
        rows=rows,
        total=estimates.total_of(steps),
        warnings=_warnings(plan, found, steps, now),
        quotas=len(found),
        unconfined=_unconfined(now),
        currency=settings.TUTTI_CURRENCY,
    )


# --- Who -----------------------------------------------------------------------------------------


def _player(profile: Profile) -> Player:
    chosen_by = "project" if profile.project_id else "site" if profile.pk else ""
    network = None if profile.backend == "llm" else bool(profile.settings.get("network", False))
    return Player(
        role=profile.role,
        backend=profile.backend,
        agent=str(profile.settings.get("agent") or ""),
        model=profile.model,
        provider=str(profile.provider) if profile.provider else "",
        chosen_by=chosen_by,
        network=network,
    )


def _unconfined(now: datetime) -> list[str]:
    """Machines at work that cannot confine what they run."""
    rows = Host.objects.filter(sandbox=confinement.UNCONFINED, draining=False)
    names = rows.order_by("name").values_list("name", "seen_at")
    return [n for n, seen in names if seen and (now - seen).total_seconds() <= FRESH_SECONDS]


# --- What ----------------------------------------------------------------------------------------


def _wanted(plan: Plan) -> list[Wanted]:
    """The plan's modules with the runs that they still need; parts only once they exist."""
    is_open = plan.status in OPEN
    contracts = [
        contract
        for contract in plancontent.contracts_of(plan)
        if contract.module.parent_id is None or not is_open
    ]
    changed = _changed(contracts) if is_open else set()
    return [_want(contract, contract.pk in changed) for contract in contracts]


def _want(contract: Contract, is_changed: bool) -> Wanted:
    module = contract.module
    status = Module.Status.DRAFT.value if is_changed else module.status
    kinds = estimates.kinds_left(
        status, resume_to=module.resume_to, tests_given=contract.tests_given
    )
    note = ""
    if not kinds:
        note = status
    elif contract.tests_given:
        note = "tests given"
    return Wanted(module.slug, contract.estimate_seconds, kinds, note)


def _changed(contracts: Sequence[Contract]) -> set[int]:
    """Contracts of a plan that is not approved by which their modules are built anew."""
    keys = [c.module.contract_id for c in contracts if c.module.contract_id]
    current = Contract.objects.in_bulk(keys)
    needs = plancontent.needs_of([*contracts, *current.values()])

    def is_same(contract: Contract) -> bool:
        before = current.get(contract.module.contract_id or 0)
        if before is None or contract.module.status == Module.Status.CANCELLED:
            return False
        same = all(getattr(before, name) == getattr(contract, name) for name in CONTENT)
        return same and _pairs(needs[before.pk]) == _pairs(needs[contract.pk])

    return {contract.pk for contract in contracts if not is_same(contract)}


def _pairs(needs: Sequence[Dependency]) -> set[tuple[str, str]]:
    return {(need.needs.slug, need.kind) for need in needs}


# --- By what -------------------------------------------------------------------------------------


def _sources(project: Project, profiles: dict[str, Profile]) -> dict[str, Source]:
    prices, times = list(Price.objects.all()), _times(project)
    return {kind: _source(project, profiles[ROLE_OF[kind]], kind, prices, times) for kind in KINDS}


def _source(
    project: Project,
    profile: Profile,
    kind: str,
    prices: Sequence[Price],
    times: dict[str, tuple[int, int]],
) -> Source:
    runs = budgets.similar(profile, kind).filter(FINISHED)
    own = _past(runs.filter(project=project))
    # Fixes are counted by the modules that were reviewed: most need none.
    modules = times.get("review" if kind == "fix" else kind, (0, 0))[1]
    rates, is_priced = budgets.pricing(prices, profile)
    source = Source(
        kind=kind,
        role=profile.role,
        who=profile.model or f"{profile.backend} without a named model",
        provider_id=profile.provider_id,
        own=own,
        runs=times.get(kind, (0, 0))[0],
        modules=modules,
        rates=rates,
        is_priced=is_priced,
        is_replay=profile.backend == "replay",
    )
    return source if len(own) >= quotas.SAMPLES else replace(source, site=_past(runs))


def _past(runs: QuerySet[Run]) -> list[Past]:
    rows = runs.values_list(
        "input_tokens", "output_tokens", "module__contract__estimate_seconds", "cost",
        "usage_quality",
    )  # fmt: skip
    return [
        Past(tokens_in or 0, tokens_out or 0, size, cost, quality == "last_step")
        for tokens_in, tokens_out, size, cost, quality in rows[: budgets.TURNS]
    ]


def _times(project: Project) -> dict[str, tuple[int, int]]:
    """Kind to its finished runs, and to the merged modules of the project that they were for."""
    rows = Run.objects.filter(
        FINISHED, project=project, kind__in=KINDS, needs_slot=True,
        module__status=Module.Status.MERGED,
    )  # fmt: skip
    found: dict[str, tuple[int, int]] = {}
    # A module that a later plan had built anew counts once for each of the plans.
    groups = rows.values("kind", "plan").order_by()
    for group in groups.annotate(runs=Count("pk"), modules=Count("module", distinct=True)):
        runs, modules = found.get(group["kind"], (0, 0))
        found[group["kind"]] = (runs + group["runs"], modules + group["modules"])
    return found


# --- Is it enough --------------------------------------------------------------------------------


def _budgets(project: Project) -> list[Quota]:
    rows = budgets.touching(project).exclude(measure=Quota.Measure.PARALLEL)
    found = list(rows.select_related("provider", "user"))
    if found:
        usage.let_go(found)
    return found


def _warnings(
    plan: Plan, found: Sequence[Quota], steps: Sequence[Step], now: datetime
) -> list[str]:
    """A sentence for each quota that leaves less than the plan needs of it."""
    # Whose quota counts is known once somebody approved.
    user = plan.decided_by_id if plan.status == Plan.Status.APPROVED else None
    said = []
    for quota in found:
        mine = [
            step
            for step in steps
            if budgets.applying([quota], plan.project_id, step.provider_id, user)
        ]
        rule = walls.rule_of(quota)
        need = sum((_counted(step, quota) for step in mine), Decimal(0))
        if quota.measure == Quota.Measure.MONEY and not need and any(s.tokens for s in mine):
            said.append(quotas.unpriced(rule))
        elif sentence := estimates.shortfall(rule, walls.use_of(quota), need, now):
            is_unpriced = quota.measure == Quota.Measure.MONEY and any(
                s.money is None for s in mine
            )
            said.append(f"{sentence} {DEAREST}" if is_unpriced else sentence)
    return said


def _counted(step: Step, quota: Quota) -> Decimal:
    return Decimal(step.tokens) if quota.measure == Quota.Measure.TOKENS else step.counted
