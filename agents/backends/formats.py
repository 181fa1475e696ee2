"""What the JSON lines of known agents say: one table of paths for each, and one reader for all.

A path is names with dots between them; `[]` after a name means each item of a list. Nothing here
touches a process, a file or a clock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agents.backends.base import Usage
from agents.backends.troubles import Trouble, trouble_of

When = Mapping[str, Any]
Event = tuple[str, dict[str, Any]]
#: A condition that any value fulfils.
ANY = object()
#: Last words by which an agent says that it could not work, in a turn that looks well.
BANNER = re.compile(
    r"(?:Claude (?:AI )?usage limit reached|You['\u2019]ve (?:hit|reached) your [\w -]{0,30}limit"
    r"|Credit balance is too low|Invalid API key|API Error: \d{3})"
)
LONGEST_BANNER = 300
#: Characters of an agent's last words that are kept to find its answer in.
LONGEST_FINAL = 400_000


@dataclass(frozen=True)
class Rule:
    """Lines that become an event of `kind`: their condition, and where each value stands.

    With `each` every item of that list is one event, if it fulfils `where`. Of several paths the
    first that holds something counts. A `delta` is a piece of a text that goes on.
    """

    kind: str
    when: When
    values: Mapping[str, tuple[str, ...]]
    each: str = ""
    where: When = field(default_factory=dict)
    delta: str = ""


@dataclass(frozen=True)
class Tokens:
    """Where usage stands. The paths of input, and of output, are added up: cached ones count."""

    when: When
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    cost: str = ""
    #: Whether lines add up; else the last one holds for the whole turn.
    summed: bool = False


@dataclass(frozen=True)
class Failing:
    """Lines that say that something failed; a `final` one fails the turn, others may pass."""

    when: When
    message: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    resets: str = ""
    final: bool = True
    kind: str = ""
    #: Said instead of the message, which stands at `{said}`.
    words: str = ""


@dataclass(frozen=True)
class Format:
    """One agent's way of writing JSON lines."""

    session: str
    rules: tuple[Rule, ...]
    tokens: Tokens
    failing: tuple[Failing, ...]
    #: The line that a turn which ended well has.
    done: When
    #: Where the last words stand; without it they are the messages after the last tool call.
    final: str = ""
    #: Lines that say nothing that people want to read.
    quiet: tuple[When, ...] = ()


_CONTENT = "message.content[]"
_FILE = ("file_path", "filePath", "path", "notebook_path", "dir_path", "absolute_path")
_WORDS = ("command", "pattern", "query", "url", "description")


def _paths(prefix: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names)


CLAUDE = Format(
    session="session_id",
    rules=(
        Rule("message", {"type": "assistant"}, {"text": ("text",)}, _CONTENT, {"type": "text"}),
        Rule("thought", {"type": "assistant"}, {"text": ("thinking",)}, _CONTENT,
             {"type": "thinking"}),
        Rule("tool", {"type": "assistant"},
             {"name": ("name",), "path": _paths("input", _FILE), "text": _paths("input", _WORDS)},
             _CONTENT, {"type": "tool_use"}),
    ),
    tokens=Tokens(
        {"type": "result"},
        ("usage.input_tokens", "usage.cache_creation_input_tokens?",
         "usage.cache_read_input_tokens?"),
        ("usage.output_tokens",),
        cost="total_cost_usd",
    ),
    failing=(
        Failing({"type": "result", "is_error": True},
                ("result", "errors[]", "error.message", "subtype"), ("api_error_status",)),
        Failing({"type": "rate_limit_event", "rate_limit_info.status": "rejected"},
                ("rate_limit_info.rateLimitType",), resets="rate_limit_info.resetsAt",
                kind="exhausted", final=False, words="Its limit ({said}) is used up."),
        Failing({"type": "assistant", "error": ANY}, ("error",), final=False),
        Failing({"type": "system", "subtype": "api_retry"}, ("error",), ("error_status",),
                final=False),
    ),
    done={"type": "result"},
    final="result",
    quiet=({"type": "stream_event"}, {"type": "user"}, {"type": "system"}, {"type": "result"},
           {"type": "rate_limit_event"}, {"type": "assistant"}),
)  # fmt: skip

