"""A model API, for roles that answer in a structure: cut a goal, judge a change, mend it small."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agents.backends.base import BackendError, Outcome, Sink, Stop, Turn, Usage
from agents.backends.command import given_problem, run_agent
from agents.backends.events import Words
from agents.backends.replay import PLAYER, interpreter

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_ai.messages import ModelMessage

    from agents.backends.llm_talk import Talk

#: The kinds of run that this backend can take.
KINDS = ("decompose", "review", "fix", "test")
POLL_SECONDS = 0.1
STOP_SECONDS = 0.5
OUTPUTS = ("tool", "native", "prompted")
KNOWN = ("base_url", "temperature", "max_tokens", "timeout_seconds", "output", "env", "network")


@dataclass
class Memory:
    """What was said in a run so far: its next turn goes on from there."""

    model: str
    messages: list[ModelMessage] = field(default_factory=list)

    @property
    def is_alive(self) -> bool:
        return True

    def close(self) -> None:
        self.messages = []


class LlmBackend:
    """Settings: base_url (of any OpenAI-compatible server), temperature, max_tokens,
    timeout_seconds (of a whole turn), output (tool, native or prompted: how the structure is asked
    for), env (names of the server's variables that may hold the key)."""

    def run(self, turn: Turn, sink: Sink, stop: Stop) -> Outcome:
        if problem := self.problem(turn.settings):
            raise BackendError(problem, kind="settings", owner="tutti", permanent=True)
        if turn.kind not in KINDS:
            raise BackendError(
                f"A model without an agent can't do {turn.kind}: it only cuts goals, reviews and "
                "fixes. Choose an agent for this role in the project's settings.",
                kind="settings",
                owner="tutti",
                permanent=True,
            )
        # The library takes half a second to import, which only a run of its own should wait for.
        from agents.backends.llm_talk import Talk

        began = time.monotonic()
        words = Words(turn.secrets.values(), turn.workspace)
        held = turn.kept.held if turn.kept else None
        goes_on = isinstance(held, Memory) and held.model == turn.model and bool(turn.follow_up)
        history = held.messages if goes_on and isinstance(held, Memory) else []
        talk = Talk(turn, history, turn.follow_up if goes_on else turn.text)
        sink("request", {"model": turn.model, "instructions": talk.instructions})
        outcome = Outcome(exit_code=None, sandbox="none")
        is_stopped = _listen(talk, sink, stop, words)
        outcome.usage = talk.usage()
        outcome.seconds = time.monotonic() - began
        _tell_usage(outcome.usage, sink)
        if is_stopped:
            return outcome
        if talk.answer is None:
            raise _failed(talk, turn, words)
        if turn.kept:
            turn.kept.hold(Memory(turn.model, talk.messages))
        return _ended(talk.answer, turn, sink, stop, words, outcome)

    def problem(self, settings: Mapping[str, Any]) -> str | None:
        unknown = sorted(set(settings) - set(KNOWN))
        if unknown:
            return f"{unknown[0]} is no setting of a model; known are {', '.join(KNOWN)}."
        if (url := settings.get("base_url")) and (problem := url_problem(url)):
            return problem
        for name, most in (("temperature", 2), ("timeout_seconds", 86_400), ("max_tokens", 10**7)):
            value = settings.get(name, 1)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not (0 if name == "temperature" else 1e-9) <= value <= most:
                return f"{name} is a number up to {most}."
        if not isinstance(settings.get("max_tokens", 1), int):
            return "max_tokens is a whole number."
        if settings.get("output", "tool") not in OUTPUTS:
            return f"output is one of {', '.join(OUTPUTS)}."
        return given_problem({"env": settings.get("env", [])})


def url_problem(url: Any) -> str | None:
    """What is wrong with a base URL, as a sentence; None when nothing is."""
    wanted = "base_url is an address such as http://127.0.0.1:11434/v1."
    if not isinstance(url, str) or not url.isprintable():
        return wanted
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return wanted
    if parts.scheme not in ("http", "https") or not host:
        return wanted
    if parts.username or parts.password or parts.query or parts.fragment:
        return "base_url holds no user, key or query; the key belongs to the profile's provider."
    if host.startswith("169.254.") or host.lower().startswith("fe80:"):
        return f"{host} belongs to the machine's own cloud and is no model API."
    return None


def _listen(talk: Talk, sink: Sink, stop: Stop, words: Words) -> bool:
    """Wait for the answer and pass on what happens; whether it was stopped before."""
    talk.start()
    while not talk.done.wait(POLL_SECONDS):
        _pass_on(talk, sink, words)
        if stop() is not None:
            talk.cancel()
            talk.done.wait(STOP_SECONDS)
            return talk.answer is None
    _pass_on(talk, sink, words)
    return False


def _pass_on(talk: Talk, sink: Sink, words: Words) -> None:
    for kind, data in talk.events():
        sink(kind, words.event(kind, data))


def _tell_usage(usage: Usage, sink: Sink) -> None:
    if usage.quality != "unknown":
        sink("usage", {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens,
                       "quality": usage.quality, "cost": usage.cost})  # fmt: skip


def _failed(talk: Talk, turn: Turn, words: Words) -> BackendError:
    from agents.backends.llm_errors import error_of

    where = str(turn.settings.get("base_url") or turn.model.partition(":")[0])
    error = error_of(talk.error or RuntimeError("no answer"), turn.model, where, words)
    error.usage = talk.usage()
    error.__cause__ = talk.error
    return error


def _ended(
    answer: BaseModel, turn: Turn, sink: Sink, stop: Stop, words: Words, outcome: Outcome
) -> Outcome:
    """Keep the answer, and carry out edits where it holds some."""
    from agents.backends.llm_answers import Mending, edited, result_of

    outcome.exit_code = 0
    if isinstance(answer, Mending):
        written = _write(edited(answer.edits, turn.files, turn.owns), turn, sink, stop)
        outcome.exit_code, outcome.sandbox = written.exit_code, written.sandbox
    outcome.result = words.data(result_of(answer))
    if summary := outcome.result.get("summary"):
        sink("message", words.event("message", {"text": summary}))
    sink("result", {"data": outcome.result})
    return outcome


def _write(files: Mapping[str, str], turn: Turn, sink: Sink, stop: Stop) -> Outcome:
    """Write whole files into the workspace, by a process in the sandbox."""
    head = {"format": "tutti-recording/1", "module": turn.module, "role": turn.role}
    lines = [{"event": "write", "path": path, "content": text} for path, text in files.items()]
    script = "".join(json.dumps(line) + "\n" for line in (head, *lines, {"event": "exit"}))
    plain = replace(turn, settings={}, secrets={}, network=False)
    argv = [sys.executable, "-I", "-S", str(PLAYER)]
    readable = [PLAYER, *interpreter()]
    return run_agent(argv, plain, sink, stop, stdin=script.encode(), readable=readable)
