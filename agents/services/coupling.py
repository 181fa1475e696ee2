"""Modules that belong into one lane: found with evidence, put there by policy or by a person."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import redis
from django.contrib.auth.models import User
from django.core.cache import cache

from agents import evidence, sandbox
from agents.checkouts import clean_checkout
from agents.checkslots import check_slot
from projects import graph, live, plancontent
from projects.coupling import Suggestion
from projects.drafts import draft_module
from projects.hub import Hub, integration_ref
from projects.models import Event, Plan
from projects.services.errors import Refused
from projects.services.plans import contract_save, topic_of
from projects.specs import ModuleSpec
from projects.text import clean_text

logger = logging.getLogger(__name__)

APPLIED = "plan.coupling_applied"
DISMISSED = "plan.coupling_dismissed"
KEPT_SECONDS = 24 * 3600
#: How long somebody who looks at the page waits for one of the machine's check slots.
SLOT_SECONDS = 30.0
LANE_LENGTH = 80


@dataclass(frozen=True)
class Found:
    """What the evidence at a commit suggests for a plan; `missing` says why a part of it is not."""

    commit: str
    suggestions: list[Suggestion] = field(default_factory=list)
    missing: str = ""


def coupling_found(plan: Plan) -> Found:
    """Suggestions for the plan as it stands; kept for a day, for they cost seconds to find."""
    hub = Hub(plan.project.hub_path)
    commit = hub.head(integration_ref())
    if commit is None:
        return Found("", missing="The repository has no commit yet.")
    specs = plancontent.plan_specs(plan)
    key = _key(plan, commit, specs)
    try:
        if isinstance(kept := cache.get(key), Found):
            return kept
    except redis.RedisError as error:
        logger.warning("Coupling is looked for anew each time: %s", error)
    found = _look(plan, specs, hub, commit)
    # What a busy machine could not say may be said by the next one who asks.
    if not found.missing:
        try:
            cache.set(key, found, KEPT_SECONDS)
        except redis.RedisError as error:
            logger.warning("What coupling was found is not kept: %s", error)
    return found


def coupling_kept(plan: Plan, commit: str, specs: Sequence[ModuleSpec]) -> Found | None:
    """What was found for the plan as it stands, when somebody looked within a day; else None."""
    try:
        kept = cache.get(_key(plan, commit, specs))
    except redis.RedisError as error:
        logger.warning("What coupling was found is not known: %s", error)
        return None
    return kept if isinstance(kept, Found) else None


def _key(plan: Plan, commit: str, specs: Sequence[ModuleSpec]) -> str:
    # A database that was made anew counts its plans and versions from 1 again.
    text = repr((plan.pk, plan.version, commit, list(specs)))
    return "coupling." + hashlib.sha256(text.encode()).hexdigest()


def _look(plan: Plan, specs: Sequence[ModuleSpec], hub: Hub, commit: str) -> Found:
    deadline = time.monotonic() + SLOT_SECONDS

    def late() -> str | None:
        return "late" if time.monotonic() > deadline else None

    environment = Path(plan.project.environment) if plan.project.environment else None
    with check_slot(late):
        if late():
            return Found(commit, missing="The machine is busy with checks; look again in a moment.")
        with clean_checkout(hub, commit, "coupling") as tree:
            found, missing = evidence.suggestions(
                specs, hub, commit, tree, sandbox.Runner(), environment
            )
    return Found(commit, found, missing)


def coupling_apply(plan: Plan, by: User) -> list[Suggestion]:
    """Put into lanes what the evidence says for sure, when the plan's policy asks for it.

    Each group is put once a plan, so that what a person took apart again stays apart, and only
    where the plan gets no new problem by it. Returns what was put.
    """
    if plan.policies.get("coupling") != "apply" or plan.status != Plan.Status.DRAFT:
        return []
    sure = [one for one in coupling_found(plan).suggestions if one.strength == "apply"]
    put: list[Suggestion] = []
    with live.change(plan.project):
        before = {frozenset(event.data["modules"]) for event in applied(plan)}
        for one in sure:
            if frozenset(one.modules) not in before and _fits(plan, one.modules):
                _put(plan, one, by, how="by policy")
                put.append(one)
    return put


def coupling_put(plan: Plan, modules: Sequence[str], by: User) -> str:
    """Put suggested modules of a draft into one lane, as a person decides; returns its name.

    Raises Refused when nothing suggests exactly these modules any more.
    """
    if plan.status != Plan.Status.DRAFT:
        raise Refused(f"The plan is {plan.status}; lanes are changed in a draft.")
    suggested = coupling_found(plan).suggestions
    one = next((s for s in suggested if set(s.modules) == set(modules)), None)
    if one is None or len(one.modules) < 2:
        raise Refused("The plan changed, and this is no longer suggested. Look again.")
    with live.change(plan.project):
        return _put(plan, one, by, how="by a person")


def coupling_dismiss(plan: Plan, modules: Sequence[str], by: User, reason: str) -> None:
    """Note that suggested modules may run at the same time all the same, and why.

    Raises Refused without a reason, or when nothing suggests exactly these modules any more.
    """
    if not (said := clean_text(reason, 2_000).strip()):
        raise Refused("Say why they may run at the same time, so that the record shows it.")
    suggested = coupling_found(plan).suggestions
    one = next((s for s in suggested if set(s.modules) == set(modules)), None)
    if one is None or len(one.modules) < 2:
        raise Refused("The plan changed, and this is no longer suggested. Look again.")
    with live.change(plan.project) as change:
        change.event(
            DISMISSED,
            topic_of(plan),
            live.Actor.person(by),
            modules=list(one.modules),
            reason=said,
            evidence=list(one.evidence),
        )


def dismissed(plan: Plan) -> list[Event]:
    """What people decided not to couple in this plan, oldest first."""
    rows = Event.objects.filter(topic=topic_of(plan), kind=DISMISSED)
    return list(rows.order_by("number")[:100])


def applied(plan: Plan) -> list[Event]:
    """What was put into lanes in this plan on such evidence, oldest first."""
    rows = Event.objects.filter(project_id=plan.project_id, topic=topic_of(plan), kind=APPLIED)
    return list(rows.order_by("number")[:100])


def _put(plan: Plan, one: Suggestion, by: User, *, how: str) -> str:
    lane, members = _lane(plan, one.modules)
    for slug in members:
        fields = draft_module(plan, slug)
        if fields is not None and fields["lane"] != lane:
            contract_save(plan, slug, by, {**fields, "lane": lane})
    with live.change(plan.project) as change:
        change.event(
            APPLIED,
            topic_of(plan),
            live.Actor.person(by),
            modules=list(one.modules),
            lane=lane,
            reason=one.reason,
            evidence=list(one.evidence),
            how=how,
        )
    return lane


def _lane(plan: Plan, modules: Sequence[str]) -> tuple[str, list[str]]:
    """The lane for these modules, and all that go in: lanes that meet become one."""
    specs = plancontent.plan_specs(plan)
    taken = [spec.lane for spec in specs if spec.lane and spec.slug in modules]
    lane = taken[0] if taken else f"coupled-{modules[0]}"[:LANE_LENGTH]
    return lane, [s.slug for s in specs if s.slug in modules or (s.lane and s.lane in taken)]


def _fits(plan: Plan, modules: Sequence[str]) -> bool:
    """Whether one lane for these modules leaves the plan without a problem it had not before."""
    specs = plancontent.plan_specs(plan)
    files = plancontent.tracked_files(plan)
    lane, members = _lane(plan, modules)
    changed = [replace(spec, lane=lane) if spec.slug in members else spec for spec in specs]
    return set(graph.validate(changed, files)) <= set(graph.validate(specs, files))
