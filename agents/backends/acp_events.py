"""What an agent's updates, errors and counts mean to a run. Pure: no process, no files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agents.backends.base import BackendError, Sink, Usage
from agents.backends.events import Words
from agents.backends.mistakes import failure
from agents.backends.troubles import THEN, trouble_of
from projects.text import clean_text

TEXT_CHARS = 4_000
RAW_CHARS = 20_000
ANSWER_CHARS = 400_000
#: Rows of one turn that are kept; what comes after is counted alone.
ROWS = 20_000
AUTH_REQUIRED = -32000

_CHUNKS = {
    "agent_message_chunk": "message",
    "agent_thought_chunk": "thought",
    "user_message_chunk": "user",
}
_WORDS = {
    "exhausted": "The provider's account is used up",
    "rate_limited": "The provider answered that requests come too fast",
    "overloaded": "The provider is overloaded",
    "signed_out": "The agent needs sign-in",
}
STOPS = {
    "refusal": "The agent refused to go on. Read what it said, and change the module's brief.",
    "max_tokens": "The answer reached the model's limit of tokens. Make the module smaller, or "
    "choose a model with a longer answer.",
    "max_turn_requests": "The agent used up the model requests that it allows itself for one "
    "turn. Make the module smaller, or raise that limit in the agent's settings.",
    "cancelled": "The agent cancelled its turn by itself.",
}


class Ear:
    """Hands an agent's updates on to the run's log, chunks of text joined into rows.

    Keeps the turn's answer and what the agent said of its cost.
    """

    def __init__(self, sink: Sink, words: Words) -> None:
        self.sink, self.words = sink, words
        self.kind, self.parts, self.size = "", list[str](), 0
        self.stream = words.redactor.stream()
        self.answer, self.answer_size = list[str](), 0
        self.rows = self.dropped = 0
        self.cost: float | None = None
        self.currency = ""
        #: Tokens of the requests that the agent told one by one, in and out.
        self.requests = list[tuple[int, int]]()
        #: Whether the agent's own engine failed, in a turn that ends as if nothing were.
        self.is_failed = False

    def update(self, update: Mapping[str, Any]) -> None:
        """Take one session update as it came."""
        self._aside(update.get("_meta"))
        name = update.get("sessionUpdate")
        text = _text_of(update.get("content"))
        if isinstance(name, str) and name in _CHUNKS and text is not None:
            self._chunk(_CHUNKS[name], text)
            return
        if name == "usage_update":
            self._cost(update.get("cost"))
        self.event(*described(update))

    def told(self, trust: str) -> Usage:
        """What the requests used that the agent told one by one, Qwen's way."""
        if not self.requests:
            return Usage()
        read, written = (sum(counts) for counts in zip(*self.requests, strict=True))
        return Usage(read, written, trust, "update._meta.usage")

    def event(self, kind: str, data: dict[str, Any]) -> None:
        self.flush()
        self._row(kind, data)

    def flush(self) -> None:
        """Hand on the text that is not handed on yet; what comes next is another text."""
        self._keep(self.stream.close())
        self._flush()

    def _flush(self) -> None:
        text, kind = "".join(self.parts), self.kind
        self.parts, self.size, self.kind = [], 0, ""
        if text.strip():
            self._row(kind, {"text": text})

    def close(self) -> str:
        """End the turn; returns all that the agent said in it, as text."""
        self.flush()
        if self.dropped:
            text = f"{self.dropped} further rows of this turn are left out."
            self.sink("message", {"text": text})
        return "".join(self.answer)[-ANSWER_CHARS:]

    def _chunk(self, kind: str, text: str) -> None:
        if kind != self.kind:
            self.flush()
            self.kind = kind
        while text:
            part, text = text[:TEXT_CHARS], text[TEXT_CHARS:]
            # A secret may be cut anywhere: the beginning of one is held back until it is clear.
            self._keep(self.stream.feed(part))
            if self.size >= TEXT_CHARS:
                self._flush()
                self.kind = kind

    def _keep(self, text: str) -> None:
        self.parts.append(text)
        self.size += len(text)
        if self.kind == "message":
            self._answer(text)

    def _answer(self, text: str) -> None:
        self.answer.append(text)
        self.answer_size += len(text)
        # The end of an answer is what counts; many small chunks are joined seldom.
        if self.answer_size > 2 * ANSWER_CHARS:
            self.answer = ["".join(self.answer)[-ANSWER_CHARS:]]
            self.answer_size = ANSWER_CHARS

    def _row(self, kind: str, data: dict[str, Any]) -> None:
        if self.rows >= ROWS:
            self.dropped += 1
            return
        self.rows += 1
        self.sink(kind, self.words.event(kind, data))

    def _aside(self, meta: Any) -> None:
        """What some agents say beside the protocol: tokens of a request, and that they failed."""
        if not isinstance(meta, dict):
            return
        if (used := _tokens(meta.get("usage"))) is not None:
            self.requests.append(used)
        codex = meta.get("codex")
        status = codex.get("threadStatus") if isinstance(codex, dict) else None
        if isinstance(status, dict) and isinstance(status.get("type"), str):
            self.is_failed = status["type"] == "systemError"

    def _cost(self, cost: Any) -> None:
        if isinstance(cost, dict) and (amount := _amount(cost.get("amount"))) is not None:
            self.cost = amount
            self.currency = clean_text(str(cost.get("currency", "")), 8)


