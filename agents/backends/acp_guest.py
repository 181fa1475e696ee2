"""What an agent may ask of Tutti during its turn: permission, and files of its own workspace."""

from __future__ import annotations

import asyncio
import itertools
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acp import RequestError
from acp.schema import (
    AllowedOutcome,
    DeniedOutcome,
    PermissionOption,
    ReadTextFileResponse,
    RequestPermissionResponse,
    ToolCallUpdate,
    WriteTextFileResponse,
)

from agents.backends.acp_events import paths_of
from agents.backends.acp_settings import ALLOW, ASK, DENY
from agents.backends.base import Ask, Question
from agents.backends.events import Words
from projects.text import clean_text
from reviews.ownership import matches

CHANGES = ("edit", "delete", "move")
FILE_BYTES = 10_000_000
QUESTIONS = 100

Note = Callable[[str, dict[str, Any]], None]


@dataclass
class Pending:
    """A question to a person and the agent's call that waits for it."""

    question: Question
    asked: float
    answer: asyncio.Future[bool | None]


class Guest:
    """Answers an agent's calls by the profile's policy; the sandbox is what really holds it.

    `owns` are the globs of the paths that it may change. `note` puts a row into the run's log.
    """

    def __init__(self, root: Path, note: Note, words: Words) -> None:
        self.root, self.note, self.words = root, note, words
        self.policy, self.owns = ALLOW, tuple[str, ...]()
        self.can_ask = False
        self.is_cancelled = False
        self.pending: dict[int, Pending] = {}
        self.numbers = itertools.count()

    def begin_turn(self, policy: str, owns: Sequence[str], *, can_ask: bool) -> None:
        self.policy, self.owns, self.can_ask = policy, tuple(owns), can_ask
        self.is_cancelled = False

    def cancel(self) -> None:
        """Answer everything that waits, and all that comes yet, with "cancelled"."""
        self.is_cancelled = True
        for waiting in self.pending.values():
            if not waiting.answer.done():
                waiting.answer.set_result(None)

    def put(self, ask: Ask | None, limit_seconds: float) -> None:
        """Put what waits to a person, outside the event loop; what took too long is refused."""
        for waiting in list(self.pending.values()):
            if waiting.answer.done():
                continue
            granted = ask.answer(waiting.question) if ask else False
            if granted is None and time.monotonic() - waiting.asked > limit_seconds:
                if ask:
                    ask.withdraw(waiting.question)
                granted = False
                self.note("permission", {"title": waiting.question.title,
                                         "answer": "nobody answered in time"})  # fmt: skip
            if granted is not None:
                waiting.answer.set_result(granted)

    async def request_permission(
        self, session_id: str, tool_call: ToolCallUpdate, options: list[PermissionOption], **_: Any
    ) -> RequestPermissionResponse:
        call = tool_call.model_dump(by_alias=True, exclude_none=True)
        paths = [self.relative(path) for path in paths_of(call)]
        kind = str(call.get("kind", ""))
        # A secret that a cut leaves half of would no longer be known as one.
        title = clean_text(self.words.text(str(call.get("title") or kind or "a tool")), 300)
        decision = decide(self.policy, kind, paths, self.owns)
        granted: bool | None = decision == ALLOW
        if decision == ASK:
            shown = tuple(path or "outside the workspace" for path in paths)
            granted = await self._asked(Question(title, kind, shown))
        chosen = None if granted is None or self.is_cancelled else choice(options, granted)
        answer = "cancelled" if chosen is None else ALLOW if granted else "reject"
        self.note("permission", {"title": title, "name": kind, "policy": self.policy,
                                 "path": next((path for path in paths if path), ""),
                                 "answer": answer})  # fmt: skip
        if chosen is None:
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        outcome = AllowedOutcome(outcome="selected", option_id=chosen.option_id)
        return RequestPermissionResponse(outcome=outcome)

    async def read_text_file(
        self,
        session_id: str,
        path: str,
        line: int | None = None,
        limit: int | None = None,
        **_: Any,
    ) -> ReadTextFileResponse:
        with self._opened(path, os.O_RDONLY) as file:
            data = os.read(file, FILE_BYTES + 1)
        if len(data) > FILE_BYTES:
            raise RequestError.invalid_params({"details": f"{path} is too large to be read."})
        lines = data.decode("utf-8", "replace").splitlines(keepends=True)
        first = max((line or 1) - 1, 0)
        part = lines[first:] if limit is None else lines[first : first + max(limit, 0)]
        return ReadTextFileResponse(content="".join(part))

    async def write_text_file(
        self, session_id: str, path: str, content: str, **_: Any
    ) -> WriteTextFileResponse:
        relative = self.relative(path)
        if self.is_cancelled or decide(self.policy, "edit", [relative], self.owns) == DENY:
            raise RequestError.invalid_params({"details": f"{path} is not yours to change."})
        data = content.encode("utf-8", "replace")
        if len(data) > FILE_BYTES:
            raise RequestError.invalid_params({"details": f"{path} is too large to be written."})
        with self._opened(path, os.O_WRONLY | os.O_CREAT, makes=True) as file:
            os.ftruncate(file, 0)
            while data:
                data = data[os.write(file, data) :]
        self.note("write", {"path": relative, "size": len(content)})
        return WriteTextFileResponse()

    async def session_update(self, **_: Any) -> None:
        """Never called: updates are taken out of the stream before the library sees them."""

    async def ext_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        raise RequestError.method_not_found(method)

    async def ext_notification(self, method: str, params: dict[str, Any]) -> None:
        """An agent's own notifications mean nothing here."""

    def on_connect(self, conn: Any) -> None:
        """The session has the connection already."""

    def relative(self, path: str) -> str:
        """A path as the contract writes it; empty when it leads out of the workspace."""
        whole = os.path.normpath(os.path.join(self.root, path))  # noqa: PTH118
        root = str(self.root)
        return whole[len(root) + 1 :] if whole.startswith(root + "/") else ""

    async def _asked(self, question: Question) -> bool | None:
        if not self.can_ask or len(self.pending) >= QUESTIONS:
            return False
        number = next(self.numbers)
        answer: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        self.pending[number] = Pending(question, time.monotonic(), answer)
        try:
            return await answer
        finally:
            self.pending.pop(number, None)

    @contextmanager
    def _opened(self, path: str, flags: int, *, makes: bool = False) -> Iterator[int]:
        """Open a plain file below the root, step by step: no link is followed anywhere."""
        relative = self.relative(path)
        if not relative:
            raise RequestError.invalid_params({"details": f"{path} is outside the workspace."})
        try:
            file = _open_below(self.root, relative, flags, makes=makes)
        except OSError as error:
            raise RequestError.invalid_params({"details": f"{path}: {error.strerror}"}) from error
        try:
            yield file
        finally:
            os.close(file)


