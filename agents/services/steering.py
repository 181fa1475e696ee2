"""What people tell a running agent: written, delivered with its next prompt, and its receipt."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.utils import timezone

from agents.assignments import Assignment
from agents.models import Run, Steer
from agents.models.steer import ENDED
from agents.scheduler import STATUS_OF
from agents.services import runs
from agents.services.secrets import redactor
from agents.work import Work
from projects import live
from projects.models import Module
from projects.services.errors import Problem, Refused
from projects.text import clean_text

LONGEST = 10_000
LOOK_SECONDS = 0.5
#: Backends whose agent can be interrupted and goes on in the same session.
AT_ONCE = ("acp",)
#: Events that an agent gives only after it got its prompt.
WORDS = frozenset(
    ("message", "thought", "tool", "tool_update", "plan", "write", "delete", "usage", "permission",
     "result", "update")
)  # fmt: skip


class Unheard(Exception):
    """Somebody wrote to the agent that was about to end its run."""


def steer_write(run: Run, text: str, by: User, *, at_once: bool = False) -> Steer:
    """Tell a run's agent something: with its next prompt, or at once where its backend can.

    What is written to a run that has just ended is kept for the module's next one. Raises Refused
    when there is no agent to tell.
    """
    text = redactor().text(clean_text(text.strip()))
    if not text:
        raise Refused("Write what the agent is to know.", problems=[Problem("", "text", "Empty.")])
    if len(text) > LONGEST:
        said = f"A message to an agent has at most {LONGEST} characters; this one has {len(text)}."
        raise Refused(said, problems=[Problem("", "text", "Too long.")])
    actor = live.Actor.person(by)
    with live.change(run.project_id) as change:
        run.refresh_from_db(fields=["status", "backend", "needs_slot"])
        module = _module_of(run)
        steer = Steer.objects.create(
            project_id=run.project_id,
            module=module,
            run=run,
            text=text,
            at_once=at_once and run.backend in AT_ONCE,
            by=by,
        )
        written = {"run": run.pk, "steer": steer.pk, "text": text, "at_once": steer.at_once}
        change.event("steer.written", run.topic, actor, module=module.slug, **written)
        change.topics.add(module.topic)
    return steer


def _module_of(run: Run) -> Module:
    if run.module_id is None:
        raise Refused(
            "This run belongs to the plan as a whole. Edit the plan that it proposes, or stop it "
            "and ask again with another goal."
        )
    if not run.needs_slot:
        raise Refused("No agent works in this run; write to the next one of its module.")
    module = Module.objects.get(pk=run.module_id)
    if not run.is_active and module.status in ENDED:
        raise Refused(
            f"The run ended, and {module.slug} is {module.status}: nobody is left to tell."
        )
    return module


def waiting(run: Run) -> QuerySet[Steer]:
    """What this run's agent was not told yet, what was kept from earlier runs included."""
    rows = Steer.objects.filter(module=run.module_id, told_at__isnull=True)
    return rows.select_related("by").order_by("pk")


def shown(run: Run) -> list[Steer]:
    """What the page of a run shows: what was written to it, and what it was told."""
    rows = Steer.objects.filter(Q(run=run) | Q(told_run=run))
    return list(rows.select_related("by", "run", "module").order_by("pk"))


def added(assignment: Assignment, run: Run, fresh: Sequence[Steer]) -> Assignment:
    """An assignment with what people told the agents of this work; the fresh ones follow up."""
    before = Steer.objects.filter(
        module=run.module_id, told_run__kind=run.kind, told_run__plan=run.plan_id
    )
    known = [*before.select_related("by").order_by("pk"), *fresh]
    if not known:
        return assignment
    text = f"{assignment.text}\n\n# What people told the agent of this work\n{listed(known)}"
    follow_up = assignment.follow_up
    if fresh:
        follow_up = "\n\n".join(part for part in (follow_up, follow_up_of(fresh)) if part)
    return replace(assignment, text=text, follow_up=follow_up)


