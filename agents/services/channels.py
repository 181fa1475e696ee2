"""A run's back-channel: its token, who it lets in, and whether the agent ever used it."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from agents import sandbox
from agents.models import Channel, Request, Run
from agents.services import runs
from agents.services.secrets import redactor
from agents.work import Work
from projects import live
from projects.text import clean_text

TOKEN_BYTES = 32
#: An agent that did not ask for its tools by then is taken not to know of them.
CONNECT_SECONDS = 30.0
LOOK_SECONDS = 1.0
MOST_NOTES = 500
LONGEST_NOTE = 2_000
#: Runs that an agent of works in; review and decompose only read and report.
ASKING = (Run.Kind.TESTS, Run.Kind.BUILD, Run.Kind.FIX)
BACKENDS = ("acp", "command")
BRIDGE = Path(__file__).parents[1] / "backends" / "mcp_bridge.py"
NEVER = (
    "The agent was given Tutti's tools and never asked for them, so it can't report progress or "
    "ask a person. Look whether it supports MCP servers over HTTP, and whether it reaches {url}."
)


@dataclass(frozen=True)
class Offer:
    """The address and the token that one run's agent gets."""

    url: str
    token: str = field(repr=False)

    @property
    def variables(self) -> dict[str, str]:
        return {"TUTTI_MCP_URL": self.url, "TUTTI_MCP_TOKEN": self.token}

    @property
    def servers(self) -> tuple[dict[str, Any], ...]:
        """As MCP over HTTP, or through the bridge for an agent that only starts programs."""
        server = {
            "type": "http",
            "name": "tutti",
            "url": self.url,
            "headers": {"Authorization": f"Bearer {self.token}"},
            "command": sandbox.python(),
            "args": ["-I", "-S", str(BRIDGE)],
            "env": self.variables,
        }
        return (server,)


def channel_open(run: Run) -> Offer:
    """Make the run's token; a token that it had before is dead from here on."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with live.change(run.project_id):
        if not runs.own(run).exists():
            raise runs.Fenced(f"Run {run.pk} is no longer ours.")
        values = {"fence": run.fence, "token_hash": digest(token), "connected_at": None}
        Channel.objects.update_or_create(run=run, defaults=values)
    base = settings.TUTTI_URL or "http://127.0.0.1:8000"
    return Offer(f"{base.rstrip('/')}/mcp", token)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def run_of(token: str) -> Run | None:
    """The run that a token speaks for; None for a wrong one, and once the run or lease is over."""
    if not token or len(token) > 200:
        return None
    rows = Channel.objects.select_related(
        "run", "run__project", "run__plan", "run__module", "run__module__contract"
    )
    found = rows.filter(token_hash=digest(token)).first()
    if found is None or found.fence != found.run.fence:
        return None
    return found.run if found.run.status in (Run.Status.RUNNING, Run.Status.CHECKING) else None


def connected(run: Run) -> None:
    """The agent asked which tools there are."""
    with live.change(run.project_id) as change:
        first = Channel.objects.filter(run=run, connected_at__isnull=True)
        if first.update(connected_at=timezone.now()):
            change.event("channel.connected", run.topic, live.Actor.run(run.pk), run=run.pk)


def note(run: Run, text: str, percent: int | None) -> bool:
    """Keep what an agent reports; its worker writes it into the log. False when it is too much."""
    with live.change(run.project_id):
        channel = Channel.objects.get(run=run)
        if len(channel.notes) >= MOST_NOTES:
            return False
        said = redactor().text(clean_text(text, LONGEST_NOTE))
        channel.notes.append({"text": said if percent is None else f"{said} ({percent} %)"})
        channel.save(update_fields=["notes"])
    return True


def is_asking(run: Run) -> bool:
    """Whether a person still owes this run's agent an answer."""
    return asked(run).exists()


def asked(run: Run) -> QuerySet[Request]:
    rows = Request.objects.filter(run=run, answered_at__isnull=True, data__channel=True)
    return rows.order_by("pk")


def proposed(run: Run) -> Any:
    """The parts that the agent proposed, if it did."""
    return Channel.objects.filter(run=run).values_list("split", flat=True).first()


class Line:
    """The worker's end of a run's back-channel: hears notes, and notices who never connected."""

    def __init__(self, work: Work, offer: Offer | None) -> None:
        self.work, self.offer = work, offer
        self.logged, self.began, self.looked = 0, time.monotonic(), 0.0
        self.is_settled = offer is None

    @property
    def variables(self) -> dict[str, str]:
        return self.offer.variables if self.offer else {}

    @property
    def servers(self) -> tuple[dict[str, Any], ...]:
        return self.offer.servers if self.offer else ()

    def stop(self) -> str | None:
        """The work's own stop, polled by whoever waits for the agent."""
        order = self.work.stop()
        now = time.monotonic()
        if self.offer and order is None and now - self.looked >= LOOK_SECONDS:
            self.looked = now
            self.look(is_over=now - self.began >= CONNECT_SECONDS)
        return order

    def look(self, *, is_over: bool) -> None:
        """Log what is new; when time is over, say that the agent never connected."""
        if self.offer is None:
            return
        channel = Channel.objects.get(run=self.work.run)
        for one in channel.notes[self.logged :]:
            self.work.log.add("progress", one)
        self.logged = len(channel.notes)
        if channel.connected_at is not None:
            self.is_settled = True
        elif is_over and not self.is_settled:
            self.is_settled = True
            self._warn(channel)

    def _warn(self, channel: Channel) -> None:
        run = self.work.run
        assert self.offer is not None
        with live.change(run.project_id) as change:
            Channel.objects.filter(pk=channel.pk).update(warned_at=timezone.now())
            change.event("channel.unused", run.topic, live.SYSTEM, run=run.pk)
        self.work.log.add("warning", {"text": NEVER.format(url=self.offer.url)})


def line(work: Work, backend: str, *, network: bool) -> Line:
    """The back-channel of a run, the same for all its turns; without a network there is none."""
    if work.line is None:
        can = network and backend in BACKENDS and work.run.module_id is not None
        offer = channel_open(work.run) if can else None
        if offer:
            work.log.hide(offer.token)
        work.line = Line(work, offer)
    assert isinstance(work.line, Line)
    return work.line
