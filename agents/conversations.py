"""What the orchestrator knows of a plan: one immutable prefix, and a branch for each module."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Max

from agents.models import Conversation, ConversationEntry, Run
from projects import live, plancontent
from projects.models import Module, Plan
from projects.specs import ModuleSpec

K = ConversationEntry.Kind


def conversation_of(plan: Plan) -> Conversation:
    """The plan's conversation: what was proposed, what people approved, then all else.

    A plan that people cut themselves begins with what they approved.
    """
    approved = ConversationEntry.objects.filter(kind=K.DECOMPOSITION, run_topic="")
    found = approved.filter(conversation__plan=plan).select_related("conversation").first()
    if found:
        return found.conversation
    with live.change(plan.project_id):
        conversation, _ = Conversation.objects.get_or_create(plan=plan)
        if not approved.filter(conversation=conversation).exists():
            _append(conversation, K.DECOMPOSITION, decomposition(plan))
    return conversation


def propose(run: Run, goal: str, specs: Sequence[ModuleSpec], summary: str) -> None:
    """Keep what the orchestrator cut, before anybody approved it: the plan's story begins here."""
    assert run.plan is not None
    lines = [f"Goal: {goal or '-'}", f"Proposed by the orchestrator (run {run.pk}):", *cut(specs)]
    with live.change(run.project_id):
        conversation, _ = Conversation.objects.get_or_create(plan=run.plan)
        _append(conversation, K.DECOMPOSITION, "\n".join([*lines, summary]).strip(), run=run)


def decomposition(plan: Plan) -> str:
    """The approved cut in words, one line a module."""
    by = plan.decided_by.get_username() if plan.decided_by else "nobody"
    lines = [f"Goal: {plan.goal or '-'}", f"Plan {plan.number}, approved by {by}:"]
    return "\n".join([*lines, *cut(plancontent.plan_specs(plan))])


def cut(specs: Sequence[ModuleSpec]) -> list[str]:
    """One line a module: what it owns, needs and is coupled with."""
    lines = []
    for spec in specs:
        needs = ", ".join(f"{need.module} ({need.kind})" for need in spec.needs) or "nothing"
        lane = f"; lane {spec.lane}" if spec.lane else ""
        lines.append(f"- {spec.slug}: owns {', '.join(spec.owns)}; needs {needs}{lane}")
    return lines


def delegate(run: Run, text: str) -> None:
    """Keep what a module's agent was told, in the prefix that its reviews will branch off."""
    assert run.plan is not None
    with live.change(run.project_id):
        _append(conversation_of(run.plan), K.DELEGATION, text, module=run.module, run=run)


def remember(run: Run, kind: str, text: str) -> None:
    """Keep a judgement or a fix on the branch of its module."""
    assert run.plan is not None and run.module is not None
    with live.change(run.project_id):
        _append(
            conversation_of(run.plan),
            kind,
            text,
            module=run.module,
            run=run,
            branch=run.module.topic,
        )


def context(plan: Plan, module: Module) -> str:
    """The prefix, and what was said on this module's branch: what a review continues from."""
    entries = conversation_of(plan).entries.filter(branch__in=["", module.topic])
    return "\n\n".join(f"[{entry.kind}] {entry.text}" for entry in entries)


def _append(
    conversation: Conversation,
    kind: str,
    text: str,
    *,
    module: Module | None = None,
    run: Run | None = None,
    branch: str = "",
) -> None:
    newest = conversation.entries.aggregate(n=Max("sequence"))["n"] or 0
    ConversationEntry.objects.create(
        conversation=conversation,
        sequence=newest + 1,
        kind=kind,
        module=module,
        run_topic=run.topic if run else "",
        branch=branch,
        text=text,
    )
