"""An agent's answer that is no work: it splits, asks for a path, or says that it is coupled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from agents.models import Request, Run, Steer
from agents.services import runs
from agents.services.outcomes import needs_person_if_spent
from agents.work import Work
from projects import globs, graph, live, plancontent
from projects.lifecycle import OPEN, may_follow, transition
from projects.models import Module, Plan, Role
from projects.planfile import ModulePart
from projects.services.attention import attention_close, attention_open
from projects.services.errors import Refused
from projects.services.modules import (
    contract_amend,
    lane_join,
    merge_after,
    module_split,
)
from projects.services.waiting import waited_for, waits
from projects.specs import ModuleSpec, Need
from projects.text import clean_text
from reviews.services import Remark, findings_record

S = Module.Status
StartNext = Callable[[live.Change], Sequence[Run]]

#: Runs whose answer may split their module; tests are written for the whole or for its parts.
SPLITTING = (Run.Kind.BUILD, Run.Kind.FIX)
#: Keys of an answer that ask for something instead of ending the work.
ANSWERS = ("split", "exception", "coupled_with")


def answer(work: Work, start_next: StartNext) -> list[Run]:
    """Do what the answer asks when policy allows it, else park the run and ask a person."""
    result = work.run.result or {}
    if "split" in result and work.run.kind not in SPLITTING:
        return _refuse(work, "Only who builds a module may split it; write its tests.", start_next)
    if "split" in result:
        return _split(work, result["split"], start_next)
    if "exception" in result:
        return _exception(work, result["exception"], start_next)
    return _coupled(work, result, start_next)


def _split(work: Work, asked: Any, start_next: StartNext) -> list[Run]:
    children, problem = read_children(work.module, asked, work.plan)
    if problem:
        return _refuse(work, problem, start_next)
    allowed = split_allowed(work.module, children, work.plan)
    by = live.Actor.run(work.run.pk)
    if not allowed:
        names = ", ".join(child["slug"] for child in children)
        return _ask(
            work,
            Request.Kind.SPLIT,
            f"May {work.module.slug} split into {names}?",
            {"modules": children},
            start_next,
        )

    def then(change: live.Change) -> None:
        module = _still(work)
        if module:
            module_split(module, children, by)

    return runs.run_end(
        work.run,
        Run.Status.SUCCEEDED,
        reason="Split into parts.",
        reason_kind="split",
        then=then,
        start_next=start_next,
    )


def read_children(
    parent: Module, asked: Any, plan: Plan
) -> tuple[list[dict[str, Any]], str | None]:
    """The parts that an answer names, as plan file modules, or what is wrong with them."""
    raw = asked.get("modules") if isinstance(asked, dict) else None
    if not isinstance(raw, list) or not raw:
        return [], "The split names no modules."
    children = []
    for one in raw:
        try:
            children.append(ModulePart.model_validate(one).model_dump(mode="json"))
        except ValueError as error:
            return [], f"The split is not valid: {clean_text(str(error), 500)}"
    assert parent.contract is not None
    specs = [_spec(child, parent.slug) for child in children]
    slugs = {spec.slug for spec in specs}
    taken = Module.objects.filter(project=parent.project_id, slug__in=slugs)
    if known := sorted(taken.values_list("slug", flat=True)):
        return [], f"{', '.join(known)} exists already; give the parts other names."
    for spec in specs:
        for need in spec.needs:
            if need.module not in slugs:
                return [], (
                    f"{spec.slug}: needs: {need.module} is no part of this split; what lies outside"
                    f" of it, {parent.slug} needs, not its parts."
                )
    verdict = graph.check_split(
        plancontent.spec_of(parent.contract, list(parent.contract.needs.all())),
        specs,
        plan.policies.get("split") or {},
        depth_of(parent) + 1,
        others=plancontent.plan_specs(plan),
        tracked=plancontent.tracked_files(plan),
        lane=parent.lane,
    )
    return children, "; ".join(str(p) for p in verdict.problems) or None


def split_allowed(parent: Module, children: Sequence[dict[str, Any]], plan: Plan) -> bool:
    """Whether the split policy that people approved with the plan covers this split."""
    policy = plan.policies.get("split") or {}
    return depth_of(parent) < int(policy.get("depth", 0)) and len(children) <= int(
        policy.get("modules", 0)
    )


def depth_of(module: Module) -> int:
    depth, above = 0, module.parent
    while above is not None:
        depth, above = depth + 1, above.parent
    return depth


def _spec(child: dict[str, Any], parent: str) -> ModuleSpec:
    tests = child.get("tests") or []
    return ModuleSpec(
        slug=child["slug"],
        owns=tuple(child["owns"]),
        tests=tuple(tests["paths"] if isinstance(tests, dict) else tests),
        needs=tuple(Need(need["module"], need["kind"]) for need in child["needs"]),
        checks=tuple(child["checks"]),
        parent=parent,
    )


def _exception(work: Work, asked: Any, start_next: StartNext) -> list[Run]:
    paths = asked.get("paths") if isinstance(asked, dict) else None
    if not isinstance(paths, list) or not paths or not all(isinstance(p, str) for p in paths):
        return _refuse(work, "The exception names no paths.", start_next)
    for path in paths:
        if fault := globs.fault(path):
            return _refuse(work, f"{clean_text(path, 200)} {fault}.", start_next)
    reason = clean_text(str(asked.get("reason", "")), 2000)
    allowed = (work.plan.policies.get("exceptions") or {}).get("allow") or []
    by = live.Actor.run(work.run.pk)
    if not all(globs.matches(allowed, path) for path in paths):
        return _ask(
            work,
            Request.Kind.EXCEPTION,
            f"{work.module.slug} asks to change {', '.join(paths)}: {reason}",
            {"paths": paths, "reason": reason},
            start_next,
        )

    def then(change: live.Change) -> None:
        module = _still(work)
        if module:
            exception_grant(module, paths, by, f"Policy allows it. {reason}")

    return runs.run_end(
        work.run,
        Run.Status.PARKED,
        reason="An exception was granted by policy; the next run goes on.",
        reason_kind="exception",
        then=then,
        start_next=start_next,
    )


def exception_grant(module: Module, paths: Sequence[str], by: live.Actor, reason: str) -> None:
    """Let a module change further paths; it merges after the modules that own them.

    What a part changes comes to the branch with its parent, which then may change it, too.
    """
    contract_amend(module, paths, by, reason)
    if parent := module.parent:
        owned = parent.contract.owns if parent.contract else []
        if foreign := [path for path in paths if not globs.matches(owned, path)]:
            exception_grant(parent, foreign, by, reason)
    owners = []
    rows = Module.objects.filter(project_id=module.project_id).select_related("contract")
    for other in rows.exclude(pk=module.pk):
        owned = other.contract.owns if other.contract else []
        if any(globs.matches(owned, path) for path in paths):
            owners.append(other)
    module.refresh_from_db()
    merge_after(module, owners)


def _coupled(work: Work, result: dict[str, Any], start_next: StartNext) -> list[Run]:
    slugs = [str(slug) for slug in result.get("coupled_with") or []]
    known = Module.objects.filter(project_id=work.run.project_id, slug__in=slugs)
    if not slugs or known.count() != len(set(slugs)):
        return _refuse(work, "The answer names no module that exists.", start_next)
    reason = clean_text(str(result.get("reason", "")), 2000)
    return _ask(
        work,
        Request.Kind.COUPLED,
        f"{work.module.slug} says that it is coupled with {', '.join(slugs)}: {reason}",
        {"modules": slugs, "reason": reason},
        start_next,
    )


def _refuse(work: Work, problem: str, start_next: StartNext) -> list[Run]:
    """An answer that can't be taken is a finding for the next run, and counts as a failure."""

    def then(change: live.Change) -> None:
        module = _still(work)
        if module:
            batch = findings_record(module, [Remark("answer", problem)], run_topic=work.run.topic)
            module.open_findings, module.failures = batch, module.failures + 1
            module.save(update_fields=["open_findings", "failures"])
            needs_person_if_spent(module, work.plan.policies, problem)

    return runs.run_end(
        work.run,
        Run.Status.FAILED,
        reason=problem,
        reason_kind="answer",
        reason_owner=Run.Owner.AGENT,
        then=then,
        start_next=start_next,
    )


