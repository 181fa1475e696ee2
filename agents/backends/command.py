"""Any agent with a command line: the prompt goes in by file or stdin, lines come out."""

from __future__ import annotations

import os
import re
import signal
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings as site

from agents import sandbox
from agents.backends import events, formats
from agents.backends.base import BackendError, Outcome, Sink, Stop, Turn, Usage
from agents.backends.finals import answer_of
from agents.backends.mistakes import NOT_FOUND, failure, missing
from agents.backends.troubles import THEN, Trouble, trouble_of
from projects.text import clean_text

DEFAULT_TIMEOUT = 3600.0
DEFAULT_IDLE = 300.0
#: Variables of the server that open the server itself.
OWN_VARIABLES = {"SECRET_KEY", "DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The sandbox's own program starts with these variables, before anything is confined.
_FORBIDDEN = ("LD_", "DYLD_", "GLIBC_", "GCONV_", "LOCPATH", "NLSPATH", "TUTTI_")
#: Bytes of one line; some agents print whole files in one. What is longer is cut.
MAX_LINE = 4_000_000


class Listener:
    """Turns an agent's output lines into events and keeps its answer and usage.

    In the format "tutti" a line that is a JSON object with `event` is an event, and everything
    else is plain text; the last JSON object on a line of its own with a key `tutti` is the answer.
    In "text" all is text. In an agent's own format its table reads the lines. Secrets that the
    agent was given are taken out before anything is cut.
    """

    def __init__(self, sink: Sink, turn: Turn | None = None) -> None:
        self.kind = turn.kind if turn else ""
        self.format = str(turn.settings.get("format", "tutti")) if turn else "tutti"
        table = formats.FORMATS.get(self.format)
        self.reader = formats.Reader(table, datetime.now(UTC)) if table else None
        self.words = events.Words(turn.secrets.values(), turn.workspace) if turn else events.Words()
        self.sink = sink
        self.said: deque[str] = deque(maxlen=2_000)
        self.outcome = Outcome()
        self.refusal: BackendError | None = None
        self.has_said = False

    def line(self, raw: bytes) -> None:
        text = raw.decode("utf-8", "replace").rstrip("\r\n")
        self.has_said = True
        try:
            self._line(text)
        except RecursionError:
            self._say("message", {"text": text})

    def _line(self, text: str) -> None:
        if self.reader:
            for kind, said in self.reader.line(text):
                self._say(kind, said)
            return
        data = formats.json_object(text) if self.format == "tutti" else None
        if data is None:
            self.said.append(text)
            if text.strip():
                self._say("message", {"text": text})
        elif "event" in data:
            self.event(str(data.pop("event")), self.words.data(data))
        elif isinstance(data.get("tutti"), dict):
            self.outcome.result = self.words.data(data["tutti"])
            self.sink("result", {"data": self.outcome.result})
        else:
            self._say("message", {"text": text})

    def _say(self, kind: str, data: dict[str, Any]) -> None:
        self.sink(kind[:30], self.words.event(kind, data))

    def close(self) -> None:
        """The turn is over: what its last words answer, and what it used."""
        if self.reader:
            for kind, data in self.reader.close():
                self._say(kind, data)
            self.outcome.session = self.words.data(self.reader.session)
            self.outcome.usage = used = self.reader.usage
            if used.quality != "unknown":
                tokens = {"input_tokens": used.input_tokens, "output_tokens": used.output_tokens}
                self.sink("usage", {**tokens, "quality": used.quality, "cost": used.cost})
        if self.format == "tutti" or self.outcome.result:
            return
        final = self.reader.final if self.reader else "\n".join(self.said)
        if found := self.words.data(answer_of(final[-formats.LONGEST_FINAL :], self.kind)):
            self.outcome.result = found
            self.sink("result", {"data": found})

    def failed(self, *, badly: bool) -> BackendError | None:
        """What the agent itself said of a turn that failed."""
        trouble = self.reader.failed(badly=badly) if self.reader else None
        return refused(trouble, self.words) if trouble else None

    def event(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "result" and isinstance(data.get("data"), dict):
            self.outcome.result = data["data"]
        elif kind == "usage":
            self.outcome.usage = _usage(data)
        elif kind == "session":
            self.outcome.session = str(data.get("id", ""))[:200]
        elif kind == "error":
            self.refusal = _refusal(data) or self.refusal
        self._say(kind, data)


def run_agent(
    argv: list[str], turn: Turn, sink: Sink, stop: Stop, *, stdin: bytes, readable: list[Path]
) -> Outcome:
    """Start an agent's command in the sandbox and listen until it ends."""
    listener = Listener(sink, turn)
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
        max_line=MAX_LINE,
        stop=stop,
        limits=sandbox.Limits(memory_mb=turn.settings.get("memory_mb")),
    )
    outcome = listener.outcome
    outcome.exit_code, outcome.seconds, outcome.sandbox = ended.code, ended.seconds, ended.level
    listener.close()
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
    if error := listener.failed(badly=bool(ended.reason or ended.code)):
        raise error
    if ended.reason:
        if ended.reason == "out_of_memory":
            raise out_of_memory(ended, turn)
        silence = trouble_of(listener.words.text(ended.output)[-600:], datetime.now(UTC))
        if ended.reason == "idle" and silence.is_provider and listener.format != "tutti":
            raise refused(silence, listener.words)
        raise BackendError(_sentence(ended.reason, turn), kind=ended.reason)
    if ended.code is None or ended.signal == signal.SIGKILL:
        # What nobody here ordered did not end well, whatever it had said until then.
        raise BackendError(f"The agent was ended from outside by signal {ended.signal}.",
                           kind="signal")  # fmt: skip
    if ended.code and not ended.reason:
        output = listener.words.text(ended.output)
        if ended.code in NOT_FOUND and not listener.has_said:
            program = turn.settings["command"][0] if "command" in turn.settings else "The program"
            raise missing(program, _last(output))
        trouble = trouble_of(output[-2_000:], datetime.now(UTC))
        if trouble.is_provider and listener.format != "tutti":
            raise refused(trouble, listener.words)
        last = f": {said}" if (said := _last(output)) else ""
        raise failure(f"The agent ended with exit code {ended.code}{last}.", "exit")
    if listener.reader and not listener.reader.is_done:
        raise BackendError(
            f"The agent ended without the line that closes a turn in {listener.format}; what it "
            "said until then is in the log. Look whether its command asks for that format.",
            kind="no_result",
        )


class CommandBackend:
    """Settings: command (argv template with {prompt_file}, {model}, {cwd}), format (how its
    output is read, see formats.FORMATS), env (names of variables that are passed on), variables
    (with their values), network, timeout_seconds, idle_seconds, memory_mb (of all its processes
    together), readable (further paths the agent's program needs)."""

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
        if settings.get("format", "tutti") not in formats.FORMATS:
            return f"format is one of {', '.join(sorted(formats.FORMATS))}."
        if problem := given_problem(settings):
            return problem
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


def given_problem(settings: dict[str, Any]) -> str | None:
    """What of the server's own a profile must not hand to an agent."""
    env, readable = settings.get("env", []), settings.get("readable", [])
    for name, value in (("env", env), ("readable", readable)):
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            return f"{name} is a list of texts."
    for name in env:
        if name.startswith("TUTTI_") or name in OWN_VARIABLES:
            return f"{name} is the server's own and is given to no agent."
    home = Path(site.TUTTI_HOME).resolve()
    for path in readable:
        whole = Path(path).resolve()
        if home.is_relative_to(whole) or (whole.is_relative_to(home) and whole.parent == home):
            return f"{path} holds Tutti's own data and is given to no agent."
    return _variables_problem(settings.get("variables", {}))


def _variables_problem(variables: Any) -> str | None:
    if not isinstance(variables, dict) or not all(
        isinstance(one, str) and "\0" not in one for one in [*variables, *variables.values()]
    ):
        return 'variables is an object of texts, e.g. {"MY_AGENT_HOME": "/opt/my-agent"}.'
    for name in variables:
        if not _NAME.fullmatch(name) or name.startswith(_FORBIDDEN):
            return f"{name} is no variable that an agent may be given."
    return None


def search_path(readable: Iterable[Path], environment: Path | None) -> str:
    """Programs are found in the readable directories too, for most agents are installed apart."""
    own = [str(folder) for path in readable for folder in (path, path / "bin",
           path / "node_modules" / ".bin") if Path(folder).is_dir()]  # fmt: skip
    first = [str(environment / "bin")] if environment else []
    return ":".join([*first, *own, "/usr/local/bin:/usr/bin:/bin"])


def _last(output: str) -> str:
    lines = clean_text(output, 500).strip().splitlines()
    return lines[-1] if lines else ""


def _fill(part: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        part = part.replace("{" + name + "}", value)
    return part


def _environment(turn: Turn) -> dict[str, str]:
    """Only what the profile names reaches an agent, never the server's own environment."""
    allowed = turn.settings.get("env", [])
    passed = {name: os.environ[name] for name in allowed if name in os.environ}
    own = {"HOME": str(turn.home), "LANG": "C.UTF-8", "TERM": "dumb"}
    if readable := [Path(path) for path in turn.settings.get("readable", [])]:
        own["PATH"] = search_path(readable, turn.environment)
    return {**passed, **turn.settings.get("variables", {}), **turn.secrets, **own}


def refused(trouble: Trouble, words: events.Words) -> BackendError:
    """A trouble as the error of the turn, and whose it is."""
    said = words.text(trouble.message)
    if not trouble.is_provider:
        return failure(f"The agent failed: {said}", trouble.kind)
    sentences = {
        "rate_limited": f"The provider answered that requests come too fast: {said}",
        "overloaded": f"The provider is overloaded: {said}",
        "exhausted": f"The provider's account is used up: {said}",
        "signed_out": f"The agent is not signed in: {said} Enter the account's key at its provider"
        " on the site's page, or choose another provider in the role's profile, and retry.",
    }
    then = f". {THEN[trouble.kind]}" if trouble.kind in THEN else ""
    return BackendError(
        sentences[trouble.kind].rstrip(". " if then else "") + then,
        kind=trouble.kind,
        owner="provider",
        retry_after=trouble.retry_after,
        resets_at=trouble.resets_at,
    )


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
