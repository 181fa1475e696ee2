"""Judgements: recorded once, never changed; a person may overrule with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Max

from projects import live
from projects.lifecycle import transition
from projects.models import Module
from projects.services.attention import attention_close
from projects.services.errors import Refused
from projects.text import clean_text
from reviews.checks import CheckOutcome
from reviews.digests import digest
from reviews.models import CheckResult, Finding, Merge, Review

S = Module.Status
V = Review.Verdict


@dataclass(frozen=True)
class Remark:
    """One finding before it is stored; `clause` names the part of the contract it touches."""

    source: str
    message: str
    path: str = ""
    line: int | None = None
    clause: str = ""


#: Output kept of a check: enough for its first and last screens.
KEPT_OUTPUT = 20_000


def findings_record(module: Module, remarks: Sequence[Remark], *, run_topic: str) -> int:
    """Store the findings of one judgement and return their batch; 0 when there are none."""
    return batch_of(_findings_create(module, remarks, run_topic=run_topic))


def batch_of(findings: Sequence[Finding]) -> int:
    """The batch of one judgement's findings; 0 when there are none."""
    return findings[0].batch if findings else 0


def _findings_create(
    module: Module, remarks: Sequence[Remark], *, run_topic: str, review: Review | None = None
) -> list[Finding]:
    if not remarks:
        return []
    newest = Finding.objects.filter(project=module.project_id).aggregate(n=Max("batch"))["n"] or 0
    return Finding.objects.bulk_create(
        Finding(
            project_id=module.project_id,
            module=module,
            review=review,
            run_topic=run_topic,
            batch=newest + 1,
            source=remark.source,
            path=clean_text(remark.path, 500),
            line=remark.line,
            clause=clean_text(remark.clause, 200),
            message=clean_text(remark.message, KEPT_OUTPUT),
        )
        for remark in remarks
    )


def checks_record(
    *,
    project_id: int,
    module: Module | None,
    outcomes: Iterable[CheckOutcome],
    by: live.Actor,
    run_topic: str,
    phase: str,
    commit: str,
) -> None:
    """Store what the checks did on a commit, and have the record say so."""
    rows = [
        CheckResult(
            project_id=project_id,
            module=module,
            run_topic=run_topic,
            phase=phase,
            command=outcome.command[:2000],
            commit=commit,
            exit_code=outcome.exit_code,
            ok=outcome.ok,
            kind=str(outcome.kind),
            flaky=outcome.flaky,
            seconds=float(outcome.seconds),
            output=clean_text(outcome.output, KEPT_OUTPUT),
        )
        for outcome in outcomes
    ]
    if not rows:
        return
    with live.change(project_id) as change:
        # Nothing can start that could not before.
        change.rings = False
        rows = CheckResult.objects.bulk_create(rows)
        change.event(
            "checks.recorded",
            run_topic,
            by,
            slug=module.slug if module else None,
            phase=phase,
            commit=commit,
            red=sum(not row.ok for row in rows),
            digests={row.pk: digest(row) for row in rows},
        )
        if module:
            change.topics.add(module.topic)


def review_record(
    module: Module,
    *,
    verdict: str,
    summary: str,
    base_commit: str,
    head_commit: str,
    run_topic: str,
    model: str,
    prompt_version: str,
    person: User | None,
    remarks: Sequence[Remark],
) -> tuple[Review, list[Finding]]:
    """Store a judgement with its findings; the caller puts both into the record, with a digest."""
    review = Review.objects.create(
        project_id=module.project_id,
        module=module,
        run_topic=run_topic,
        base_commit=base_commit,
        head_commit=head_commit,
        verdict=verdict,
        summary=clean_text(summary, KEPT_OUTPUT),
        model=model,
        prompt_version=prompt_version,
        person=person,
    )
    return review, _findings_create(module, remarks, run_topic=run_topic, review=review)


#: Verdict to the status that follows it.
FOLLOWS = {V.APPROVE: S.MERGING, V.REBUILD: S.BUILDING, V.FIX: S.FIXING}


def review_overrule(module: Module, verdict: str, by: User, reason: str) -> Review:
    """Put a person's verdict in the place of the newest one, with a reason.

    Raises Refused when the module is not at a point where a verdict decides.
    """
    if not reason.strip():
        raise Refused("Say why, so that the record shows it.")
    if verdict not in FOLLOWS:
        raise Refused("Choose approve, fix or rebuild.")
    with live.change(module.project_id) as change:
        module.refresh_from_db()
        newest = Review.objects.filter(module=module).order_by("-pk").first()
        asked = module.status == S.NEEDS_PERSON and module.resume_to in (S.REVIEWING, S.MERGING)
        if newest is None or not (asked or module.status in (S.REVIEWING, S.MERGING, S.FIXING)):
            raise Refused(f"{module.slug} is {module.status}; there is no verdict to overrule now.")
        if verdict == V.APPROVE and module.needs_to_finish:
            raise Refused(f"{module.slug} merges after others; decide when they are merged.")
        values: dict[str, Any] = {"resume_to": ""}
        if module.head_commit != newest.head_commit:
            if verdict == V.APPROVE and module.status != S.FIXING:
                raise Refused(
                    f"{module.slug} changed since that review; decide when the next one is there."
                )
            if verdict == V.APPROVE:
                # What is approved is what was reviewed, not the fix that is being tried.
                values["head_commit"] = newest.head_commit
        if Merge.objects.filter(module=module, status=Merge.Status.SWAPPING).exists():
            raise Refused(f"{module.slug} is on the branch at this moment; load the page again.")
        review, findings = review_record(
            module,
            verdict=verdict,
            summary=reason,
            base_commit=newest.base_commit,
            head_commit=newest.head_commit,
            run_topic="",
            model="",
            prompt_version="",
            person=by,
            remarks=[] if verdict == V.APPROVE else [Remark(source="person", message=reason)],
        )
        change.event(
            "review.overruled",
            module.topic,
            live.Actor.person(by),
            slug=module.slug,
            verdict=verdict,
            before=newest.verdict,
            reason=clean_text(reason),
            review=review.pk,
            digests={review.pk: digest(review, findings)},
        )
        to = FOLLOWS[V(verdict)]
        if module.status != to:
            values["open_findings"] = batch_of(findings)
            transition(module, to, by=live.Actor.person(by), reason=reason, **values)
        attention_close(module.project, topic=module.topic, by=live.Actor.person(by))
    return review
