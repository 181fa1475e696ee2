"""One turn of an agent: its workspace, its assignment, what it made and what it answered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import F, Sum
from django.utils import timezone

from agents import assignments, confinement, conversations, given, meters, sandbox
from agents import quotas as quota_rules
from agents.backends import KINDS
from agents.backends.base import BackendError, Outcome, Sink, Turn, joined
from agents.leaks import leaking_paths, without
from agents.models import ConversationEntry, Profile, Run
from agents.scheduler import STATUS_OF, ceiling_of, start_next
from agents.services import budgets, channels, runs, steering, walls
from agents.services import secrets as accounts
from agents.services.answers import ANSWERS, answer, park
from agents.services.outcomes import review_judged
from agents.services.permissions import Asker, asking_seconds
from agents.work import Ended, Work
from agents.workspaces import Workspace
from projects import intake, live
from projects.git import GitError
from projects.models import Module, Project
from projects.secrets import SecretError
from projects.text import clean_text
from reviews.models import Finding, Review
from reviews.services import Remark

SLOT_POLL_SECONDS = 0.05
MAX_BUNDLE = 200_000_000
#: No file that a person reads has more; a greater number is no line.
MOST_LINES = 10_000_000


def begin(work: Work) -> str:
    """The commit that the turn starts from: the module's own, or the branch above it.

    Raises Ended when a person moved the module on meanwhile.
    """
    work.obey()
    work.reload()
    status = work.module.status
    if status != STATUS_OF[Run.Kind(work.run.kind)]:
        raise Ended(f"{work.module.slug} is {status} now: this work is wanted no more.")
    head = work.module.head_commit
    if not head:
        head = str(work.hub.head(work.above))
    current = work.hub.head(work.branch)
    if current != head:
        # What an interrupted turn left on the branch was never accepted.
        work.hub.swap(work.branch, head, current)
    runs.run_update(work.run, base_commit=head, branch=work.branch)
    return head


def take(work: Work, began: str) -> str | None:
    """Let the agent take one turn; returns the commit it made, `began` when it made none.

    None when it answered with a request (split, exception, coupling) instead of work.
    """
    workspace = open_workspace(work, began)
    assignment = assignments.build(
        work.run, work.contract, fix_lines=int(work.plan.policies.get("fix_lines", 20))
    )
    outcome = prompt(work, workspace, assignment)
    if split := channels.proposed(work.run):
        outcome.result = {**outcome.result, "split": split}
        runs.run_update(work.run, result=outcome.result)
    if any(name in outcome.result for name in ANSWERS):
        if "split" in outcome.result:
            # One agent alone would have gone on instead of cutting its work up for others.
            runs.run_update(work.run, parallel_only=True)
        return None
    head = checkpoint(work, workspace, began)
    return None if channels.is_asking(work.run) else head


def answered(work: Work) -> list[Run]:
    """The agent asked or split instead of working on."""
    work.log.flush()
    judged(work)
    if not any(name in (work.run.result or {}) for name in ANSWERS):
        return park(work, channels.asked(work.run), start_next)
    return answer(work, start_next)


def open_workspace(work: Work, commit: str) -> Workspace:
    """The module's clone at a commit, with the two refs that an agent may put things back from."""
    refs = {
        "base": str(work.hub.head(work.above)),
        "tests": work.module.tests_commit or commit,
    }
    workspace = Workspace.of(work.run.project_id, work.module.slug)
    if work.kept.is_alive:
        try:
            # An agent that waits there would lose its directory by a new clone.
            workspace.update(work.hub, commit, refs=refs)
            return workspace
        except GitError:
            work.kept.close()
    return workspace.prepare(work.hub, commit, refs=refs)


