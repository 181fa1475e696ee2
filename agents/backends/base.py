"""What a backend is: it lets one agent take one turn in a workspace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

#: Takes one event of a run: its kind and JSON data.
Sink = Callable[[str, dict[str, Any]], None]

#: Polled by whatever waits: a reason to end, or None.
Stop = Callable[[], str | None]


class BackendError(Exception):
    """The agent's turn failed. `owner` is whose fault it is; a permanent one is not tried again."""

    def __init__(
        self, message: str, *, kind: str, owner: str = "agent", permanent: bool = False
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.owner = owner
        self.permanent = permanent


@dataclass(frozen=True)
class Usage:
    """Tokens of a turn; `quality` says how far to trust them: exact, estimated or unknown."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    quality: str = "unknown"


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
