"""What an ended turn or run does to its module: findings, failures, verdicts, refusals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from agents.backends.base import BackendError
from agents.gates import Verdict
from agents.models import Run
from agents.scheduler import STATUS_OF, start_next
from agents.services import runs
from agents.services.providers import (
    EXHAUSTED_SECONDS,
    LONGEST,
    provider_exhausted,
    provider_limited,
)
from agents.work import Work
from projects import live
from projects.lifecycle import transition
from projects.models import Module, Role
from projects.services.attention import attention_open
from projects.services.modules import module_ask
from projects.services.plans import plan_blocked
from projects.services.proposals import proposal_end
from reviews import merges
from reviews.digests import digest
from reviews.models import Review
from reviews.services import Remark, batch_of, findings_record, review_record

S = Module.Status
V = Review.Verdict
K = Run.Kind

#: A module whose runs fail this often through no fault of an agent's is handed to a person.
MAX_SETBACKS = 5
BACKOFF_SECONDS = 2
FIXES = 2


def judge(work: Work, verdict: Verdict, *, is_last: bool) -> None:
    """Keep a gate's findings; they are the agent's next prompt. The turn counts from now on."""
    with live.change(work.run.project_id) as change:
        runs.run_update(work.run, turns=work.run.turns + 1)
        batch = findings_record(work.module, verdict.remarks, run_topic=work.run.topic)
        # A person's verdict may have moved the module on; then this is for the record alone.
        status = STATUS_OF[K(work.run.kind)]
        Module.objects.filter(pk=work.module.pk, status=status).update(
            open_findings=batch,
            # An agent goes on from what it made, whatever the gate said of it.
            head_commit=verdict.head,
            version=F("version") + 1,
        )
        change.event(
            "gate.refused",
            work.module.topic,
            live.Actor.run(work.run.pk),
            slug=work.module.slug,
            run=work.run.pk,
            findings=[f"{r.source} {r.path}".strip() for r in verdict.remarks[:20]],
            last=is_last,
        )
        change.topics.add(work.run.topic)
    work.reload()
    for remark in verdict.remarks:
        work.log.add("finding", {"source": remark.source, "path": remark.path,
                                 "message": remark.message[:2000]})  # fmt: skip
    work.log.flush()


def fail(
    work: Work,
    reason: str,
    *,
    kind: str,
    owner: str,
    spent: Callable[[Work, live.Change, int], None] | None = None,
    is_permanent: bool = False,
) -> list[Run]:
    """End a run as failed, by whose fault it was: an agent's counts, others wait and retry.

    What is permanent goes to a person at once, for no retry would change it.
    """
    reason = work.log.redactor.text(reason)
    work.log.add("failed", {"reason": reason, "kind": kind, "owner": owner})
    run = work.run

    def then(change: live.Change) -> None:
        if run.kind == Run.Kind.DECOMPOSE:
            proposal_end(work.plan, live.Actor.run(run.pk), reason)
            return
        if run.module_id is None:
            plan_blocked(work.plan, f"{run.kind}: {reason}", live.Actor.run(run.pk))
            return
        module = Module.objects.select_related("project").get(pk=run.module_id)
        if module.status != STATUS_OF[K(run.kind)]:
            # Somebody moved it on; it failed in nothing that is still wanted.
            return
        if owner == Run.Owner.AGENT:
            _agent_failed(work, change, module, reason, kind, spent)
        else:
            _set_back(module, reason, owner, is_permanent=is_permanent)

    try:
        work.log.flush()
        return runs.run_end(
            run,
            Run.Status.FAILED,
            reason=reason,
            reason_kind=kind,
            reason_owner=owner,
            then=then,
            start_next=start_next,
        )
    except runs.Fenced:
        return []


def provider_stopped(work: Work, error: BackendError) -> list[Run]:
    """A provider or quota refused: the run is paused, and its module goes on by itself.

    It is nobody's failure and counts as none. The breaker knows before anything else starts.
    """
    reason = work.log.redactor.text(str(error))
    work.log.add("paused", {"reason": reason, "kind": error.kind, "owner": error.owner})
    run = work.run
    knows = error.kind in ("quota", "provider")
    if run.provider and error.kind in ("rate_limited", "overloaded"):
        provider_limited(run.provider, error.retry_after)
        knows = True
    elif run.provider and error.kind in ("exhausted", "signed_out"):
        # Nobody signs in by waiting: nothing starts into that wall until an admin resets it, but
        # for a try now and then.
        provider_exhausted(run.provider, error.resets_at, reason)
        knows = True

    def then(change: live.Change) -> None:
        # Without an account to remember it, the module itself knows when to try again.
        if not knows and run.module_id:
            later = _again_at(run.module_id, error)
            Module.objects.filter(pk=run.module_id).update(not_before=later)

    try:
        work.log.flush()
        return runs.run_end(
            run,
            Run.Status.INTERRUPTED,
            reason=reason,
            reason_kind=error.kind,
            reason_owner=Run.Owner.PROVIDER,
            then=then,
            start_next=start_next,
        )
    except runs.Fenced:
        return []


def _again_at(module_id: int, error: BackendError) -> datetime:
    now = timezone.now()
    if error.resets_at and now < error.resets_at < now + LONGEST:
        return error.resets_at
    if error.kind == "exhausted":
        return now + timedelta(seconds=EXHAUSTED_SECONDS)
    if error.retry_after is not None:
        return now + timedelta(seconds=min(error.retry_after, 86_400))
    tried = 0
    for owner in (
        Run.objects.filter(module=module_id).order_by("-pk").values_list("reason_owner", flat=True)
    )[:10]:
        if owner != Run.Owner.PROVIDER:
            break
        tried += 1
    return now + timedelta(seconds=min(300, BACKOFF_SECONDS * 2**tried))


def _agent_failed(
    work: Work,
    change: live.Change,
    module: Module,
    reason: str,
    kind: str,
    spent: Callable[[Work, live.Change, int], None] | None,
) -> None:
    if kind != "gate":
        Run.objects.filter(pk=work.run.pk).update(turns=F("turns") + 1)
    if spent:
        spent(work, change, module.open_findings)
        return
    Module.objects.filter(pk=module.pk).update(failures=F("failures") + 1)
    module.refresh_from_db()
    needs_person_if_spent(module, work.plan.policies, reason)


def needs_person_if_spent(module: Module, policies: dict[str, int], reason: str) -> None:
    """Hand the module to a person once its attempts are used up."""
    attempts = int(policies.get("attempts", 3))
    if module.failures >= attempts:
        failed = f"{module.failures} attempts failed, the last one with:"
        if module.failures == 1:
            failed = "The only attempt failed with:"
        module_ask(
            module,
            f"{failed} {sentence(reason)} Look at the findings, then change the contract, write a "
            "comment and retry, or cancel the module.",
            live.SYSTEM,
        )


def sentence(reason: str) -> str:
    """A reason that another sentence may follow: it ends with a full stop, not with a colon."""
    text = reason.strip().rstrip(":;, ")
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _set_back(module: Module, reason: str, owner: str, *, is_permanent: bool) -> None:
    """Not the agent's fault: wait a little longer each time, then ask a person."""
    if is_permanent:
        module_ask(module, f"{sentence(reason)} Mend that, then retry.", live.SYSTEM)
        return
    recent = Run.objects.filter(module=module).order_by("-pk")[:MAX_SETBACKS]
    setbacks = 0
    for run in recent:
        if run.status != Run.Status.FAILED or run.reason_owner == Run.Owner.AGENT:
            break
        setbacks += 1
    if setbacks >= MAX_SETBACKS or owner == Run.Owner.PERSON:
        module_ask(
            module,
            f"Its runs failed {setbacks} times through no fault of the agent: {sentence(reason)} "
            "Mend that, then retry.",
            live.SYSTEM,
        )
        return
    wait = timedelta(seconds=min(300, BACKOFF_SECONDS * 2**setbacks))
    Module.objects.filter(pk=module.pk).update(not_before=timezone.now() + wait)


