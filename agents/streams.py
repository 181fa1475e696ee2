"""Keep what a process says without letting it fill the memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

OnLine = Callable[[bytes], None]

LINE_BYTES = 64 * 1024
STREAM_BYTES = 50_000_000
STREAM_TAIL_BYTES = 4_000_000
LINE_CUT = b" [line cut]"


class Kept:
    """The head and the tail of a stream, each half of `limit` bytes; the middle is counted."""

    def __init__(self, limit: int) -> None:
        self.half = max(limit // 2, 1)
        self.head = bytearray()
        self.tail = bytearray()
        self.size = 0

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        room = self.half - len(self.head)
        if room > 0:
            self.head += chunk[:room]
            chunk = chunk[room:]
        self.tail += chunk
        # Cutting seldom keeps the cost per chunk small.
        if len(self.tail) > 2 * self.half + LINE_BYTES:
            del self.tail[: -self.half]

    @property
    def dropped(self) -> int:
        return max(self.size - 2 * self.half, 0)

    def value(self) -> bytes:
        """Return what was kept, with a line that says how much is left out."""
        if not self.dropped:
            return bytes(self.head + self.tail)
        mark = b"\n[... %d bytes of output left out ...]\n" % self.dropped
        return bytes(self.head) + mark + bytes(self.tail[-self.half :])


class Lines:
    """Hands a stream on line by line, each cut at `line_bytes`.

    Past `most` bytes the middle is dropped: the last lines carry an agent's result, so they are
    kept and handed on at the end.
    """

    def __init__(self, on_line: OnLine, line_bytes: int, most: int) -> None:
        self.on_line = on_line
        self.line_bytes = line_bytes
        self.tail_bytes = min(STREAM_TAIL_BYTES, most // 2)
        self.head_bytes = most - self.tail_bytes
        self.buffer = bytearray()
        self.is_cut = False
        self.truncated = False
        self.size = 0
        self.tail: deque[bytes] = deque()
        self.tail_size = 0

    def add(self, chunk: bytes) -> None:
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            self._extend(part)
            self._emit()
        self._extend(rest)

    def close(self) -> None:
        if self.buffer:
            self._emit()
        while self.tail:
            self.on_line(self.tail.popleft())

    def _extend(self, part: bytes) -> None:
        room = self.line_bytes - len(self.buffer)
        self.buffer += part[:room]
        self.is_cut = self.is_cut or len(part) > room

    def _emit(self) -> None:
        line = bytes(self.buffer) + (LINE_CUT if self.is_cut else b"")
        self.truncated = self.truncated or self.is_cut
        self.buffer.clear()
        self.is_cut = False
        self.size += len(line) + 1
        if self.size <= self.head_bytes:
            self.on_line(line)
            return
        self.tail.append(line)
        # Short lines cost more memory than their bytes.
        self.tail_size += len(line) + 64
        while self.tail_size > self.tail_bytes:
            self.tail_size -= len(self.tail.popleft()) + 64
            self.truncated = True
