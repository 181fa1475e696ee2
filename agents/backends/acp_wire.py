"""JSON-RPC messages over an agent's pipes: bounded, and with session updates taken out in order."""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from projects.text import clean_text

CHUNK = 1 << 16
MESSAGE_BYTES = 50_000_000
#: Lines that are no message, and requests of the agent's, that one turn may hold.
STRAY_LINES, REQUESTS = 1_000, 5_000
#: Answers that may wait for an agent that does not read them.
UNREAD = 1_000
#: How the methods of notices begin that the library knows; the others are an agent's own.
NOTICES = ("session/", "elicitation/", "$/", "_")

Hear = Callable[[dict[str, Any]], None]


class WireError(Exception):
    """The agent broke the protocol; the message says how."""


class Wire:
    """Fulfils the protocol library's Transport for an agent that may do anything.

    `heard` takes each session update as it came, `strayed` each line that is no message, `full`
    tells whether nothing more may be taken in for the moment. All run in the event loop.
    """

    def __init__(
        self,
        descriptors: tuple[int, int],
        heard: Hear,
        strayed: Callable[[str], None],
        full: Callable[[], bool],
    ) -> None:
        self.stdin, self.stdout = descriptors
        self.heard, self.strayed, self.full = heard, strayed, full
        self.lines: deque[bytes] = deque()
        self.partial: list[bytes] = []
        self.partial_bytes = 0
        self.strays = self.requests = self.unread = 0
        self.received = 0
        self.error: WireError | None = None
        self.lock = asyncio.Lock()

    def begin_turn(self) -> None:
        self.strays = self.requests = 0

    async def send(self, message: dict[str, Any]) -> None:
        """Write one message whole. Raises ConnectionError when the agent has gone."""
        if self.unread >= UNREAD:
            self._fail("The agent sends requests without ever reading an answer.")
        data = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
        rest = memoryview(data.encode("utf-8", "replace") + b"\n")
        self.unread += 1
        try:
            async with self.lock:
                while rest:
                    rest = rest[await self._write(rest) :]
        finally:
            self.unread -= 1

    async def receive(self) -> dict[str, Any] | None:
        """The next request or answer; None once the agent closed its output or broke the rules."""
        try:
            while True:
                while self.lines:
                    await self._room()
                    message = self._message(self.lines.popleft())
                    if message is not None:
                        return message
                chunk = await self._read()
                if not chunk:
                    return None
                self._split(chunk)
        except WireError as error:
            self.error = error
            return None

    async def close(self) -> None:
        """The pipes belong to the sandbox, which closes them."""

    async def _room(self) -> None:
        while self.full():
            await asyncio.sleep(0)

    def _message(self, line: bytes) -> dict[str, Any] | None:
        if not line.strip():
            return None
        message = _parsed(line)
        if message is None:
            self.strays += 1
            if self.strays > STRAY_LINES:
                raise WireError("The agent prints lines that are no messages of the protocol.")
            self.strayed(clean_text(line[:2_000], 500))
            return None
        if message.get("method") == "session/update":
            self.heard(message)
            return None
        if "method" in message:
            self.requests += 1
            if self.requests > REQUESTS:
                raise WireError(f"The agent sent more than {REQUESTS} requests in one turn.")
            if "id" not in message and not message["method"].startswith(NOTICES):
                self.strayed(clean_text(line[:2_000], 500))
                return None
        return message

    def _split(self, chunk: bytes) -> None:
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            self.partial.append(part)
            self.lines.append(b"".join(self.partial))
            self.partial, self.partial_bytes = [], 0
        if rest:
            self.partial.append(rest)
            self.partial_bytes += len(rest)
        if self.partial_bytes > MESSAGE_BYTES:
            limit = MESSAGE_BYTES // 1_000_000
            raise WireError(f"The agent sent a message of more than {limit} MB.")

    async def _read(self) -> bytes:
        while True:
            # An agent that never pauses must not keep the loop from its timers.
            await asyncio.sleep(0)
            try:
                chunk = os.read(self.stdout, CHUNK)
            except BlockingIOError:
                await _ready(self.stdout, is_reading=True)
                continue
            except OSError:
                return b""
            self.received += len(chunk)
            return chunk

    async def _write(self, rest: memoryview) -> int:
        try:
            return os.write(self.stdin, rest[:CHUNK])
        except BlockingIOError:
            await _ready(self.stdin, is_reading=False)
            return 0
        except OSError as error:
            raise ConnectionError("Connection closed") from error

    def _fail(self, reason: str) -> None:
        self.error = self.error or WireError(reason)
        raise ConnectionError(reason)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A message that the library can handle whatever is in it; None for everything else."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    is_named = isinstance(message.get("id"), int | str)
    if "method" in message:
        return message if isinstance(message["method"], str) else None
    error = message.get("error")
    if not is_named or not isinstance(error, dict | None):
        return None
    if error is not None:
        message["error"] = {
            "code": error["code"] if isinstance(error.get("code"), int) else -32603,
            "message": clean_text(str(error.get("message", "Error")), 2_000),
            "data": error.get("data"),
        }
    return message


async def _ready(descriptor: int, *, is_reading: bool) -> None:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()
    add, remove = (
        (loop.add_reader, loop.remove_reader)
        if is_reading
        else (loop.add_writer, loop.remove_writer)
    )

    def done() -> None:
        if not waiting.done():
            waiting.set_result(None)

    add(descriptor, done)
    try:
        await waiting
    finally:
        remove(descriptor)
