"""Plans: edited as drafts, submitted, approved exactly as they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import F, Max
from django.urls import reverse
from django.utils import timezone
from pydantic import ValidationError

from projects import graph, live, plancontent, planfile
from projects.hub import integration_ref
from projects.lifecycle import OPEN, fresh_start, needs_left, transition
from projects.models import Contract, Dependency, Module, Plan, Project, Role
from projects.order import components
from projects.services.attention import attention_close, attention_open
from projects.services.errors import Problem, Refused, Stale, problems_of
from projects.services.projects import hub_of, part_checked
from projects.services.waiting import lanes_order, waited_for, waits
from projects.text import clean_text

#: Fields of a contract that make it another contract when they differ.
CONTENT = (
    "title", "brief", "owns", "tests", "tests_given", "provides", "checks", "lane", "priority",
    "estimate_seconds",
)  # fmt: skip


def topic_of(plan: Plan) -> str:
    return f"p/{plan.project_id}/plan/{plan.pk}"


def open_plan(project: Project) -> Plan | None:
    return Plan.objects.filter(
        project=project, status__in=[Plan.Status.DRAFT, Plan.Status.SUBMITTED]
    ).first()


def plan_draft(project: Project, by: User) -> Plan:
    """The open draft; when there is none, a new one that begins as what is in force."""
    with live.change(project) as change:
        if plan := open_plan(project):
            return plan
        last = Plan.objects.filter(project=project).order_by("-number").first()
        plan = Plan.objects.create(
            project=project,
            number=(last.number if last else 0) + 1,
            goal=last.goal if last else change.project.goal,
            instructions=last.instructions if last else "",
            checks=last.checks if last else [],
            policies=change.project.policies,
            replay=last.replay if last else None,
            created_by=by,
        )
        if last:
            for values in plancontent.plan_dict(last)["modules"]:
                _contract_create(plan, values)
            _needs_create(plan, plancontent.plan_dict(last)["modules"])
        change.event("plan.drafted", topic_of(plan), live.Actor.person(by), number=plan.number)
    return plan


def plan_import(project: Project, file: planfile.PlanFile, by: User) -> Plan:
    """Replace the open draft by a plan file; what the draft held before is gone."""
    values = file.model_dump(mode="json")
    with live.change(project) as change:
        plan = plan_draft(project, by)
        plan_fill(plan, values)
        change.event(
            "plan.imported",
            topic_of(plan),
            live.Actor.person(by),
            number=plan.number,
            modules=[module["slug"] for module in values["modules"]],
        )
    return plan


def plan_fill(plan: Plan, values: dict[str, Any]) -> None:
    """Make a draft what a plan file says, inside an open change; the caller writes the event."""
    _must_be_draft(plan)
    head = values["project"]
    plan.goal = clean_text(head.get("goal") or "")
    plan.instructions = clean_text(head.get("instructions") or "")
    plan.checks = head["checks"]
    plan.policies = head["policies"]
    plan.replay = head.get("replay")
    plan.version += 1
    plan.save()
    Dependency.objects.filter(contract__plan=plan).delete()
    dropped = Contract.objects.filter(plan=plan).values_list("module_id", flat=True)
    modules = list(dropped)
    Contract.objects.filter(plan=plan).delete()
    for module in values["modules"]:
        _contract_create(plan, module)
    _needs_create(plan, values["modules"])
    _forget_drafts(modules)


def plan_set(plan: Plan, by: User, **values: Any) -> None:
    """Change goal, checks, instructions or policies of a draft.

    Raises Refused with a problem for each field that the plan file would not take.
    """
    values = part_checked(values)
    with live.change(plan.project) as change:
        _touch(plan)
        Plan.objects.filter(pk=plan.pk).update(**values)
        change.event("plan.edited", topic_of(plan), live.Actor.person(by), fields=sorted(values))


def contract_save(
    plan: Plan, slug: str, by: User, values: dict[str, Any], *, create: bool = False
) -> None:
    """Add or change one module of a draft; `values` are the plan file's fields of a module.

    Raises Refused with a problem for each field that the plan file would not take.
    """
    try:
        part = planfile.ModulePart.model_validate({**values, "slug": slug})
    except ValidationError as error:
        problems = problems_of(error, slug)
        raise Refused("The module can't be saved like this.", problems) from error
    row = part.model_dump(mode="json")
    with live.change(plan.project) as change:
        _touch(plan)
        mine = Contract.objects.filter(plan=plan, module__slug=slug)
        if create and mine.exists():
            message = f"There is a module {slug} already; choose another name."
            raise Refused(message, [Problem(slug, "slug", message)])
        if not create and not mine.exists():
            raise Stale(f"The module {slug} is no longer in this plan; load the page again.")
        known = set(Contract.objects.filter(plan=plan).values_list("module__slug", flat=True))
        for need in row["needs"]:
            if need["module"] not in known:
                message = f"There is no module {need['module']} in this plan."
                raise Refused(message, [Problem(slug, "needs", message)])
        position = mine.values_list("position", flat=True).first()
        mine.delete()
        _contract_create(plan, row, position)
        _needs_create(plan, [row])
        change.event("plan.module_saved", topic_of(plan), live.Actor.person(by), slug=slug)


def contract_remove(plan: Plan, slug: str, by: User) -> None:
    """Take a module out of a draft; a module that is merged already stays in the repository."""
    with live.change(plan.project) as change:
        _touch(plan)
        users = Dependency.objects.filter(contract__plan=plan, needs__slug=slug)
        if users.exists():
            names = ", ".join(sorted({row.contract.module.slug for row in users}))
            raise Refused(f"{names} need {slug}. Change what they need first.")
        mine = Contract.objects.filter(plan=plan, module__slug=slug)
        modules = list(mine.values_list("module_id", flat=True))
        mine.delete()
        _forget_drafts(modules)
        change.event("plan.module_removed", topic_of(plan), live.Actor.person(by), slug=slug)


def plan_submit(plan: Plan, by: User) -> None:
    """Put a draft up for approval. Raises Refused with every problem that it still has."""
    problems = plancontent.plan_problems(plan)
    if problems:
        raise Refused(
            "The plan can't be submitted yet.",
            [Problem(p.module or "", p.field, p.message) for p in problems],
        )
    head = hub_of(plan.project).head(integration_ref())
    with live.change(plan.project) as change:
        fresh = Plan.objects.get(pk=plan.pk)
        fresh.source_commit = str(head)
        updated = Plan.objects.filter(
            pk=plan.pk, status=Plan.Status.DRAFT, version=plan.version
        ).update(
            status=Plan.Status.SUBMITTED,
            source_commit=fresh.source_commit,
            digest=plancontent.plan_digest(fresh),
            submitted_by=by,
            submitted_at=timezone.now(),
            # Whoever submits waits for no proposal.
            proposal_at=None,
        )
        if not updated:
            raise Stale("The plan changed since you opened it; load the page again.")
        plan.refresh_from_db()
        change.event(
            "plan.submitted",
            topic_of(plan),
            live.Actor.person(by),
            number=plan.number,
            digest=plan.digest,
        )
        by_person = live.Actor.person(by)
        attention_close(plan.project, topic=topic_of(plan), by=by_person, kind="proposal")
        attention_open(
            plan.project,
            topic=topic_of(plan),
            kind="plan",
            title=f"Plan {plan.number} of {plan.project.name} waits for approval",
            url=reverse("projects:plan", args=[plan.project.slug]),
            role=Role.MAINTAINER,
        )


def plan_withdraw(plan: Plan, by: User) -> None:
    """Take a submitted plan back to a draft, to edit it."""
    _decide(plan, Plan.Status.DRAFT, "plan.withdrawn", by)


def plan_reject(plan: Plan, by: User, reason: str) -> None:
    """Refuse a submitted plan; it becomes a draft again, with the reason in the record."""
    if not reason.strip():
        raise Refused("Say why the plan is rejected, so that the team can mend it.")
    _decide(plan, Plan.Status.DRAFT, "plan.rejected", by, reason=clean_text(reason))


def plan_approve(plan: Plan, by: User, digest: str, *, how: str = "") -> None:
    """Approve exactly the plan with this digest and let its modules start.

    Approving twice is once. Raises Stale when the plan is no longer the one that was read.
    """
    with live.change(plan.project) as change:
        current = Plan.objects.select_for_update().get(pk=plan.pk)
        if current.status == Plan.Status.APPROVED and current.approved_digest == digest:
            return
        if current.status != Plan.Status.SUBMITTED:
            raise Stale(f"The plan is {current.status}; only a submitted plan can be approved.")
        if digest != current.digest or plancontent.plan_digest(current) != digest:
            raise Stale("The plan changed since you opened it. Read the difference and decide.")
        for before in Plan.objects.filter(project=plan.project, status=Plan.Status.APPROVED):
            Plan.objects.filter(pk=before.pk).update(status=Plan.Status.SUPERSEDED)
            attention_close(plan.project, topic=topic_of(before), by=live.Actor.person(by))
        current.status = Plan.Status.APPROVED
        current.approved_digest = digest
        current.decided_by, current.decided_at = by, timezone.now()
        current.save()
        change.event(
            "plan.approved",
            topic_of(plan),
            live.Actor.person(by),
            number=plan.number,
            digest=digest,
            how=how,
            decided_at=current.decided_at.isoformat(),
            ceiling=change.project.ceiling,
            checks_at_once=settings.TUTTI_CHECKS_PER_HOST,
            modules=plancontent.outline_of(current),
        )
        _put_in_force(current, live.Actor.person(by))
        attention_close(plan.project, topic=topic_of(plan), by=live.Actor.person(by))
    plan.refresh_from_db()


def plan_retry(plan: Plan, by: User) -> None:
    """Try again what blocked the plan as a whole (skeleton, checks at the end)."""
    with live.change(plan.project) as change:
        if Plan.objects.filter(pk=plan.pk).exclude(blocked_reason="").update(blocked_reason=""):
            change.event("plan.retried", topic_of(plan), live.Actor.person(by))
            attention_close(plan.project, topic=topic_of(plan), by=live.Actor.person(by))


def plan_prepared(plan: Plan, commit: str, by: live.Actor) -> None:
    """The skeleton is on the integration branch: modules may start."""
    with live.change(plan.project_id) as change:
        updated = Plan.objects.filter(pk=plan.pk, prepared_at__isnull=True).update(
            base_commit=commit, prepared_at=timezone.now()
        )
        if updated:
            change.event("plan.prepared", topic_of(plan), by, commit=commit)


def plan_blocked(plan: Plan, reason: str, by: live.Actor) -> None:
    """Stop a plan that can't go on as a whole, and ask a maintainer."""
    with live.change(plan.project_id) as change:
        Plan.objects.filter(pk=plan.pk).update(blocked_reason=reason)
        change.event("plan.blocked", topic_of(plan), by, reason=reason)
        attention_open(
            plan.project,
            topic=topic_of(plan),
            kind="blocked",
            title=f"Plan {plan.number} can't go on",
            detail=reason,
            url=reverse("agents:board", args=[plan.project.slug]),
            role=Role.MAINTAINER,
        )