def described(update: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The row of one update that is no text; kinds that are not known keep all that they hold."""
    name = update.get("sessionUpdate")
    if name == "tool_call":
        return "tool", _tool(update)
    if name == "tool_call_update":
        return "tool_update", _tool(update)
    if name == "plan" and isinstance(update.get("entries"), list):
        return "plan", {"entries": kept(update["entries"])}
    if name == "usage_update":
        return "context", {key: kept(update.get(key)) for key in ("used", "size", "cost")}
    return "update", {"name": clean_text(str(name), 60), "raw": kept(dict(update))}


def kept(value: Any) -> Any:
    """A JSON value that a row can hold: clean, and cut when it is large."""
    clean = _clean(value, 0)
    text = json.dumps(clean)
    return clean if len(text) <= RAW_CHARS else {"cut": text[:RAW_CHARS]}


def usage_of(response: Mapping[str, Any], trust: str) -> Usage:
    """The tokens in an answer to a prompt (as JSON), of quality `trust`; best those by model."""
    meta = response.get("_meta")
    quota = meta.get("quota") if isinstance(meta, dict) else None
    if isinstance(quota, dict) and (used := _by_model(quota)) is not None:
        # Counted by model they are whole, unless more is known of the agent.
        return Usage(*used, "exact" if trust == "estimated" else trust, "prompt._meta.quota")
    if (used := _tokens(response.get("usage"))) is not None:
        return Usage(*used, trust, "prompt.usage")
    return Usage()


def _by_model(quota: Mapping[str, Any]) -> tuple[int, int] | None:
    """Tokens of all models, the small ones for titles too; else those of the main one."""
    models = quota.get("model_usage")
    rows = models if isinstance(models, list) else []
    counts = [_tokens(row.get("token_count")) for row in rows if isinstance(row, dict)]
    known = [pair for pair in counts if pair is not None]
    if known and len(known) == len(rows):
        return sum(read for read, _ in known), sum(written for _, written in known)
    return _tokens(quota.get("token_count"))


def _tokens(counts: Any) -> tuple[int, int] | None:
    """Tokens in and out, as camelCase or snake_case names them; None where one is missing."""
    if not isinstance(counts, dict):
        return None

    def count(*names: str) -> int | None:
        return next((_count(counts[name]) for name in names if name in counts), None)

    read = count("inputTokens", "input_tokens")
    written = count("outputTokens", "output_tokens")
    if read is None or written is None:
        return None
    cached = (count("cachedReadTokens", "cachedInputTokens") or 0) + (
        count("cachedWriteTokens", "cacheWriteInputTokens") or 0
    )
    thought = count("thoughtTokens", "reasoningOutputTokens") or 0
    # Some agents count cached or thought tokens apart; their total tells.
    rest = (count("totalTokens", "total_tokens") or 0) - read - written
    if rest >= cached:
        read, rest = read + cached, rest - cached
    return read, written + thought if rest >= thought else written


def error_of(code: int | None, message: str, data: Any, agent: str, hint: str) -> BackendError:
    """The failure that an agent's JSON-RPC error, or its last words, stand for."""
    detail = "" if data in (None, "", {}) else clean_text(_text(data), 2_000)
    said = f"{clean_text(message, 1_000)} {detail}".strip()
    kind = "signed_out" if code == AUTH_REQUIRED else ""
    trouble = trouble_of(said, datetime.now(UTC), kind=kind)
    if not trouble.is_provider:
        return failure(f"{agent} could not go on: {one_line(said)}", "agent_error")
    sentence = f"{_WORDS[trouble.kind]} ({agent} says: {one_line(said)})."
    return BackendError(
        f"{sentence} {THEN.get(trouble.kind) or hint}".rstrip(),
        kind=trouble.kind,
        owner="provider",
        retry_after=trouble.retry_after,
        resets_at=trouble.resets_at,
    )


def one_line(text: str) -> str:
    return " ".join(text.split())[:600]


def _tool(update: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call as a row: its name, where it works, and how far it is."""
    names = {"toolCallId": "id", "title": "title", "kind": "name", "status": "status"}
    row = {
        to: clean_text(update[name], 300)
        for name, to in names.items()
        if isinstance(update.get(name), str)
    }
    where = paths_of(update)
    row |= {"name": row.get("name", row.get("title", "tool")), "path": where[0] if where else ""}
    more = ("content", "rawInput", "rawOutput")
    return {**row, **{key: kept(update[key]) for key in more if update.get(key)}}


def _text_of(content: Any) -> str | None:
    if not isinstance(content, dict) or content.get("type") != "text":
        return None
    text = content.get("text")
    return text if isinstance(text, str) else None


def paths_of(call: Mapping[str, Any]) -> list[str]:
    """The paths that a tool call (as JSON) names: its locations and its diffs."""
    found = []
    for key in ("locations", "content"):
        places = call.get(key)
        for place in places if isinstance(places, list) else []:
            if isinstance(place, dict) and isinstance(place.get("path"), str):
                found.append(clean_text(place["path"], 1_000))
    return list(dict.fromkeys(found))


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return clean_text(value, RAW_CHARS)
    if isinstance(value, bool | int) or value is None:
        return value if not isinstance(value, int) or abs(value) < 10**18 else str(value)[:40]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth > 20:
        return "…"
    if isinstance(value, list):
        return [_clean(one, depth + 1) for one in value[:500]]
    if isinstance(value, dict):
        pairs = list(value.items())[:500]
        return {clean_text(str(key), 200): _clean(one, depth + 1) for key, one in pairs}
    return clean_text(str(value), 200)


def _text(data: Any) -> str:
    if isinstance(data, dict) and isinstance(data.get("details"), str):
        return str(data["details"])
    return data if isinstance(data, str) else json.dumps(_clean(data, 0))


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12
    return value if is_count else None


def _amount(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and 0 <= value < 10**9 else None
