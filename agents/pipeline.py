"""What a worker does with a claimed run: one readable function for each kind."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from contextlib import closing

from django.db import InterfaceError, OperationalError

from agents import confinement, diskspace, gates, turns
from agents.backends.base import BackendError, Kept
from agents.models import ConversationEntry, Run
from agents.proposals import propose
from agents.scheduler import start_next
from agents.services import runs, steering
from agents.services.outcomes import fail, judge, merge_refused, provider_stopped
from agents.supervision import INTERRUPTED, STOPPED, YIELDED, supervisor
from agents.work import Ended, Log, Work
from agents.workspaces import WorkspaceError
from projects import live
from projects.git import GitError
from projects.hub import Hub, HubError, integration_ref
from projects.lifecycle import transition
from projects.models import Module
from projects.plancontent import contracts_of
from projects.services import plans
from projects.text import clean_text
from reviews import merges
from reviews.interface import skeleton
from reviews.services import Remark, findings_record

logger = logging.getLogger(__name__)

S = Module.Status
R = Run.Status
MAX_TURNS = 3


def execute(run: Run) -> list[Run]:
    """Do a claimed run to its end; returns the runs that its end started."""
    with supervisor.watch(run) as watch, closing(Kept()) as kept:
        work = Work(run, Hub(run.project.hub_path), watch, Log(run), kept=kept)
        try:
            if why := confinement.refusal():
                # Even a run that only prepares would be followed by others that can't start.
                return _refused(work, why)
            return STEPS[run.kind](work)
        except runs.Fenced:
            return []
        except Ended as ended:
            return _ended(work, ended.order)
        except BackendError as error:
            if error.owner == Run.Owner.PROVIDER:
                return provider_stopped(work, error)
            last = error.permanent
            return fail(work, str(error), kind=error.kind, owner=error.owner, is_permanent=last)
        except (GitError, OSError) as error:
            return _broken(work, error)
        except (InterfaceError, OperationalError):
            # The database is away. Whoever comes after the lease has the rows.
            logger.exception("Run %s is left to its lease", run.pk)
            return []
        except Exception as error:
            return _stumbled(work, error)


def _refused(work: Work, why: str) -> list[Run]:
    return fail(work, why, kind="sandbox", owner=Run.Owner.TUTTI, is_permanent=True)


def _broken(work: Work, error: GitError | OSError) -> list[Run]:
    """A repository, a workspace or the disk below them."""
    if isinstance(error, WorkspaceError):
        is_full = diskspace.is_told(f"{error} {error.stderr}")
    else:
        is_full = diskspace.is_meant(error)
    if is_full:
        return fail(work, diskspace.sentence(), kind="disk", owner=Run.Owner.TUTTI)
    if isinstance(error, HubError | WorkspaceError):
        return fail(work, str(error), kind="repo", owner=Run.Owner.AGENT)
    if isinstance(error, GitError):
        return fail(work, str(error), kind="git", owner=Run.Owner.TUTTI)
    return _stumbled(work, error)


def _stumbled(work: Work, error: Exception) -> list[Run]:
    """What nobody foresaw: a mistake of Tutti's own, with its trace."""
    logger.error("Run %s failed", work.run.pk, exc_info=error)
    reason = f"{type(error).__name__}: {clean_text(str(error), 500)}"
    work.log.add("trace", {"text": clean_text("".join(traceback.format_exception(error)), 8000)})
    return fail(work, reason, kind="internal", owner=Run.Owner.TUTTI)


def _ended(work: Work, order: str) -> list[Run]:
    try:
        work.log.flush()
        if order == INTERRUPTED:
            return runs.run_end(
                work.run,
                R.INTERRUPTED,
                reason="Its worker was shut down; another run goes on.",
                reason_kind="shutdown",
                reason_owner=Run.Owner.TUTTI,
            )
        if order.startswith(YIELDED):
            return runs.run_end(
                work.run,
                R.INTERRUPTED,
                reason=order.removeprefix(YIELDED),
                reason_kind=runs.MEMORY,
                reason_owner=Run.Owner.TUTTI,
                start_next=start_next,
            )
        kind = Run.objects.values_list("reason_kind", flat=True).get(pk=work.run.pk)
        if kind in runs.PAUSES:
            return runs.run_end(
                work.run,
                R.INTERRUPTED,
                reason=order.removeprefix(STOPPED),
                reason_kind=kind,
                reason_owner=runs.PAUSES[kind],
                start_next=start_next,
            )
        return runs.run_end(
            work.run,
            R.CANCELLED,
            reason=order.removeprefix(STOPPED),
            reason_kind="stopped",
            reason_owner=Run.Owner.PERSON,
            start_next=start_next,
        )
    except runs.Fenced:
        return []