def prompt(work: Work, workspace: Workspace, assignment: assignments.Assignment) -> Outcome:
    """Send an assignment to the role's backend and keep what was sent, said and used."""
    work.obey()
    run = work.run
    if why := confinement.refusal():
        raise BackendError(why, kind="sandbox", owner=Run.Owner.TUTTI, permanent=True)
    profile = runs.profile_of(run)
    provide(work)
    files = given.files_of(work, profile, workspace.commit)
    delivery = steering.Delivery(work)
    assignment = steering.added(given.with_files(assignment, files), run, delivery.fresh)
    text = work.log.redactor.text(assignment.text)
    sent = {
        "turn": run.turns + 1,
        "text": text,
        "prompt_version": assignment.prompt_version,
        "at": timezone.now().isoformat(),
    }
    if assignment.follow_up and work.kept.is_alive:
        sent["follow_up"] = work.log.redactor.text(assignment.follow_up)
    runs.run_update(
        run,
        assignments=[*run.assignments, sent],
        backend=profile.backend,
        model=profile.model,
        sandbox=sandbox.level(),
        parallel_only=run.parallel_only or _repairs_parallel_work(work),
    )
    if run.kind in ("tests", "build") and len(run.assignments) == 1:
        described = assignments.describe(work.module, work.contract)
        conversations.delegate(run, f"To the {run.role} (run {run.pk}):\n{described}")
    network = bool(profile.settings.get("network", False))
    line = channels.line(work, profile.backend, network=network)
    turn = Turn(
        text=text,
        module=work.name,
        kind=run.kind,
        role=run.role,
        number=turn_number(run),
        model=profile.model,
        workspace=workspace.path,
        home=workspace.home,
        settings=profile.settings,
        replay=_replay(work),
        environment=work.environment,
        network=network,
        session=run.session or _session_before(run, profile),
        secrets={**_secrets(work, profile), **line.variables},
        mcp_servers=line.servers,
        follow_up=str(sent.get("follow_up", "")),
        owns=_may_change(work),
        files=files,
        kept=work.kept,
        ask=Asker(run, asking_seconds(profile.settings)) if run.module else None,
        steers=delivery,
    )
    work.log.add("prompt", {"turn": sent["turn"], "prompt_version": assignment.prompt_version})
    began = time.monotonic()
    failed: BackendError | None = None
    with meters.metering(run.pk, meters.AGENT) as meter, _asking(turn):
        try:
            outcome = KINDS[profile.backend].run(turn, _hearing(work, delivery), line.stop)
            outcome.result = work.log.redactor.data(outcome.result)
        except BackendError as error:
            failed, outcome = error, Outcome(run.result or {}, usage=error.usage)
        finally:
            _spent(run, time.monotonic() - began, meter)
            line.look(is_over=True)
            work.log.flush()
    _used(run, outcome, is_refused=failed is not None and failed.owner == Run.Owner.PROVIDER)
    if failed:
        raise failed
    work.obey()
    delivery.done()
    return outcome


def _hearing(work: Work, delivery: steering.Delivery) -> Sink:
    """Keep what the agent says, and its session at once: the next run may need it after a crash."""

    def hear(kind: str, data: dict[str, Any]) -> None:
        if kind == "session" and (session := str(data.get("id", ""))[:200]):
            runs.run_update(work.run, session=session)
        delivery.heard(kind)
        work.log.add(kind, data)

    return hear


@contextmanager
def _asking(turn: Turn) -> Iterator[None]:
    """Leave no question open after a turn."""
    try:
        yield
    finally:
        if isinstance(turn.ask, Asker):
            turn.ask.close()


def _session_before(run: Run, profile: Profile) -> str:
    """The session of a run that was cut off in the same work, so that this one can go on in it."""
    cut = (Run.Status.INTERRUPTED, Run.Status.STALLED, Run.Status.PARKED)
    before = Run.objects.filter(module=run.module, kind=run.kind, pk__lt=run.pk).order_by("-pk")
    last = before.filter(plan=run.plan).first()
    goes_on = last is not None and last.status in cut and last.backend == profile.backend
    return last.session if last is not None and goes_on else ""


def _may_change(work: Work) -> tuple[str, ...]:
    """The globs of what this turn's agent may change."""
    if work.run.kind == Run.Kind.TESTS:
        return tuple(work.contract.tests)
    if work.run.kind in (Run.Kind.BUILD, Run.Kind.FIX):
        return (*work.contract.owns, *work.contract.exceptions)
    return ()


def provide(work: Work) -> None:
    """Have a whole turn reserved of every quota. Raises BackendError when one refuses."""
    run = work.run
    if not run.needs_slot or not budgets.binds(run):
        return
    profile = runs.profile_of(run)
    try:
        with live.change(run.project_id):
            budgets.again(run, profile)
    except budgets.Full as full:
        wall = walls.wall_of(run, profile)
        sentence = wall.limit.sentence if wall else "What was left is used up by others."
        kind = "provider" if isinstance(full, budgets.Walled) else "quota"
        raise BackendError(sentence, kind=kind, owner=Run.Owner.PROVIDER) from full


def _secrets(work: Work, profile: Profile) -> dict[str, str]:
    """What the agent gets by variable; the key may be a newer one than when the run began."""
    try:
        found = accounts.environment_of(profile)
    except SecretError as error:
        raise BackendError(str(error), kind="settings", owner=Run.Owner.TUTTI) from error
    for value in found.values():
        work.log.hide(value)
    return found


