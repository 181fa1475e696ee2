"""Keep known secrets out of what is stored and shown, whatever way they are written and cut."""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

from projects.text import clean_text

MARK = "[redacted]"
#: Stands between two rows of a log while they are read as one text; clean text never holds it.
ROW = "\x1e"
#: A shorter form would be found everywhere.
SHORTEST = 6
#: A line of a secret of several lines that is looked for by itself.
SHORTEST_LINE = 12
#: Kinds of events whose texts go on in the next row.
SPOKEN = ("message", "thought", "stderr")
HELD_SECONDS = 2.0

# Line ends and row ends may stand anywhere inside a secret: programs wrap what they print.
_BREAK = re.compile(f"[\r\n{ROW}]")
_BREAKS = str.maketrans("", "", f"\r\n{ROW}")
Rows = list[tuple[str, dict[str, Any]]]


class Redactor:
    """Replaces every known secret by `[redacted]`: as it is, in base64, URL-quoted, JSON-escaped.

    False without secrets; then it costs nothing.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found = {form for secret in secrets for form in forms(secret)}
        self.needles = sorted(found, key=lambda needle: (-len(needle), needle))

    def __bool__(self) -> bool:
        return bool(self.needles)

    def also(self, secret: str) -> Redactor:
        """One that knows a further secret."""
        made = Redactor([secret])
        found = {*self.needles, *made.needles}
        made.needles = sorted(found, key=lambda needle: (-len(needle), needle))
        return made

    def knows(self, secret: str) -> bool:
        """Whether this one looks for a secret, or it is too short to be looked for."""
        return forms(secret) <= set(self.needles)

    def text(self, text: str) -> str:
        if not self._occurs(text):
            return text
        stream = self.stream()
        return stream.feed(text) + stream.close()

    def data(self, value: Any) -> Any:
        """The same JSON value with every text in it redacted, names of keys too."""
        if not self.needles:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.data(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.data(inner) for inner in value]
        return value

    def holds(self, content: bytes) -> bool:
        """Whether a file holds a secret, in UTF-8 or UTF-16."""
        if not self.needles:
            return False
        texts = {content, content.replace(b"\0", b"")}
        return any(self._occurs(text.decode("utf-8", "replace")) for text in texts)

    def stream(self) -> Stream:
        return Stream(self.needles)

    def _occurs(self, text: str) -> bool:
        if not self.needles:
            return False
        plain = text.translate(_BREAKS) if _BREAK.search(text) else text
        return any(needle in plain for needle in self.needles)


_newest = Redactor()


def remember(redactor: Redactor) -> Redactor:
    """Have this process's own log lines redacted by it from now on."""
    global _newest
    _newest = redactor
    return redactor


class Formatter(logging.Formatter):
    """Lines of the server's log, tracebacks included, without the secrets it knows of."""

    def format(self, record: logging.LogRecord) -> str:
        return _newest.text(super().format(record))