def prepare(work: Work) -> list[Run]:
    """Commit the interfaces that do not exist yet, so that modules can import each other."""
    plan, hub = work.plan, work.hub
    head = str(hub.head(integration_ref()))
    files = hub.files(head)
    contracts = contracts_of(plan)
    provides = [clause for contract in contracts for clause in contract.provides]
    owns = [glob for contract in contracts for glob in contract.owns]
    missing = skeleton(provides, files, owns)
    if missing:
        commit = hub.commit_files(
            head,
            {path: source.encode() for path, source in missing.items()},
            f"Declare the interfaces of plan {plan.number}",
        )
        if not hub.swap(integration_ref(), commit, head):
            return runs.run_end(work.run, R.INTERRUPTED, reason="The branch moved; done again.")
        head = commit

    def then(change: live.Change) -> None:
        plans.plan_prepared(plan, head, live.Actor.run(work.run.pk))

    runs.run_update(work.run, base_commit=head, head_commit=head)
    return runs.run_end(work.run, R.SUCCEEDED, then=then, start_next=start_next)


def write_tests(work: Work) -> list[Run]:
    """The planner's turns until the red gate passes; given tests only go through the gate."""
    return _turns(work, gates.red_gate, _tests_accepted)


def build(work: Work) -> list[Run]:
    """The executor's turns until the green gate passes."""
    return _turns(work, gates.green_gate, _built)


def fix(work: Work) -> list[Run]:
    """The orchestrator mends its own review's small errors, within the project's size."""
    began = work.module.head_commit
    limit = int(work.plan.policies.get("fix_lines", 20))

    def gate(work: Work, head: str, *, began: str = began) -> gates.Verdict:
        size = sum((added or 0) + (gone or 0) for _, added, gone in work.hub.numstat(began, head))
        if size > limit:
            message = f"The fix changes {size} lines, more than the {limit} that are allowed."
            return gates.Verdict(head, [Remark("fix", message)])
        return gates.green_gate(work, head)

    return _turns(work, gate, _fixed, max_turns=2, spent=_fix_failed)


def _turns(
    work: Work,
    gate: Callable[..., gates.Verdict],
    accepted: Callable[[Work, gates.Verdict], Callable[[live.Change], None]],
    *,
    max_turns: int = MAX_TURNS,
    spent: Callable[[Work, live.Change, int], None] | None = None,
) -> list[Run]:
    """Prompt, gate, and prompt again with the findings, until `max_turns` were refused.

    What people wrote meanwhile gets a turn of its own before the run succeeds.
    """
    verdict, refused, is_told = gates.Verdict(""), 0, False
    while True:
        began = turns.begin(work)
        if work.run.needs_slot:
            head = turns.take(work, began)
            if head is None:
                return turns.answered(work)
            runs.run_checking(work.run, start_next)
        else:
            head = began
        if not is_told or head != began or work.leaks:
            with turns.gate_time(work):
                verdict = _gated(work, gate, head, "" if is_told else began)
        is_told = False
        work.log.flush()
        if verdict.passed:
            then = steering.heard(work, accepted(work, verdict))
            try:
                return runs.run_end(work.run, R.SUCCEEDED, then=then, start_next=start_next)
            except steering.Unheard:
                is_told = True
                steering.again(work, head_commit=verdict.head, open_findings=0)
        else:
            refused += 1
            judge(work, verdict, is_last=refused == max_turns)
            if refused == max_turns:
                break
        turns.slot_again(work)
    work.log.flush()
    return fail(
        work,
        "; ".join(remark.message.splitlines()[0] for remark in verdict.remarks[:3]),
        kind="gate",
        owner=Run.Owner.AGENT,
        spent=spent,
    )


def _gated(work: Work, gate: Callable[..., gates.Verdict], head: str, began: str) -> gates.Verdict:
    if work.leaks:
        return gates.leaked(work, head)
    if gate is gates.green_gate and not work.module.open_findings:
        return gate(work, head, began=began)
    return gate(work, head)


def _tests_accepted(work: Work, verdict: gates.Verdict) -> Callable[[live.Change], None]:
    def then(change: live.Change) -> None:
        turns.judged(work)
        module = turns.current(work, S.PLANNING)
        if module:
            transition(
                module,
                S.BUILDING,
                by=live.Actor.run(work.run.pk),
                reason=verdict.red,
                head_commit=verdict.head,
                tests_commit=verdict.head,
                locked_tests=verdict.locked,
                outline=clean_text(str((work.run.result or {}).get("outline", "")), 20_000),
                failures=0,
                open_findings=0,
            )

    return then


def _built(work: Work, verdict: gates.Verdict) -> Callable[[live.Change], None]:
    def then(change: live.Change) -> None:
        turns.judged(work)
        module = turns.current(work, S.BUILDING)
        if module:
            to = S.BUILT if module.needs_to_finish else S.REVIEWING
            waits = "Built; waits for what it needs to be merged." if to == S.BUILT else ""
            transition(
                module,
                to,
                by=live.Actor.run(work.run.pk),
                reason=waits,
                head_commit=verdict.head,
                open_findings=0,
            )

    return then