def turn_number(run: Run) -> int:
    """How often this kind of run took a turn for its module, this one included."""
    earlier = Run.objects.filter(module=run.module, kind=run.kind).exclude(pk=run.pk)
    if run.module is None:
        earlier = earlier.filter(plan=run.plan)
    return (earlier.aggregate(n=Sum("turns"))["n"] or 0) + run.turns + 1


def checkpoint(work: Work, workspace: Workspace, began: str) -> str:
    """Commit the work inside the sandbox and take it into the hub."""
    run = work.run
    bundle = workspace.checkpoint(
        f"{work.module.slug}: {run.kind}",
        (f"{run.role} {run.model}".strip(), "agent@localhost"),
        trailers={"Tutti-Module": work.module.slug, "Tutti-Run": run.topic},
        max_bytes=MAX_BUNDLE,
    )
    head = began
    if bundle is not None:
        head = intake.take(work.hub, bundle, work.branch, expected_base=began, max_bytes=MAX_BUNDLE)
        head = _without_secrets(work, began, head)
    work.log.add("checkpoint", {"base": began, "head": head})
    runs.run_update(run, head_commit=head)
    return head


def _without_secrets(work: Work, began: str, head: str) -> str:
    """The commit as it may stay on the branch; what holds a secret is back as it was."""
    work.leaks = leaking_paths(work.hub, work.log.redactor, began, head)
    if not work.leaks:
        return head
    author = f"{work.run.role} {work.run.model}".strip(), "agent@localhost"
    kept = without(work.hub, began, head, work.leaks, f"{work.name}: {work.run.kind}", author)
    work.hub.swap(work.branch, kept, head)
    return kept


@contextmanager
def gate_time(work: Work) -> Iterator[None]:
    """Count what the block takes as the run's gate time, without waiting for check slots."""
    began, waited = time.monotonic(), work.waited
    try:
        yield
    finally:
        waited = work.waited - waited
        seconds = time.monotonic() - began - waited
        work.run.gate_seconds += seconds
        lap = _lap(work.run)
        lap["gate"] = lap.get("gate", 0.0) + seconds
        Run.objects.filter(pk=work.run.pk, fence=work.run.fence).update(
            gate_seconds=F("gate_seconds") + seconds,
            waited_seconds=F("waited_seconds") + waited,
            laps=work.run.laps,
        )


def slot_again(work: Work) -> None:
    """Wait for a slot before the next prompt."""
    if not work.run.needs_slot:
        return
    provide(work)
    runs.run_slot_want(work.run)
    began = time.monotonic()

    def slots(project: Project) -> int:
        return ceiling_of(project).slots

    while not runs.run_slot_take(work.run, slots):
        work.obey()
        work.log.flush_if_due()
        time.sleep(SLOT_POLL_SECONDS)
    Run.objects.filter(pk=work.run.pk, fence=work.run.fence).update(
        waited_seconds=F("waited_seconds") + time.monotonic() - began
    )


def judged(work: Work) -> None:
    """A turn counts once its gate has judged it: a turn that a crash cut off is played again."""
    work.run.turns += 1
    Run.objects.filter(pk=work.run.pk, fence=work.run.fence).update(turns=F("turns") + 1)


def current(work: Work, status: str) -> Module | None:
    """The module as it is now, while it still has the status that this run works for."""
    module = Module.objects.select_related("project", "contract").get(pk=work.module.pk)
    return module if module.status == status else None


def remember(work: Work, kind: str) -> None:
    summary = clean_text(str((work.run.result or {}).get("summary", "")), 5000)
    conversations.remember(work.run, kind, summary or "done")


def review(work: Work) -> list[Run]:
    """Ask the orchestrator for its verdict, and again while people have something to tell it."""
    while True:
        try:
            return _review(work)
        except steering.Unheard:
            steering.again(work)


def _review(work: Work) -> list[Run]:
    work.reload()
    head = work.module.head_commit
    base = str(work.hub.merge_base(str(work.hub.head(work.above)), head))
    diff = work.hub.diff(base, head, max_bytes=200_000)
    runs.run_update(work.run, base_commit=base, head_commit=head, branch=work.branch)
    workspace = open_workspace(work, head)
    assignment = assignments.build(work.run, work.contract, diff=diff.text)
    outcome = prompt(work, workspace, assignment)
    verdict, summary, remarks = read_verdict(outcome.result)
    work.log.flush()

    def then(change: live.Change) -> None:
        judged(work)
        module = current(work, Module.Status.REVIEWING)
        if module is None:
            return
        conversations.remember(work.run, ConversationEntry.Kind.REVIEW, f"{verdict}: {summary}")
        review_judged(
            work,
            change,
            module,
            verdict=verdict,
            summary=summary,
            remarks=remarks,
            base=base,
            head=head,
            prompt_version=assignment.prompt_version,
        )

    return runs.run_end(
        work.run, Run.Status.SUCCEEDED, then=steering.heard(work, then), start_next=start_next
    )


