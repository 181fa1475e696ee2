"""Read a run's log: a page after a number, the newest rows, or all of it as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents.models import Run, RunLog

#: Rows of one answer, and rows that a page shows at first.
PAGE = 500
SHOWN = 1_000
#: Characters of one row on a page; the text download has all of it.
MAX_TEXT = 4_000
#: The same of an update that only says what an agent could do.
MAX_RAW = 160

#: What each kind says when it is not simply its text.
WORDS = {
    "write": "writes {path}",
    "delete": "deletes {path}",
    "usage": "{input_tokens} tokens in, {output_tokens} out ({quality})",
    "exit": "ended with exit code {code}",
    "session": "session {id} {agent} {version}",
    "permission": "{title}: {answer}",
    "context": "{used} of {size} tokens of context are used",
    "checkpoint": "from {base} to {head}",
    "prompt": "turn {turn} is sent, prompt version {prompt_version}",
    "finding": "{source}: {path} {message}",
    "check": "{command} {kind}, {seconds} s",
    "failed": "{reason}",
    "steer": "{by} tells it at turn {turn}: {text}",
}

#: Class of a row in a log by its kind; the others name their kind before their words.
CLASSES = {
    "message": "message",
    "thought": "thought",
    "tool": "tool",
    "write": "tool",
    "delete": "tool",
    "tool_update": "tool",
    "permission": "tool",
    "stderr": "stderr",
    "error": "error",
    "failed": "error",
    "warning": "error",
    "finding": "error",
}


@dataclass(frozen=True)
class Line:
    """One row as people read it; `css` is its class in a log."""

    number: int
    at: datetime
    kind: str
    css: str
    text: str


@dataclass(frozen=True)
class Page:
    """Rows after a number; `after` is where the next page begins."""

    rows: list[RunLog]
    after: int
    has_more: bool
    is_end: bool

    @property
    def lines(self) -> list[Line]:
        return [line_of(row) for row in self.rows]

    @property
    def values(self) -> list[dict[str, Any]]:
        return [
            {"sequence": r.sequence, "at": r.at.isoformat(), "kind": r.kind, "data": r.data}
            for r in self.rows
        ]


def page(run: Run, after: int, limit: int = PAGE) -> Page:
    rows = list(RunLog.objects.filter(run=run, sequence__gt=after)[: limit + 1])
    has_more = len(rows) > limit
    rows = rows[:limit]
    newest = rows[-1].sequence if rows else after
    return Page(rows, newest, has_more, is_end=not has_more and not run.is_active)


def tail(run: Run) -> Page:
    """The newest rows, in order, as a page opens with."""
    newest = RunLog.objects.filter(run=run).order_by("-sequence").values_list("sequence").first()
    return page(run, max(0, (newest[0] if newest else 0) - SHOWN), SHOWN)


def text(run: Run) -> str:
    rows = RunLog.objects.filter(run=run).iterator(chunk_size=2_000)
    return "".join(_text_lines(rows))


def _text_lines(rows: Iterable[RunLog]) -> Iterator[str]:
    for row in rows:
        yield f"{row.at:%H:%M:%S} {row.kind}: {words(row.kind, row.data)}\n"


def line_of(row: RunLog) -> Line:
    said = words(row.kind, row.data)
    most = MAX_RAW if row.kind == "update" else MAX_TEXT
    if len(said) > most:
        said = said[:most] + "…"
    return Line(row.sequence, row.at, row.kind, _css(row.kind), said)


def _css(kind: str) -> str:
    return CLASSES.get(kind, "other")


def words(kind: str, data: dict[str, Any]) -> str:
    """What a row says. Agents write these, so any shape of data has to give some text."""
    data = {key: value for key, value in data.items() if key != "at"}  # Its time is the row's.
    if kind in ("tool", "tool_update"):
        return _tool(data)
    if kind in WORDS:
        return WORDS[kind].format_map(_Plain(data)).strip()
    for name in ("text", "message", "line"):
        if isinstance(data.get(name), str) and data[name]:
            rest = {key: value for key, value in data.items() if key != name}
            return f"{data[name]}{' ' + _json(rest) if rest else ''}"
    return _json(data)


def _tool(data: dict[str, Any]) -> str:
    """A use of a tool: what it is, what it works on, and how far it is once it has begun."""
    said = [data.get("title") or data.get("name"), data.get("path"), data.get("text")]
    status = data.get("status")
    if status != "pending":
        said.append(str(status or "").replace("_", " "))
    return " ".join(dict.fromkeys(str(word) for word in said if word)) or "?"


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, sort_keys=True)


class _Plain(dict[str, Any]):
    """Values for a pattern; what an agent left out shows as a question mark."""

    def __missing__(self, key: str) -> str:
        return "" if key in ("path", "text", "agent", "version") else "?"