def plan_finished(plan: Plan, by: live.Actor) -> None:
    with live.change(plan.project_id) as change:
        now = timezone.now()
        if Plan.objects.filter(pk=plan.pk, finished_at__isnull=True).update(finished_at=now):
            change.event(
                "plan.finished",
                topic_of(plan),
                by,
                number=plan.number,
                finished_at=now.isoformat(),
            )


def _decide(plan: Plan, status: str, kind: str, by: User, **data: Any) -> None:
    with live.change(plan.project) as change:
        updated = Plan.objects.filter(pk=plan.pk, status=Plan.Status.SUBMITTED).update(
            status=status, version=F("version") + 1, decided_by=by, decided_at=timezone.now()
        )
        if not updated:
            raise Stale("Somebody else decided first; load the page again.")
        change.event(kind, topic_of(plan), live.Actor.person(by), number=plan.number, **data)
        attention_close(plan.project, topic=topic_of(plan), by=live.Actor.person(by))
    plan.refresh_from_db()


def _put_in_force(plan: Plan, by: live.Actor) -> None:
    """Give each module its contract, lane, counters and path, and let the new ones wait."""
    contracts = plancontent.contracts_of(plan)
    needs = plancontent.needs_of(contracts)
    specs = [plancontent.spec_of(contract, needs[contract.pk]) for contract in contracts]
    lanes = graph.lanes(specs)
    lengths = graph.path_lengths(specs)
    gated: dict[Module, Contract] = {}
    later: set[Module] = set()
    for contract in contracts:
        module = contract.module
        values: dict[str, Any] = {"plan_id": plan.pk, "path_length": lengths[module.slug]}
        is_waiting = module.status == Module.Status.WAITING
        if module.contract and _same_content(module.contract, contract, needs[contract.pk]):
            # What another plan wanted of it meanwhile is wanted no more.
            values["next_contract_id"] = None
            if is_waiting:
                # Others may share its lane now, which decides what it waits for.
                values["lane"] = lanes.get(module.slug) or module.lane
                gated[module] = module.contract
            _update(module, **values)
            continue
        gated[module] = contract
        values |= {"title": contract.title, "priority": contract.priority}
        values["next_contract_id"] = None
        if module.status in OPEN and not is_waiting:
            # It goes on under the contract that it started with.
            later.add(module)
            _update(module, **values | {"next_contract_id": contract.pk})
            continue
        values |= {"contract_id": contract.pk, "lane": lanes.get(module.slug, "")}
        if is_waiting:
            _update(module, **values, **fresh_start())
        else:
            transition(module, Module.Status.WAITING, by=by, **values, **fresh_start())
    _gate(plan, gated, graph.counters(specs, lanes))
    now = {module: contract.pk for module, contract in gated.items() if module not in later}
    left = needs_left(now.values())
    for module, pk in now.items():
        _update(module, **left[pk])
    _cancel_dropped(plan, {contract.module_id for contract in contracts}, by)
    _lanes_at_work(plan, lanes)
    lanes_order(plan.project_id)
    _refuse_knots(plan)