def follow_up_of(steers: Sequence[Steer]) -> str:
    """The prompt that tells an agent that remembers the rest."""
    return (
        f"# What people tell you now\n{listed(steers)}\n\n"
        "Go on with your task with this in mind. Then answer in the same form as before."
    )


def listed(steers: Sequence[Steer]) -> str:
    return "\n".join(f"- {steer.by.get_username()}: {steer.text}" for steer in steers)


class Delivery:
    """What goes with one prompt: marked as delivered at the first word of the agent's."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.turn = work.run.turns + 1
        self.fresh = list(waiting(work.run)) if work.run.module_id else []
        self.looked = time.monotonic()

    def heard(self, kind: str) -> None:
        """The agent gave a sign; whoever speaks after a prompt has read it."""
        if self.fresh and kind in WORDS:
            self.done()

    def done(self) -> None:
        """Write the receipts of what went with the prompt."""
        fresh, self.fresh = self.fresh, []
        if fresh:
            _told(self.work, fresh, self.turn)

    def is_waiting(self) -> bool:
        """Whether somebody wants the agent to be interrupted now; called again and again."""
        now = time.monotonic()
        if not self.work.run.module_id or now - self.looked < LOOK_SECONDS:
            return False
        self.looked = now
        # What goes with this prompt interrupts nothing.
        known = [one.pk for one in self.fresh]
        return waiting(self.work.run).filter(at_once=True).exclude(pk__in=known).exists()

    def take(self) -> str:
        """What the interrupted agent is told next, delivered herewith."""
        self.done()
        fresh = list(waiting(self.work.run))
        text = follow_up_of(fresh)
        sent = [dict(one) for one in self.work.run.assignments]
        sent[-1]["told"] = [*sent[-1].get("told", []), text]
        runs.run_update(self.work.run, assignments=sent)
        _told(self.work, fresh, self.turn)
        return text


def _told(work: Work, steers: Sequence[Steer], turn: int) -> None:
    run = work.run
    with live.change(run.project_id) as change:
        if not runs.own(run).exists():
            raise runs.Fenced(f"Run {run.pk} is no longer ours.")
        told = Steer.objects.filter(pk__in=[one.pk for one in steers], told_at__isnull=True)
        numbers = sorted(told.values_list("pk", flat=True))
        told.update(told_run=run, told_turn=turn, told_at=timezone.now())
        change.event(
            "steer.delivered", run.topic, live.Actor.run(run.pk), run=run.pk, turn=turn,
            steers=numbers,
        )  # fmt: skip
        change.topics |= {one.run.topic for one in steers}
    for one in steers:
        work.log.add("steer", {"by": one.by.get_username(), "text": one.text, "turn": turn})


def heard(work: Work, then: Callable[[live.Change], None]) -> Callable[[live.Change], None]:
    """End a run only when nothing is left to tell its agent. The project is locked meanwhile, so
    whoever writes later finds that the run has ended.

    The function that comes back raises Unheard; `again` is what to do then.
    """

    def checked(change: live.Change) -> None:
        if work.run.needs_slot and waiting(work.run).exists():
            raise Unheard
        then(change)

    return checked


def again(work: Work, **module: Any) -> None:
    """The turn was good, and another one follows with what people wrote: keep what it made."""
    run = work.run
    # The end that was rolled back is still in memory.
    run.refresh_from_db(
        fields=["status", "holds_slot", "slot_wanted_at", "ended_at", "reason", "reason_kind",
                "reason_owner"]
    )  # fmt: skip
    with live.change(run.project_id) as change:
        runs.run_update(run, turns=run.turns + 1)
        if module:
            at_work = Module.objects.filter(pk=work.module.pk, status=STATUS_OF[Run.Kind(run.kind)])
            at_work.update(**module)
        change.event("steer.turn", run.topic, live.Actor.run(run.pk), run=run.pk, turn=run.turns)
    work.reload()