CODEX = Format(
    session="thread_id",
    rules=(
        Rule("message", {"type": "item.completed", "item.type": "agent_message"},
             {"text": ("item.text",)}),
        Rule("thought", {"type": "item.completed", "item.type": "reasoning"},
             {"text": ("item.text",)}),
        Rule("tool", {"type": "item.started", "item.type": "command_execution"},
             {"name": ("item.type",), "text": ("item.command",)}),
        Rule("tool", {"type": "item.completed", "item.type": "file_change"},
             {"name": ("kind",), "path": ("path",)}, "item.changes[]"),
        Rule("tool", {"type": "item.completed", "item.type": "mcp_tool_call"},
             {"name": ("item.tool",), "text": ("item.server",)}),
        Rule("tool", {"type": "item.completed", "item.type": "web_search"},
             {"name": ("item.type",), "text": ("item.query",)}),
    ),
    tokens=Tokens({"type": "turn.completed"}, ("usage.input_tokens",), ("usage.output_tokens",)),
    failing=(
        Failing({"type": "turn.failed"}, ("error.message",)),
        Failing({"type": "error"}, ("message",), final=False),
    ),
    done={"type": "turn.completed"},
    quiet=({"type": "thread.started"}, {"type": "turn.started"}, {"type": "turn.completed"},
           {"type": "item.started"}, {"type": "item.updated"},
           {"type": "item.completed", "item.type": "command_execution"}),
)  # fmt: skip

GEMINI = Format(
    session="session_id",
    rules=(
        Rule("message", {"type": "message", "role": "assistant"}, {"text": ("content",)},
             delta="delta"),
        Rule("tool", {"type": "tool_use"},
             {"name": ("tool_name",), "path": _paths("parameters", _FILE),
              "text": _paths("parameters", _WORDS)}),
    ),
    tokens=Tokens({"type": "result"}, ("stats.input_tokens",), ("stats.output_tokens",)),
    failing=(
        Failing({"type": "result", "status": "error"}, ("error.message", "error.type"),
                ("error.code",)),
        Failing({"type": "error"}, ("message",), final=False),
    ),
    done={"type": "result"},
    quiet=({"type": "init"}, {"type": "tool_result"}, {"type": "result"},
           {"type": "message", "role": "user"}),
)  # fmt: skip

OPENCODE = Format(
    session="sessionID",
    rules=(
        Rule("message", {"type": "text"}, {"text": ("part.text",)}),
        Rule("thought", {"type": "reasoning"}, {"text": ("part.text",)}),
        Rule("tool", {"type": "tool_use"},
             {"name": ("part.tool",), "path": _paths("part.state.input", _FILE),
              "text": _paths("part.state.input", _WORDS)}),
    ),
    tokens=Tokens(
        {"type": "step_finish"},
        ("part.tokens.input", "part.tokens.cache.read?", "part.tokens.cache.write?"),
        ("part.tokens.output", "part.tokens.reasoning?"),
        cost="part.cost",
        summed=True,
    ),
    failing=(
        Failing({"type": "error"}, ("error.data.message", "error.message", "error.name"),
                ("error.data.statusCode",)),
    ),
    done={"type": "step_finish"},
    quiet=({"type": "step_start"}, {"type": "step_finish"}),
)  # fmt: skip

#: By the word that a profile's `format` setting says. None: no JSON of any agent's.
FORMATS: dict[str, Format | None] = {
    "claude-stream-json": CLAUDE,
    "codex-json": CODEX,
    "gemini-stream-json": GEMINI,
    "opencode-json": OPENCODE,
    "text": None,
    "tutti": None,
}