def _fixed(work: Work, verdict: gates.Verdict) -> Callable[[live.Change], None]:
    def then(change: live.Change) -> None:
        turns.judged(work)
        module = turns.current(work, S.FIXING)
        if module:
            turns.remember(work, ConversationEntry.Kind.FIX)
            transition(
                module,
                S.BUILT if module.needs_to_finish else S.REVIEWING,
                by=live.Actor.run(work.run.pk),
                head_commit=verdict.head,
                fixes=module.fixes + 1,
                open_findings=0,
            )

    return then


def _fix_failed(work: Work, change: live.Change, batch: int) -> None:
    """The orchestrator could not mend it small: another agent builds."""
    module = turns.current(work, S.FIXING)
    if module:
        transition(
            module,
            S.BUILDING,
            by=live.Actor.run(work.run.pk),
            reason="The fix was too large or failed; another agent builds again.",
            open_findings=batch or module.open_findings,
        )


def recheck(work: Work) -> list[Run]:
    """Everything needed is merged: the checks count now."""
    head = work.module.head_commit
    with turns.gate_time(work):
        verdict = gates.green_gate(work, head)
    work.log.flush()

    def then(change: live.Change) -> None:
        module = turns.current(work, S.BUILT)
        if module is None or module.needs_to_finish:
            return
        by = live.Actor.run(work.run.pk)
        if verdict.passed:
            transition(module, S.REVIEWING, by=by, head_commit=verdict.head, open_findings=0)
            return
        batch = findings_record(module, verdict.remarks, run_topic=work.run.topic)
        transition(
            module,
            S.BUILDING,
            by=by,
            reason="Its checks are red with everything merged that it needs.",
            head_commit=verdict.head,
            open_findings=batch,
        )

    runs.run_update(work.run, head_commit=verdict.head)
    return runs.run_end(work.run, R.SUCCEEDED, then=then, start_next=start_next)


def review(work: Work) -> list[Run]:
    """The orchestrator judges in the context that delegated."""
    return turns.review(work)


def merge(work: Work) -> list[Run]:
    """The module's turn in the merge queue of the branch above it."""
    by = live.Actor.run(work.run.pk)
    done = merges.reconcile(work.module, work.above, work.hub, by)
    if any(one.module_id == work.module.pk for one in done):
        return runs.run_end(work.run, R.SUCCEEDED, start_next=start_next)
    base = str(work.hub.head(work.above))
    intent = merges.begin(work.module, work.above, base, work.module.head_commit, work.run.topic)

    def tester(commit: str, commands: object) -> list[object]:
        return gates.run_and_record(work, commands, commit, "merge", retry=True)  # type: ignore[arg-type, return-value]

    try:
        with turns.gate_time(work):
            tested = merges.test(intent, work.contract, work.hub, tester)  # type: ignore[arg-type]
    except Ended:
        merges.abandon(intent, "Interrupted; it is done again.")
        raise
    work.log.flush()
    if tested.remarks:
        return merge_refused(work, tested)
    runs.run_update(work.run, base_commit=base, head_commit=intent.tested_commit)
    why = merges.intend(intent)
    with live.change(work.run.project_id):
        if not runs.own(work.run).exists():
            raise runs.Fenced(f"Run {work.run.pk} is no longer ours.")
        if why := why or merges.land(intent, work.hub, by):
            merges.abandon(intent, why)
        return runs.run_end(work.run, R.SUCCEEDED, reason=why, start_next=start_next)


def finish(work: Work) -> list[Run]:
    """All is merged: the project checks at the end decide whether the plan is done."""
    head = str(work.hub.head(integration_ref()))
    commands = [check["run"] for check in work.plan.checks if check["at"] == "end"]
    with turns.gate_time(work):
        outcomes = gates.run_and_record(work, commands, head, "end", retry=True)
    work.log.flush()
    red = [outcome for outcome in outcomes if not outcome.ok]
    by = live.Actor.run(work.run.pk)

    def then(change: live.Change) -> None:
        if red:
            names = ", ".join(f"`{outcome.command}`" for outcome in red)
            plans.plan_blocked(
                work.plan,
                f"Everything is merged, but {names} is red on {head[:10]}. Draft the next plan to "
                "mend it, or retry when it was the machine's fault.",
                by,
            )
        else:
            plans.plan_finished(work.plan, by)

    runs.run_update(work.run, head_commit=head)
    return runs.run_end(work.run, R.FAILED if red else R.SUCCEEDED, then=then)


STEPS: dict[str, Callable[[Work], list[Run]]] = {
    Run.Kind.PREPARE: prepare,
    Run.Kind.DECOMPOSE: propose,
    Run.Kind.TESTS: write_tests,
    Run.Kind.BUILD: build,
    Run.Kind.RECHECK: recheck,
    Run.Kind.REVIEW: review,
    Run.Kind.FIX: fix,
    Run.Kind.MERGE: merge,
    Run.Kind.FINISH: finish,
}