class Stream:
    """Text in, redacted text out; what could be the beginning of a secret is held back.

    What comes out in all does not depend on how the text was cut into pieces.
    """

    def __init__(self, needles: list[str]) -> None:
        self.needles = needles
        self.held = ""
        #: Characters of `held`, line ends not counted, that belong to a secret already replaced.
        self.covered = 0

    def feed(self, text: str) -> str:
        self.held += text
        plain = self.held.translate(_BREAKS)
        return self._out(plain, self._unsure(plain))

    def close(self) -> str:
        plain = self.held.translate(_BREAKS)
        out = self._out(plain, len(plain))
        self.covered = 0
        return out

    def _unsure(self, plain: str) -> int:
        """Where the first secret may begin whose end has not come."""
        first = len(plain)
        for needle in self.needles:
            at = plain.find(needle[0], max(0, len(plain) - len(needle) + 1), first)
            while at >= 0:
                if needle.startswith(plain[at:]):
                    first = at
                    break
                at = plain.find(needle[0], at + 1, first)
        return first

    def _out(self, plain: str, until: int) -> str:
        """Give out what lies before `until`, a place without line ends counted; keep the rest."""
        offsets = [m.start() - n for n, m in enumerate(_BREAK.finditer(self.held))]
        parts: list[str] = []
        at, covered = 0, self.covered

        def give(to: int, hidden: bool) -> None:
            nonlocal at
            end = to + bisect_right(offsets, to)
            if end > at:
                piece = self.held[at:end]
                parts.append("".join(_BREAK.findall(piece)) if hidden else piece)
                at = end

        for start, end in sorted(self._matches(plain, until)):
            if start >= covered:
                give(covered, hidden=True)
                give(start, hidden=False)
                parts.append(MARK)
            covered = max(covered, end)
        give(min(covered, until), hidden=True)
        give(until, hidden=False)
        self.held = self.held[at:]
        self.covered = max(covered - until, 0)
        return "".join(parts)

    def _matches(self, plain: str, until: int) -> list[tuple[int, int]]:
        """Begin and end of each secret that begins before `until`."""
        found = []
        for needle in self.needles:
            at = plain.find(needle)
            while 0 <= at < until:
                found.append((at, at + len(needle)))
                at = plain.find(needle, at + 1)
        return found


class RowRedactor:
    """Redacts rows of a log; a secret may begin in one spoken row and end in the next."""

    def __init__(self, redactor: Redactor) -> None:
        self.redactor = redactor
        self.stream = redactor.stream()
        self.waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self.said = ""
        self.since = 0.0

    def add(self, kind: str, data: dict[str, Any]) -> Rows:
        """The rows that can be stored by now, in order; usually the one that was added."""
        if not self.redactor:
            return [(kind, data)]
        if kind not in SPOKEN or not isinstance(data.get("text"), str):
            return [*self.close(), (kind, self.redactor.data(data))]
        out = self.close() if self.waiting and self.waiting[-1][0] != kind else []
        self.waiting.append((kind, self.redactor.data({**data, "text": ""})))
        self.said += self.stream.feed(data["text"].replace(ROW, "") + ROW)
        self.since = time.monotonic()
        return out + self._ready()

    def close(self) -> Rows:
        """What was held back, as it stands."""
        if not self.waiting:
            return []
        self.said += self.stream.close()
        return self._ready()

    def late(self) -> Rows:
        """What was held back for so long that nothing will come any more."""
        is_late = self.waiting and time.monotonic() - self.since >= HELD_SECONDS
        return self.close() if is_late else []

    def _ready(self) -> Rows:
        *texts, self.said = self.said.split(ROW)
        rows = []
        for text in texts:
            kind, data = self.waiting.popleft()
            rows.append((kind, {**data, "text": text}))
        return rows


def forms(secret: str) -> set[str]:
    """The ways in which a secret is looked for, without line ends."""
    raw = secret.encode("utf-8", "replace")
    written = {secret, secret.strip(), clean_text(secret), raw.hex(), raw.hex().upper()}
    written |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    written |= {json.dumps(one)[1:-1] for one in list(written)}
    quoted = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    written |= quoted | {re.sub("%..", lambda m: m.group().lower(), one) for one in quoted}
    for shift in range(3):
        standard = _base64(raw, shift)
        written |= {standard, standard.replace("+", "-").replace("/", "_")}
    lines = [line.strip() for line in secret.splitlines()]
    if len(lines) > 1:
        written |= {line for line in lines if len(line) >= SHORTEST_LINE and line[0] != "-"}
    plain = {one.translate(_BREAKS) for one in written}
    return {one for one in plain if len(one) >= SHORTEST}


def _base64(raw: bytes, shift: int) -> str:
    """The characters that `raw` alone decides when `shift` bytes of something stand before it."""
    text = base64.b64encode(bytes(shift) + raw).decode()
    return text[(8 * shift + 5) // 6 : 8 * (shift + len(raw)) // 6]