def read_verdict(result: dict[str, Any]) -> tuple[str, str, list[Remark]]:
    """The verdict in an answer. Raises BackendError when it is none that the table knows."""
    verdict = result.get("verdict")
    if verdict not in Review.Verdict.values:
        raise BackendError(
            f"The review ended without a verdict (approve, fix, rebuild or ask), but with "
            f"{clean_text(str(result), 200)}.",
            kind="answer",
        )
    found = result.get("findings")
    remarks = []
    for one in found if isinstance(found, list) else []:
        if not isinstance(one, dict):
            continue
        line = one.get("line")
        remarks.append(
            Remark(
                source="review",
                message=str(one.get("message", "")),
                path=str(one.get("path", "")),
                line=line if isinstance(line, int) and 0 < line < MOST_LINES else None,
                clause=str(one.get("clause", "")),
            )
        )
    return str(verdict), str(result.get("summary", "")), remarks[:200]


def _repairs_parallel_work(work: Work) -> bool:
    """Whether this turn only answers what others merged meanwhile."""
    if work.run.kind != Run.Kind.BUILD or not (batch := work.module.open_findings):
        return False
    rows = Finding.objects.filter(project_id=work.run.project_id, batch=batch)
    return rows.filter(source__in=["merge", "conflict"]).exists()


def _spent(run: Run, seconds: float, meter: meters.Meter) -> None:
    run.agent_seconds += seconds
    began = (timezone.now() - run.started_at).total_seconds() - seconds if run.started_at else 0.0
    run.laps.append({"at": began, "agent": seconds})
    Run.objects.filter(pk=run.pk, fence=run.fence).update(
        agent_seconds=F("agent_seconds") + seconds, laps=run.laps, **meter.columns()
    )


def _lap(run: Run) -> dict[str, Any]:
    """What the turn at hand took so far; gates without a prompt are a turn of their own."""
    if not run.laps:
        run.laps.append({})
    lap: dict[str, Any] = run.laps[-1]
    return lap


def _used(run: Run, outcome: Outcome, *, is_refused: bool = False) -> None:
    """Keep what a turn answered and used, and settle its quotas: unknown stays unknown.

    What a provider refused used nothing, unless the agent says so.
    """
    values: dict[str, Any] = {"result": outcome.result}
    usage = outcome.usage
    rates = budgets.rates_of(run.provider_id, run.model)
    money = quota_rules.cost(rates, usage.input_tokens, usage.output_tokens)
    if usage.cost is not None and usage.currency in ("", settings.TUTTI_CURRENCY):
        # What the agent was charged is nearer to the bill than tokens times a price.
        money = Decimal(str(usage.cost))
    if not is_refused or usage.input_tokens is not None:
        # A sum that left out a turn would pass for the whole, so one unknown price ends it.
        is_first = len(run.assignments) == 1
        values["usage_quality"] = joined("" if is_first else run.usage_quality, usage.quality)
        known = money is not None and (run.cost is not None or is_first)
        values["cost"] = (run.cost or 0) + money if known and money is not None else None
    if outcome.session:
        values["session"] = outcome.session
    if outcome.usage.input_tokens is not None:
        values["input_tokens"] = (run.input_tokens or 0) + outcome.usage.input_tokens
        values["output_tokens"] = (run.output_tokens or 0) + (outcome.usage.output_tokens or 0)
        lap = _lap(run)
        lap["input"] = outcome.usage.input_tokens
        lap["output"] = outcome.usage.output_tokens or 0
        values["laps"] = run.laps
    tokens = None if usage.input_tokens is None else (
        usage.input_tokens + (usage.output_tokens or 0)
    )  # fmt: skip
    if not budgets.binds(run):
        runs.run_update(run, **values)
        return
    with live.change(run.project_id):
        runs.run_update(run, **values)
        budgets.settle(run, 0 if tokens is None and is_refused else tokens, money)


def _replay(work: Work) -> dict[str, Any] | None:
    """The plan's recordings with an absolute folder: beside or in the source repository."""
    replay = work.plan.replay
    if not replay:
        return None
    source = Path(work.run.project.source)
    named = Path(str(replay.get("recordings", "")))
    roots = [Path(root).resolve() for root in settings.TUTTI_SOURCE_ROOTS]
    for folder in (named, source / named, source.parent / named):
        whole = folder.resolve()
        allowed = any(whole.is_relative_to(root) for root in roots)
        if folder.is_absolute() and whole.is_dir() and allowed:
            return {**replay, "recordings": str(whole)}
    return None
