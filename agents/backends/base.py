"""What a backend is: it lets one agent take one turn in a workspace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

#: Takes one event of a run: its kind and JSON data.
Sink = Callable[[str, dict[str, Any]], None]

#: Polled by whatever waits: a reason to end, or None.
Stop = Callable[[], str | None]


@dataclass(frozen=True)
class Usage:
    """Tokens of a turn, cached ones included, and what it cost, where that is known.

    `quality` says how far to trust the tokens: exact, estimated, last_step (a part of what was
    used), unknown; `source` says which field of the agent's they come from. `cost` is an amount of
    `currency`.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    quality: str = "unknown"
    source: str = ""
    cost: float | None = None
    currency: str = ""


def joined(before: str, told: str) -> str:
    """The quality of a sum of tokens from those of its two parts; "" is that of no part at all.

    A sum that leaves out what nobody told is a part of the whole.
    """
    if not before or before == told:
        return told
    if "unknown" in (before, told):
        return "last_step"
    return max(before, told, key=("exact", "estimated", "last_step").index)


class Kept:
    """What a backend keeps from one turn of a run to the next; closed when the run ends."""

    def __init__(self) -> None:
        self.held: Held | None = None

    def hold(self, held: Held) -> None:
        """Keep something until the end of the run, in the place of what was kept before."""
        self.close()
        self.held = held

    @property
    def is_alive(self) -> bool:
        """Whether an agent waits for its next prompt; its workspace must stay in place then."""
        return self.held is not None and self.held.is_alive

    def close(self) -> None:
        held, self.held = self.held, None
        if held is not None:
            held.close()


class Held(Protocol):
    """An agent that lives on between two turns."""

    @property
    def is_alive(self) -> bool: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Question:
    """What an agent asks a person: may this tool be used on these paths of the workspace."""

    title: str
    tool: str
    paths: tuple[str, ...] = ()


class Ask(Protocol):
    """Who an agent's questions go to."""

    def answer(self, question: Question) -> bool | None:
        """The answer, or None while there is none; called again and again."""
        ...

    def withdraw(self, question: Question) -> None:
        """The agent waits for the answer no more."""
        ...


class Steers(Protocol):
    """What people tell the agent while it works."""

    def is_waiting(self) -> bool:
        """Whether the agent is to be interrupted now; called again and again."""
        ...

    def take(self) -> str:
        """The prompt that tells it; it counts as delivered from here on."""
        ...


class BackendError(Exception):
    """The agent's turn failed. `owner` is whose fault it is; a permanent one is not tried again.

    A provider that answers 429 is of kind "rate_limited" (`retry_after` in seconds), an account
    that is used up of kind "exhausted" (`resets_at`). `usage` is what the turn used until then.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        owner: str = "agent",
        permanent: bool = False,
        retry_after: float | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.owner = owner
        self.permanent = permanent
        self.retry_after = retry_after
        self.resets_at = resets_at
        self.usage = Usage()


@dataclass(frozen=True)
class Turn:
    """What one turn is asked to do, and where."""

    text: str
    module: str
    kind: str
    role: str
    number: int
    model: str
    workspace: Path
    home: Path
    settings: dict[str, Any]
    replay: dict[str, Any] | None = None
    environment: Path | None = None
    network: bool = False
    session: str = ""
    #: Sent instead of `text` to an agent that remembers the run's earlier turns.
    follow_up: str = ""
    #: Paths that the agent may change, as globs of the contract.
    owns: tuple[str, ...] = ()
    #: Files of the repository, with their text where the assignment shows it.
    files: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    #: MCP servers that the agent is to connect to, as the protocol writes them.
    mcp_servers: tuple[dict[str, Any], ...] = ()
    kept: Kept | None = None
    ask: Ask | None = None
    steers: Steers | None = None
    #: Variables with the keys of the profile's account; they are in no log and no other process.
    secrets: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass
class Outcome:
    """How a turn ended: the agent's answer, its exit code, seconds, usage and session."""

    result: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = 0
    seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)
    session: str = ""
    sandbox: str = ""


class Backend(Protocol):
    """One way to reach an agent."""

    def run(self, turn: Turn, sink: Sink, stop: Stop) -> Outcome:
        """Take one turn. Raises BackendError when the agent could not."""
        ...

    def problem(self, settings: dict[str, Any]) -> str | None:
        """What is wrong with a profile's settings, as a sentence; None when nothing is."""
        ...