def decide(policy: str, kind: str, paths: Sequence[str], owns: Sequence[str]) -> str:
    """ALLOW, DENY or ASK for one use of a tool; an empty path lies outside the workspace.

    Nothing outside the owned paths is ever changed by permission, whatever the policy.
    """
    if policy == DENY:
        return DENY
    is_change = kind in CHANGES
    if is_change and any(not path or not matches(owns, [path]) for path in paths):
        return DENY
    return ASK if policy == ASK and kind not in ("read", "search", "think") else ALLOW


def choice(options: Sequence[PermissionOption], granted: bool) -> PermissionOption | None:
    """The option to answer with, by its kind alone, the narrower first; None when none fits."""
    wanted = ("allow_once", "allow_always") if granted else ("reject_once", "reject_always")
    for kind in wanted:
        for option in options:
            if option.kind == kind:
                return option
    return None


def _open_below(root: Path, relative: str, flags: int, *, makes: bool) -> int:
    safe = os.O_NOFOLLOW | os.O_CLOEXEC
    *folders, name = relative.split("/")
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | safe)
    try:
        for part in folders:
            if makes:
                _make(part, folder)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | safe, dir_fd=folder)
            os.close(folder)
            folder = inner
        # A pipe or a device would block or do worse: only plain files are opened.
        file = os.open(name, flags | safe | os.O_NONBLOCK, 0o666, dir_fd=folder)
    finally:
        os.close(folder)
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(file)
        raise OSError(22, "not a plain file")
    return file


def _make(name: str, folder: int) -> None:
    try:
        os.mkdir(name, dir_fd=folder)
    except FileExistsError:
        return