def _ask(
    work: Work, kind: str, question: str, data: dict[str, Any], start_next: StartNext
) -> list[Run]:
    """Park the run; the answer starts a new one. Nothing sits on a slot meanwhile."""

    def then(change: live.Change) -> None:
        module = _still(work)
        if module is None:
            return
        request = Request.objects.create(
            project_id=module.project_id,
            module=module,
            run=work.run,
            kind=kind,
            question=clean_text(question, 4000),
            data=data,
        )
        transition(module, S.NEEDS_PERSON, by=live.Actor.run(work.run.pk), reason=request.question)
        attention_open(
            module.project,
            topic=request.topic,
            kind=kind,
            title=request.question[:300],
            detail=str(data.get("reason", "")),
            url=reverse("agents:module", args=[module.project.slug, module.slug]),
            role=Role.MAINTAINER if kind != Request.Kind.COUPLED else Role.MEMBER,
        )
        change.event(
            "request.asked",
            module.topic,
            live.Actor.run(work.run.pk),
            what=kind,
            request=request.pk,
        )

    return runs.run_end(
        work.run,
        Run.Status.PARKED,
        reason=question,
        reason_kind=kind,
        then=then,
        start_next=start_next,
    )


def park(work: Work, asked: QuerySet[Request], start_next: StartNext) -> list[Run]:
    """End a run whose agent waits for people, with the work that it did; the answer goes on."""
    head, by = work.run.head_commit, live.Actor.run(work.run.pk)

    def then(change: live.Change) -> None:
        module = _still(work)
        if module is None:
            return
        # Nobody answers while the project is locked.
        if reason := "\n".join(asked.all().values_list("question", flat=True))[:4000]:
            transition(module, S.NEEDS_PERSON, by=by, reason=reason, head_commit=head)
        else:
            Module.objects.filter(pk=module.pk).update(head_commit=head)

    return runs.run_end(
        work.run,
        Run.Status.PARKED,
        reason="Its agent waits for an answer.",
        reason_kind="question",
        then=then,
        start_next=start_next,
    )


