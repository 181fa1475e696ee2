"""A running agent's questions to people: may this tool be used. It waits; its run goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.urls import reverse
from django.utils import timezone

from agents.backends import acp_settings
from agents.backends.base import Question
from agents.models import Request, Run
from agents.services.secrets import redactor
from projects import live
from projects.models import Role
from projects.services.attention import attention_close, attention_open
from projects.text import clean_text

LOOK_SECONDS = 0.5
ASK_SECONDS = acp_settings.Settings.ask_seconds
UNANSWERED = "Nobody answered while the agent waited; it was told no."


@dataclass
class _Asked:
    pk: int
    looked: float


def asking_seconds(settings: dict[str, Any]) -> float:
    """How long a profile's agent waits for an answer; at most ten days."""
    return min(float(settings.get("ask_seconds", ASK_SECONDS)), 864_000.0)


class Asker:
    """Puts the questions of one turn to the project's people, one request for each.

    `seconds` is how long the agent waits for each answer.
    """

    def __init__(self, run: Run, seconds: float) -> None:
        self.run, self.seconds = run, seconds
        self.asked: dict[Question, _Asked] = {}

    def answer(self, question: Question) -> bool | None:
        """What a person answered; None while nobody did. Asks at the first call."""
        now = time.monotonic()
        if question not in self.asked:
            self.asked[question] = _Asked(self._ask(question), now)
            return None
        asked = self.asked[question]
        if now - asked.looked < LOOK_SECONDS:
            return None
        asked.looked = now
        granted = Request.objects.values_list("granted", flat=True).get(pk=asked.pk)
        if granted is not None:
            del self.asked[question]
        return granted

    def withdraw(self, question: Question) -> None:
        """Close a question that nobody answered in time."""
        asked = self.asked.pop(question, None)
        if asked is None:
            return
        with live.change(self.run.project_id) as change:
            closed = Request.objects.filter(pk=asked.pk, answered_at__isnull=True).update(
                granted=False, answer=UNANSWERED, answered_at=timezone.now()
            )
            if not closed:
                return
            request = Request.objects.get(pk=asked.pk)
            attention_close(change.project, topic=request.topic, by=live.SYSTEM)
            change.event(
                "request.answered",
                request.module.topic,
                live.SYSTEM,
                what=request.kind,
                request=request.pk,
                granted=False,
                answer=UNANSWERED,
            )

    def close(self) -> None:
        """The turn is over: nothing of it may wait for anybody any more."""
        for question in list(self.asked):
            self.withdraw(question)

    def _ask(self, question: Question) -> int:
        module = self.run.module
        assert module is not None
        secrets = redactor()
        text = secrets.text(f"May the agent of {module.slug} do this: {question.title}?")
        with live.change(self.run.project_id) as change:
            request = Request.objects.create(
                project_id=self.run.project_id,
                module=module,
                run=self.run,
                kind=Request.Kind.QUESTION,
                question=clean_text(text, 4000),
                data=secrets.data({"tool": question.tool, "paths": question.paths}),
            )
            attention_open(
                change.project,
                topic=request.topic,
                kind=request.kind,
                title=request.question[:300],
                url=reverse("agents:module", args=[change.project.slug, module.slug]),
                role=Role.MEMBER,
                deadline=timezone.now() + timedelta(seconds=self.seconds),
            )
            change.event(
                "request.asked",
                module.topic,
                live.Actor.run(self.run.pk),
                what=request.kind,
                request=request.pk,
            )
        return request.pk