class Reader:
    """Reads the lines of one turn in one format; `line` gives the events of each.

    Afterwards `session`, `usage`, `final`, `is_done` and `trouble` say what the turn came to.
    """

    def __init__(self, format: Format, now: datetime) -> None:
        self.format = format
        self.now = now
        self.session = ""
        self.usage = Usage()
        self.is_done = False
        #: What failed the turn, and what went wrong on the way and may have passed.
        self.failure: Trouble | None = None
        self.trouble: Trouble | None = None
        self._final = ""
        self._said: list[str] = []
        self._pending = ""

    @property
    def final(self) -> str:
        """The agent's last words."""
        return self._final or "".join(self._said)[-LONGEST_FINAL:].strip()

    def line(self, text: str) -> list[Event]:
        data = json_object(text)
        if data is None:
            return [*self._flush(), ("message", {"text": text})] if text.strip() else []
        if session := first(data, (self.format.session,)):
            self.session = str(session)[:200]
        self._count(data)
        self._look_for_trouble(data)
        if matches(data, self.format.done):
            self.is_done = True
            if self.format.final:
                self._final = str(first(data, (self.format.final,)) or "")[-LONGEST_FINAL:]
        return list(self._events(data))

    def failed(self, *, badly: bool) -> Trouble | None:
        """What failed the turn; `badly` says that its process did not end well either."""
        if self.failure:
            return self.failure
        is_open = self.trouble is not None and self.trouble.is_provider
        if len(self.final) < LONGEST_BANNER and BANNER.match(self.final):
            return self.trouble if is_open else trouble_of(self.final, self.now)
        return self.trouble if badly and is_open else None

    def close(self) -> list[Event]:
        """What was held back of a text that nothing followed."""
        return self._flush()

    def _events(self, data: dict[str, Any]) -> Iterator[Event]:
        found = False
        for rule in self.format.rules:
            if not matches(data, rule.when):
                continue
            for item in find(data, rule.each) if rule.each else [data]:
                if isinstance(item, dict) and matches(item, rule.where):
                    found = True
                    yield from self._event(rule, item)
        if not found and not any(matches(data, quiet) for quiet in self.format.quiet):
            # What no table knows is kept as it came.
            yield from [*self._flush(), ("other", data)]

    def _event(self, rule: Rule, item: dict[str, Any]) -> Iterator[Event]:
        values = {name: first(item, paths) for name, paths in rule.values.items()}
        values = {name: str(value) for name, value in values.items() if value is not None}
        if rule.kind == "message":
            self._said.append(values.get("text", "") + ("" if rule.delta else "\n"))
            if rule.delta and item.get(rule.delta):
                yield from self._delta(values.get("text", ""))
                return
        if rule.kind == "tool":
            self._said.clear()
            self.trouble = None
        yield from self._flush()
        if any(values.values()):
            yield rule.kind, values

    def _delta(self, text: str) -> Iterator[Event]:
        """Pieces of a text come out by whole lines, so that none is cut in a word."""
        whole, line_end, rest = (self._pending + text).rpartition("\n")
        self._pending = rest
        if line_end and whole.strip():
            yield "message", {"text": whole}

    def _flush(self) -> list[Event]:
        text, self._pending = self._pending, ""
        return [("message", {"text": text})] if text.strip() else []

    def _count(self, data: dict[str, Any]) -> None:
        table = self.format.tokens
        if not matches(data, table.when):
            return
        used = Usage(
            _added(data, table.inputs),
            _added(data, table.outputs),
            cost=_money(first(data, (table.cost,))) if table.cost else None,
        )
        self.usage = _merged(self.usage, used, table) if table.summed else _judged(used, table)

    def _look_for_trouble(self, data: dict[str, Any]) -> None:
        for row in self.format.failing:
            if not matches(data, row.when):
                continue
            said = first(data, row.message)
            text = said if isinstance(said, str) else json.dumps(said) if said else ""
            found = trouble_of(
                row.words.format(said=text) if row.words else text,
                self.now,
                status=first(data, row.status),
                resets=first(data, (row.resets,)) if row.resets else None,
                kind=row.kind,
            )
            if row.final:
                # The last line of a failed turn often says less than the one before it.
                is_poorer = not found.is_provider and self.trouble and self.trouble.is_provider
                self.failure = self.trouble if is_poorer else found
            elif self.trouble is None or self.trouble.kind != "exhausted":
                # A used up account also answers 429 from then on.
                self.trouble = found if found.is_provider else self.trouble or found
            return


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a line is, or None."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def find(data: Any, path: str) -> list[Any]:
    """Every value at a path; none where something on the way is missing or of another kind."""
    found = [data]
    for part in path.split("."):
        name, is_list = part.removesuffix("[]"), part.endswith("[]")
        inner = [one[name] for one in found if isinstance(one, dict) and name in one]
        found = [x for one in inner if isinstance(one, list) for x in one] if is_list else inner
    return found


def first(data: Any, paths: tuple[str, ...]) -> Any:
    """The first value that is neither missing, None nor empty text."""
    for path in paths:
        for value in find(data, path):
            if value is not None and value != "":
                return value
    return None


def matches(data: Any, when: When) -> bool:
    for path, wanted in when.items():
        value = first(data, (path,))
        if value is None or (wanted is not ANY and value != wanted):
            return False
    return True


def _added(data: Any, paths: tuple[str, ...]) -> int | None:
    """The sum; None when one that has to be there is missing. A `?` marks one that need not be."""
    total = 0
    for path in paths:
        value = first(data, (path.removesuffix("?"),))
        if value is None and path.endswith("?"):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**12:
            return None
        total += value
    return total


def _money(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 10**6 else None


def _judged(used: Usage, table: Tokens) -> Usage:
    """Unknown is unknown, never 0."""
    known = used.input_tokens is not None and used.output_tokens is not None
    return Usage(
        used.input_tokens,
        used.output_tokens,
        "exact" if known else "unknown",
        source=f"{next(iter(table.when.values()))}.{table.inputs[0].rpartition('.')[0]}",
        cost=used.cost,
        currency="USD" if used.cost is not None else "",
    )


def _merged(before: Usage, used: Usage, table: Tokens) -> Usage:
    if not before.source:
        return _judged(used, table)

    def both(one: Any, other: Any) -> Any:
        return None if one is None or other is None else one + other

    return _judged(
        Usage(
            both(before.input_tokens, used.input_tokens),
            both(before.output_tokens, used.output_tokens),
            cost=both(before.cost, used.cost),
        ),
        table,
    )