def _still(work: Work) -> Module | None:
    """The module, while it is where this run left it."""
    module = Module.objects.select_related("project", "contract", "parent", "plan").get(
        pk=work.module.pk
    )
    return module if module.status == work.module.status else None


def request_answer(request: Request, granted: bool, by: User, answer: str = "") -> None:
    """Grant or refuse what a run asked; either way its module goes on.

    Raises Refused when somebody answered before.
    """
    actor = live.Actor.person(by)
    with live.change(request.project_id) as change:
        answered = Request.objects.filter(pk=request.pk, answered_at__isnull=True).update(
            granted=granted,
            answer=clean_text(answer, 4000),
            answered_by=by,
            answered_at=timezone.now(),
        )
        if not answered:
            raise Refused("Somebody answered this already.")
        module = Module.objects.select_related("project", "contract", "parent", "plan").get(
            pk=request.module_id
        )
        attention_close(request.project, topic=request.topic, by=actor)
        change.event(
            "request.answered",
            module.topic,
            actor,
            what=request.kind,
            request=request.pk,
            granted=granted,
            answer=answer,
        )
        if request.data.get("channel"):
            _tell(request, by, granted=granted)
            change.topics.add(request.run.topic)
            run = Run.objects.only("status").get(pk=request.run_id)
            if module.status != S.NEEDS_PERSON or run.status != Run.Status.PARKED:
                # The agent is at work, or another one will be: what was granted holds at once.
                if granted and request.kind == Request.Kind.EXCEPTION:
                    reason = request.data.get("reason", "")
                    exception_grant(module, request.data["paths"], actor, reason)
                return
        is_late = Run.objects.filter(module=module, pk__gt=request.run_id).exists()
        if module.status != S.NEEDS_PERSON or is_late:
            # Its agents went on; what may still be given is given, and no more promised.
            if granted:
                _grant_late(request, module, actor)
        elif granted:
            _grant(request, module, actor)
        else:
            _deny(request, module, actor, answer)


