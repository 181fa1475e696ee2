"""The socket of a page: it hears which topics changed, and never carries an action."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.sessions.backends.base import SessionBase

from projects.feed import SIGNED_OUT, feed, is_topic, pick, refusals, versions_of

#: Frames are a handful of topics; of an admin's list of projects, some thousands fit.
LARGEST_FRAME = 64_000
#: Close code for a page that asks for more: it must not look as if it followed its changes.
TOO_MUCH = 4413
#: Least time between two frames, so at most ten hints a second reach a browser.
PAUSE_SECONDS = 0.1


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels ships no types
    """Takes {"sub": {topic: version}}, answers {"v": {topic: version}} then and at each change."""

    user_id: int
    session: SessionBase | None
    topics: set[str]

    async def connect(self) -> None:
        user = self.scope.get("user")
        self.topics = set()
        self.pending: dict[str, int] = {}
        self.beat = False
        self.waiting = asyncio.Event()
        self.sender: asyncio.Task[None] | None = None
        await self.accept()
        # Accepted first: a browser learns the code of a close only after that.
        if user is None or not user.is_authenticated:
            await self.close(SIGNED_OUT)
            return
        self.user_id = user.pk
        self.session = self.scope.get("session")
        self.sender = asyncio.create_task(self.send_frames())
        feed().join(self)

    async def disconnect(self, code: int) -> None:
        feed().leave(self)
        if self.sender:
            self.sender.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data is None or self.sender is None:
            return
        if len(text_data) > LARGEST_FRAME:
            await self.dismiss(TOO_MUCH)
            return
        topics = wanted_topics(text_data)
        if topics is None:
            return
        before, self.topics = self.topics, topics
        if code := (await refusals([self]))[0]:
            self.topics = before
            await self.dismiss(code)
            return
        # Subscribed first, then compared: what changes in between is heard twice, not missed.
        self.tell(pick(topics, await versions_of(topics)), beat=True)

    def tell(self, versions: Mapping[str, int], *, beat: bool = False) -> None:
        """Have the newest version of each topic sent, at once or with the next frame."""
        for topic, version in versions.items():
            self.pending[topic] = max(version, self.pending.get(topic, 0))
        self.beat = self.beat or beat
        if self.pending or self.beat:
            self.waiting.set()

    async def send_frames(self) -> None:
        while True:
            await self.waiting.wait()
            frame: dict[str, Any] = {"v": self.pending}
            if self.beat:
                frame["beat"] = True
            self.pending, self.beat = {}, False
            self.waiting.clear()
            await self.send(text_data=json.dumps(frame))
            await asyncio.sleep(PAUSE_SECONDS)

    async def dismiss(self, code: int) -> None:
        feed().leave(self)
        await self.close(code)


def wanted_topics(text: str) -> set[str] | None:
    """The topics that a frame asks for; None for anything that is no such frame."""
    try:
        sub = json.loads(text)["sub"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(sub, dict) or not all(is_topic(topic) for topic in sub):
        return None
    return set(sub)
