"""What a running agent may do through its back-channel. Every answer is data, errors too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from django.urls import reverse
from django.utils import timezone
from pydantic import BaseModel

from agents.models import Channel, Request, Run, Steer
from agents.permissions import role_to_answer
from agents.services import answers, channels, runs
from agents.services.secrets import redactor
from projects import globs, live
from projects.models import Dependency, Module
from projects.services.attention import attention_open
from projects.text import clean_text

MOST_REQUESTS = 20
MOST_PATHS = 50


class Reply(BaseModel):
    """What a tool answers. `status` is ok, waiting (ask get_answer with `id`), answered or error;
    an error has a `code` and says in `message` what to do instead."""

    status: Literal["ok", "waiting", "answered", "error"]
    message: str = ""
    code: str = ""
    id: int | None = None
    granted: bool | None = None
    answer: str = ""
    provides: list[str] = []
    modules: list[str] = []


def error(code: str, message: str, **values: Any) -> Reply:
    return Reply(status="error", code=code, message=message, **values)


GONE = error("ended", "Your run has ended; nothing that you do is kept any more. Stop.")


def report_progress(run: Run, message: str, percent: int | None = None) -> Reply:
    if not message.strip():
        return error("empty", "Say in a sentence what is done.")
    if percent is not None and not 0 <= percent <= 100:
        return error("percent", "percent is a number from 0 to 100.")
    if not channels.note(run, message.strip(), percent):
        return error("too_many", "You reported enough; go on with your work.")
    return Reply(status="ok")


def read_interface(run: Run, module: str) -> Reply:
    """What a module provides that this one needs."""
    contract = run.module.contract if run.module else None
    needs = list(contract.needs.select_related("needs__contract")) if contract else []
    for need in needs:
        other = need.needs
        if other.slug == module and need.kind != Dependency.Kind.COUPLED and other.contract:
            state = "merged" if other.status == Module.Status.MERGED else "not merged yet"
            said = f"{module} is {state}; its brief: {other.contract.brief}"
            return Reply(status="ok", message=said, provides=list(other.contract.provides))
    known = sorted(need.needs.slug for need in needs if need.kind != Dependency.Kind.COUPLED)
    return error(
        "not_needed",
        "Your module does not depend on that one. Ask for one of `modules`, or do without.",
        modules=known,
    )


def ask_person(run: Run, question: str) -> Reply:
    if not question.strip():
        return error("empty", "Ask a question that a person can answer in a sentence.")
    return _ask(run, Request.Kind.QUESTION, question.strip(), {})


def ask_exception(run: Run, paths: Sequence[str], reason: str) -> Reply:
    """May this module change paths that it does not own. Policy answers at once where it can."""
    if run.kind not in channels.ASKING:
        return _not_here(run)
    if not paths or len(paths) > MOST_PATHS or not reason.strip():
        return error("empty", f"Name 1 to {MOST_PATHS} paths, and the reason.")
    for path in paths:
        if fault := globs.fault(path):
            return error("path", f"{clean_text(path, 200)} {fault}.")
    assert run.module is not None and run.plan is not None
    reason = clean_text(reason.strip(), 2000)
    allowed = (run.plan.policies.get("exceptions") or {}).get("allow") or []
    if all(globs.matches(allowed, path) for path in paths):
        with live.change(run.project_id):
            if not runs.own(run).exists():
                return GONE
            by = live.Actor.run(run.pk)
            answers.exception_grant(run.module, paths, by, f"Policy allows it. {reason}")
        return Reply(status="answered", granted=True, message="Policy allows it: go on.")
    question = f"{run.module.slug} asks to change {', '.join(paths)}: {reason}"
    return _ask(run, Request.Kind.EXCEPTION, question, {"paths": list(paths), "reason": reason})


def propose_split(run: Run, modules: Sequence[dict[str, Any]]) -> Reply:
    """Cut the module into parts; it happens when the agent's turn ends."""
    if run.kind not in answers.SPLITTING:
        return _not_here(run)
    assert run.module is not None and run.plan is not None
    asked = {"modules": list(modules)}
    children, problem = answers.read_children(run.module, asked, run.plan)
    if problem:
        return error("split", f"{problem} Mend the parts and propose them again.")
    with live.change(run.project_id):
        if not runs.own(run).exists():
            return GONE
        Channel.objects.filter(run=run).update(split=asked)
    if answers.split_allowed(run.module, children, run.plan):
        return Reply(status="ok", message="End your turn now; the parts start then.")
    return Reply(
        status="waiting", message="End your turn now; a person is asked then whether you may."
    )


def get_answer(run: Run, id: int) -> Reply:
    """What a person answered to a question of this module's agents."""
    found = Request.objects.filter(pk=id, module=run.module_id, data__channel=True).first()
    if found is None:
        return error("unknown", "There is no such question of yours.")
    if found.answered_at is None:
        return Reply(
            status="waiting",
            id=found.pk,
            message="Nobody answered yet. Go on with what needs no answer, or end your turn: you "
            "are told the answer with your next prompt.",
        )
    # It need not be told again with the next prompt.
    told = {"told_run": run, "told_turn": run.turns + 1, "told_at": timezone.now()}
    Steer.objects.filter(request=found, told_at__isnull=True).update(**told)
    return Reply(status="answered", id=found.pk, granted=found.granted, answer=found.answer)


def _not_here(run: Run) -> Reply:
    return error("role", f"A {run.kind} can't ask that; end your turn with your answer.")


def _ask(run: Run, kind: str, question: str, data: dict[str, Any]) -> Reply:
    if run.kind not in channels.ASKING:
        return _not_here(run)
    assert run.module is not None
    secrets = redactor()
    with live.change(run.project_id) as change:
        if not runs.own(run).exists():
            return GONE
        if Request.objects.filter(run=run, data__channel=True).count() >= MOST_REQUESTS:
            return error("too_many", "You asked enough in this run; go on with what you know.")
        request = Request.objects.create(
            project_id=run.project_id,
            module=run.module,
            run=run,
            kind=kind,
            question=secrets.text(clean_text(question, 4000)),
            data=secrets.data({**data, "channel": True}),
        )
        attention_open(
            change.project,
            topic=request.topic,
            kind=kind,
            title=request.question[:300],
            url=reverse("agents:module", args=[change.project.slug, run.module.slug]),
            role=role_to_answer(request),
        )
        by = live.Actor.run(run.pk)
        change.event("request.asked", run.module.topic, by, what=kind, request=request.pk)
        change.topics.add(run.topic)
    return Reply(
        status="waiting",
        id=request.pk,
        message="A person is asked. Ask get_answer with this id, or end your turn: the answer "
        "comes with your next prompt.",
    )