def _tell(request: Request, by: User, *, granted: bool) -> None:
    """Have the agent told with its next prompt, unless it asks before."""
    request.refresh_from_db()
    verdict = "granted" if granted else "refused"
    Steer.objects.create(
        project_id=request.project_id,
        module_id=request.module_id,
        run_id=request.run_id,
        request=request,
        text=f"You asked: {request.question}\nThe answer ({verdict}): {request.answer}".strip(),
        by=by,
    )


def _deny(request: Request, module: Module, actor: live.Actor, answer: str) -> None:
    message = f"Refused: {request.question} {answer}".strip()
    batch = findings_record(module, [Remark("person", message)], run_topic=request.run.topic)
    transition(
        module, module.resume_to, by=actor, reason=message, open_findings=batch, resume_to=""
    )


def _grant_late(request: Request, module: Module, actor: live.Actor) -> None:
    if request.kind == Request.Kind.QUESTION:
        return
    if request.kind != Request.Kind.EXCEPTION or module.status not in OPEN:
        raise Refused(
            f"{module.slug} went on without this answer and is {module.status} now. Refuse, and "
            "the question is closed."
        )
    exception_grant(module, request.data["paths"], actor, request.data.get("reason", ""))


def _grant(request: Request, module: Module, actor: live.Actor) -> None:
    if request.kind == Request.Kind.EXCEPTION:
        exception_grant(module, request.data["paths"], actor, request.data.get("reason", ""))
        module.refresh_from_db()
        transition(module, module.resume_to, by=actor, reason="Exception granted.", resume_to="")
    elif request.kind == Request.Kind.SPLIT:
        transition(module, module.resume_to, by=actor, reason="Split granted.", resume_to="")
        module_split(module, request.data["modules"], actor)
    elif request.kind == Request.Kind.COUPLED:
        _couple(request, module, actor)
    else:
        transition(module, module.resume_to, by=actor, reason="Answered.", resume_to="")


def _couple(request: Request, module: Module, actor: live.Actor) -> None:
    """One lane for all of them; this one waits when another of the lane is at work.

    Raises Refused, with the question still open, where one lane would leave nothing to go on.
    """
    rows = Module.objects.filter(project_id=module.project_id, status__in=list(OPEN))
    named = [module, *rows.filter(slug__in=request.data["modules"]).exclude(pk=module.pk)]
    lanes = list(dict.fromkeys(one.lane for one in named if one.lane))
    lane = lanes[0] if lanes else f"coupled-{module.slug}"
    # Who shared a lane with one of them still does.
    members = {one.pk: one for one in [*rows.filter(lane__in=lanes), *named]}
    del members[module.pk]
    edges = waits(module.project_id)
    at_work = [one for one in members.values() if one.status in Module.IN_LANE]
    if len(at_work) > 1:
        names = " and ".join(one.slug for one in at_work)
        raise Refused(
            f"{names} are at work at the same time already, and one lane holds one of them. Answer "
            "when only one is left, or refuse, and they go on as they are."
        )
    needed = waited_for(at_work[0], edges) & {*members, module.pk} if at_work else set()
    if needed:
        slug = module.slug if module.pk in needed else members[min(needed)].slug
        raise Refused(
            f"{at_work[0].slug} is at work and waits for {slug} to be merged; in one lane neither "
            "could go on. Refuse, and they go on as they are."
        )
    must_wait = bool(at_work) or bool(waited_for(module, edges) & members.keys())
    if must_wait:
        to = module.resume_to if may_follow(module.resume_to, S.WAITING) else S.BUILDING
        transition(module, to, by=actor, reason="Coupled.", resume_to="")
        transition(module, S.WAITING, by=actor, reason="Coupled: waits for its lane.")
    else:
        transition(module, module.resume_to, by=actor, reason="Coupled.", resume_to="")
    lane_join([module, *members.values()], lane, actor, request.data.get("reason", ""))