def _refuse_knots(plan: Plan) -> None:
    """Modules at work keep what they wait for, which the plan's own order says nothing about.

    Raises Refused, and the plan is not approved, where some would wait for each other for ever.
    """
    if knots := components(waits(plan.project_id)):
        slugs = Module.objects.filter(pk__in=knots[0]).order_by("pk").values_list("slug", flat=True)
        raise Refused(
            f"With this plan {', '.join(slugs)} would wait for each other: those at work still "
            "wait for what the plan before says. Withdraw it and change their needs, or approve "
            "it when they are merged."
        )


def _gate(plan: Plan, gated: dict[Module, Contract], counters: dict[str, graph.Counters]) -> None:
    """Mark which needs of a module's contract hold up its start, and which its finish."""
    contracts = list(gated.values())
    keys = dict(Module.objects.filter(project=plan.project_id).values_list("slug", "pk"))
    needs = Dependency.objects.filter(contract__in=contracts)
    coupled = Dependency.Kind.COUPLED
    needs.filter(declared=False, kind=coupled).exclude(needs__slug__in=counters).delete()
    rows = {(need.contract_id, need.needs_id): need for need in needs}
    new = []
    for module, contract in gated.items():
        waits = counters[module.slug]
        for gate, slugs in (("start", waits.needs_to_start), ("finish", waits.needs_to_finish)):
            for slug in slugs:
                row = rows.get((contract.pk, keys[slug]))
                if row is None:
                    row = Dependency(contract=contract, needs_id=keys[slug], kind=coupled,
                                     declared=False)  # fmt: skip
                    new.append(row)
                row.gates, row.satisfied_at = gate, None
    Dependency.objects.bulk_update(rows.values(), ["gates", "satisfied_at"], batch_size=500)
    Dependency.objects.bulk_create(new)


