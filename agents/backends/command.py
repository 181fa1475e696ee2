"""Any agent with a command line: the prompt goes in by file or stdin, lines come out."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agents import sandbox
from agents.backends.base import BackendError, Outcome, Sink, Stop, Turn, Usage
from projects.text import clean_text

DEFAULT_TIMEOUT = 3600.0
DEFAULT_IDLE = 300.0
LONGEST_TEXT = 20_000


class Listener:
    """Turns an agent's output lines into events and keeps its answer and usage.

    A line that is a JSON object with `event` is an event of Tutti's own format; everything else
    is plain text. The last JSON object on a line of its own with a key `tutti` is the answer.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.outcome = Outcome()
        self.refusal: BackendError | None = None

    def line(self, raw: bytes) -> None:
        text = clean_text(raw, LONGEST_TEXT).rstrip("\n")
        data = _json_object(text)
        if data is None:
            if text.strip():
                self.sink("message", {"text": text})
        elif "event" in data:
            self.event(str(data.pop("event")), data)
        elif isinstance(data.get("tutti"), dict):
            self.outcome.result = data["tutti"]
            self.sink("result", {"data": self.outcome.result})
        else:
            self.sink("message", {"text": text})

    def event(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "result" and isinstance(data.get("data"), dict):
            self.outcome.result = data["data"]
        elif kind == "usage":
            self.outcome.usage = _usage(data)
        elif kind == "session":
            self.outcome.session = str(data.get("id", ""))[:200]
        elif kind == "error":
            self.refusal = _refusal(data) or self.refusal
        self.sink(kind[:30], data)


def run_agent(
    argv: list[str], turn: Turn, sink: Sink, stop: Stop, *, stdin: bytes, readable: list[Path]
) -> Outcome:
    """Start an agent's command in the sandbox and listen until it ends."""
    listener = Listener(sink)
    ended = sandbox.run(
        argv,
        workspace=turn.workspace,
        writable=[turn.home],
        readable=readable,
        env=_environment(turn),
        network=turn.network,
        environment=turn.environment,
        stdin=stdin,
        timeout_seconds=float(turn.settings.get("timeout_seconds", DEFAULT_TIMEOUT)),
        idle_seconds=float(turn.settings.get("idle_seconds", DEFAULT_IDLE)),
        on_line=listener.line,
        stop=stop,
        limits=sandbox.Limits(memory_mb=turn.settings.get("memory_mb")),
    )
    outcome = listener.outcome
    outcome.exit_code, outcome.seconds, outcome.sandbox = ended.code, ended.seconds, ended.level
    try:
        _look(ended, listener, turn)
    except BackendError as error:
        error.usage = outcome.usage
        raise
    return outcome


def _look(ended: sandbox.Exited, listener: Listener, turn: Turn) -> None:
    """Raises BackendError when the turn did not end well."""
    if ended.reason and ended.reason.startswith("stopped"):
        return
    # An agent that got over a refusal and answered has ended well.
    if listener.refusal and (ended.reason or ended.code != 0 or not listener.outcome.result):
        raise listener.refusal
    if ended.reason:
        if ended.reason == "out_of_memory":
            raise out_of_memory(ended, turn)
        raise BackendError(_sentence(ended.reason, turn), kind=ended.reason)
    if ended.code is None and not ended.reason:
        # What nobody here ordered did not end well, whatever it had said until then.
        raise BackendError(f"The agent was ended from outside by signal {ended.signal}.",
                           kind="signal")  # fmt: skip
    if ended.code and not ended.reason:
        said = clean_text(ended.output, 500).strip().splitlines()
        last = f": {said[-1]}" if said else ""
        raise BackendError(f"The agent ended with exit code {ended.code}{last}.", kind="exit")


class CommandBackend:
    """Settings: command (argv template with {prompt_file}, {model}, {cwd}), env, network,
    timeout_seconds, idle_seconds, memory_mb (of all its processes together), readable (further
    paths the agent's program needs)."""

    def run(self, turn: Turn, sink: Sink, stop: Stop) -> Outcome:
        if problem := self.problem(turn.settings):
            raise BackendError(problem, kind="settings", owner="tutti", permanent=True)
        prompt = turn.home / "prompt.md"
        prompt.write_text(turn.text, encoding="utf-8")
        words = {"prompt_file": str(prompt), "model": turn.model, "cwd": str(turn.workspace)}
        argv = [_fill(part, words) for part in turn.settings["command"]]
        readable = [Path(path) for path in turn.settings.get("readable", [])]
        return run_agent(argv, turn, sink, stop, stdin=turn.text.encode(), readable=readable)

    def problem(self, settings: dict[str, Any]) -> str | None:
        command = settings.get("command")
        if not isinstance(command, list) or not command:
            return 'Give the command as a list of words, e.g. {"command": ["my-agent", "--json"]}.'
        if not all(isinstance(part, str) and "\0" not in part for part in command):
            return "Each word of the command is a text."
        for name in ("timeout_seconds", "idle_seconds"):
            value = settings.get(name, 1)
            if not isinstance(value, int | float) or value <= 0:
                return f"{name} is a number of seconds above 0."
        memory = settings.get("memory_mb", 1)
        if not isinstance(memory, int) or isinstance(memory, bool) or memory <= 0:
            return "memory_mb is a whole number of megabytes above 0."
        return None


def out_of_memory(ended: sandbox.Exited, turn: Turn) -> BackendError:
    """The agent's own limit is the agent's matter; a machine that is too small is Tutti's."""
    limit = turn.settings.get("memory_mb")
    used = f"{ended.memory_peak_mb or '?'} MB"
    if limit and (ended.memory_peak_mb or 0) * 1_048_576 >= 0.9 * limit * 1_000_000:
        return BackendError(
            f"Out of memory: the agent was ended because it used {used} of the {limit} MB that its"
            " profile allows. Raise memory_mb in the role's profile, or make the module smaller.",
            kind="out_of_memory",
        )
    return BackendError(
        f"Out of memory: the system ended the agent ({used} when last seen) because this"
        " machine had no more. Lower the project's ceiling, or give the machine more memory.",
        kind="out_of_memory",
        owner="tutti",
    )


def _fill(part: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        part = part.replace("{" + name + "}", value)
    return part


def _environment(turn: Turn) -> dict[str, str]:
    """Only what the profile names reaches an agent, never the server's own environment."""
    allowed = turn.settings.get("env", [])
    passed = {name: os.environ[name] for name in allowed if name in os.environ}
    return {**passed, "HOME": str(turn.home), "LANG": "C.UTF-8", "TERM": "dumb"}


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _refusal(data: dict[str, Any]) -> BackendError | None:
    """What the provider refused, as the agent's event says it; None for any other error."""
    kind, seconds = data.get("kind"), data.get("retry_after")
    if kind == "rate_limited":
        known = isinstance(seconds, int | float) and 0 <= seconds < 10**7
        return BackendError(
            "The provider answered that requests come too fast (429).",
            kind=kind,
            owner="provider",
            retry_after=float(str(seconds)) if known else None,
        )
    if kind == "exhausted":
        said = clean_text(str(data.get("message", "")), 300).strip()
        return BackendError(
            said or "The provider's account is used up.",
            kind=kind,
            owner="provider",
            resets_at=_instant(data.get("resets_at")),
        )
    return None


def _instant(raw: Any) -> datetime | None:
    """A moment as ISO 8601; without a zone it is UTC. None when it is none."""
    try:
        found = datetime.fromisoformat(str(raw))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _usage(data: dict[str, Any]) -> Usage:
    def count(name: str) -> int | None:
        value = data.get(name)
        return value if isinstance(value, int) and 0 <= value < 10**12 else None

    quality = str(data.get("quality", "exact"))
    known = count("input_tokens") is not None
    return Usage(
        count("input_tokens"), count("output_tokens"), quality[:12] if known else "unknown"
    )


def _sentence(reason: str, turn: Turn) -> str:
    return {
        "timeout": "The agent did not end within its time limit and was stopped.",
        "idle": "The agent gave no sign for too long and was stopped.",
        "output": "The agent printed more than is kept and was stopped.",
    }.get(reason, f"The agent was stopped: {reason}.")