def merge_refused(work: Work, tested: merges.Tested) -> list[Run]:
    """Conflict or red on the merged tree: back to building with the finding; nothing moved."""
    by = live.Actor.run(work.run.pk)
    summary = tested.remarks[0].message.splitlines()[0]

    def then(change: live.Change) -> None:
        merges.refuse(tested.merge, summary)
        module = Module.objects.select_related("project").get(pk=work.module.pk)
        batch = findings_record(module, tested.remarks, run_topic=work.run.topic)
        if module.status != S.MERGING:
            return
        transition(
            module,
            S.BUILDING,
            by=by,
            reason=summary,
            open_findings=batch,
            failures=module.failures + 1,
        )
        needs_person_if_spent(module, work.plan.policies, summary)

    return runs.run_end(
        work.run,
        Run.Status.SUCCEEDED,
        reason=summary,
        reason_kind="merge_refused",
        then=then,
        start_next=start_next,
    )


def review_judged(
    work: Work,
    change: live.Change,
    module: Module,
    *,
    verdict: str,
    summary: str,
    remarks: list[Remark],
    base: str,
    head: str,
    prompt_version: str,
) -> None:
    """Record a verdict and let the module follow it, within what the policies allow."""
    review, findings = review_record(
        module,
        verdict=verdict,
        summary=summary,
        base_commit=base,
        head_commit=head,
        run_topic=work.run.topic,
        model=work.run.model,
        prompt_version=prompt_version,
        person=work.plan.decided_by,
        remarks=remarks,
    )
    by = live.Actor.run(work.run.pk)
    change.event(
        "review.recorded",
        module.topic,
        by,
        slug=module.slug,
        verdict=verdict,
        review=review.pk,
        commit=head,
        findings=len(remarks),
        digests={review.pk: digest(review, findings)},
    )
    batch = batch_of(findings)
    if verdict == V.APPROVE and work.plan.policies.get("review") not in ("person", "both"):
        transition(module, S.MERGING, by=by, open_findings=0)
    elif verdict in (V.APPROVE, V.ASK):
        _ask_reviewer(module, review, by)
    elif verdict == V.FIX and module.fixes < FIXES:
        transition(module, S.FIXING, by=by, reason=summary, open_findings=batch)
    else:
        again: dict[str, Any] = {"open_findings": batch, "failures": module.failures + 1}
        transition(module, S.BUILDING, by=by, reason=summary, **again)
        needs_person_if_spent(module, work.plan.policies, summary)


def _ask_reviewer(module: Module, review: Review, by: live.Actor) -> None:
    approves = review.verdict == V.APPROVE
    title = f"{module.slug} waits for a person's review" if approves else (
        f"The orchestrator asks about {module.slug}"
    )  # fmt: skip
    # Whoever only retries gets another review: to approve is a reviewer's right.
    why = review.summary or title
    transition(module, S.NEEDS_PERSON, by=by, reason=why, resume_to=S.REVIEWING)
    attention_open(
        module.project,
        topic=module.topic,
        kind="review",
        title=title,
        detail=review.summary,
        url=reverse("reviews:review", args=[module.project.slug, review.pk]),
        role=Role.MAINTAINER,
    )