def _lanes_at_work(plan: Plan, lanes: dict[str, str]) -> None:
    """Put modules that are at work into the plan's lanes, so that the others of them wait.

    Where two of a lane are at work already, or one waits for another of its lane, it is too late:
    such a module stays as it is until it is merged.
    """
    edges = waits(plan.project_id)
    rows = Module.objects.filter(project_id=plan.project_id, status__in=Module.IN_LANE)
    for module in rows.filter(slug__in=lanes).order_by("pk"):
        lane = lanes[module.slug]
        others = {slug for slug, other in lanes.items() if other == lane and slug != module.slug}
        needed = Module.objects.filter(pk__in=waited_for(module, edges), slug__in=others)
        if not needed.exists() and not rows.filter(lane=lane).exclude(pk=module.pk).exists():
            _update(module, lane=lane)


def _cancel_dropped(plan: Plan, kept: set[int], by: live.Actor) -> None:
    dropped = Module.objects.filter(project_id=plan.project_id, status__in=list(OPEN))
    for module in dropped.exclude(pk__in=kept).filter(parent__isnull=True):
        module_give_up(module, by, "The new plan drops it.")


def module_give_up(module: Module, by: live.Actor, reason: str) -> None:
    """Cancel a module with all its parts, and close what was asked about them."""
    transition(module, Module.Status.CANCELLED, by=by, reason=reason)
    attention_close(module.project, topic=module.topic, by=by, is_deep=True)
    for part in module.children.filter(status__in=list(OPEN)):
        module_give_up(part, by, f"{module.slug} was cancelled.")


def _same_content(
    current: Contract | None, contract: Contract, needs: Sequence[Dependency]
) -> bool:
    if current is None or current.module.status == Module.Status.CANCELLED:
        return False
    before = {(need.needs.slug, need.kind) for need in current.needs.filter(declared=True)}
    after = {(need.needs.slug, need.kind) for need in needs}
    same = all(getattr(current, name) == getattr(contract, name) for name in CONTENT)
    return same and before == after


def _update(module: Module, **values: Any) -> None:
    Module.objects.filter(pk=module.pk).update(version=F("version") + 1, **values)


def _contract_create(plan: Plan, values: dict[str, Any], position: int | None = None) -> Contract:
    module, _ = Module.objects.get_or_create(
        project=plan.project,
        slug=values["slug"],
        defaults={"plan": plan, "title": values.get("title") or values["slug"]},
    )
    return contract_row(plan, module, values, position)


def contract_row(
    plan: Plan, module: Module, values: dict[str, Any], position: int | None = None
) -> Contract:
    """Write one contract of a plan file's module as the module's next version."""
    tests = values.get("tests") or []
    given = isinstance(tests, dict) and bool(tests.get("given"))
    latest = Contract.objects.filter(module=module).aggregate(n=Max("version"))["n"] or 0
    if position is None:
        last = Contract.objects.filter(plan=plan).aggregate(n=Max("position"))["n"]
        position = 0 if last is None else last + 1
    return Contract.objects.create(
        module=module,
        plan=plan,
        version=latest + 1,
        title=clean_text(values.get("title") or values["slug"], 200),
        brief=clean_text(values.get("brief") or ""),
        owns=values.get("owns") or [],
        tests=tests["paths"] if isinstance(tests, dict) else tests,
        tests_given=given,
        provides=values.get("provides") or [],
        checks=values.get("checks") or [],
        lane=values.get("lane") or "",
        priority=values.get("priority") or 0,
        estimate_seconds=values.get("estimate_seconds"),
        position=position,
    )


def _needs_create(plan: Plan, modules: Sequence[dict[str, Any]]) -> None:
    contracts = {
        contract.module.slug: contract
        for contract in Contract.objects.filter(plan=plan).select_related("module")
    }
    for values in modules:
        for need in values.get("needs") or []:
            if need["module"] not in contracts:
                message = f"There is no module {need['module']} in this plan."
                raise Refused(message, [Problem(values["slug"], "needs", message)])
            Dependency.objects.create(
                contract=contracts[values["slug"]],
                needs=contracts[need["module"]].module,
                kind=need["kind"],
            )


def _forget_drafts(modules: list[int]) -> None:
    """Delete modules that never were in an approved plan and are in no draft any more."""
    Module.objects.filter(
        pk__in=modules, status=Module.Status.DRAFT, contracts__isnull=True
    ).delete()


def _must_be_draft(plan: Plan) -> None:
    if plan.status != Plan.Status.DRAFT:
        raise Stale(f"The plan is {plan.status}. Withdraw it before you change it.")


def _touch(plan: Plan) -> None:
    """Raise the version of a draft, so that pages opened before know that they are stale."""
    updated = Plan.objects.filter(pk=plan.pk, status=Plan.Status.DRAFT).update(
        version=F("version") + 1
    )
    if not updated:
        plan.refresh_from_db()
        _must_be_draft(plan)
    plan.version += 1
