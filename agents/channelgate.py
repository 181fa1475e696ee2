"""The door to the back-channel in the web process: host, token, and the MCP server behind it.

The MCP library is slow to import, so it is imported at the first request that has a right to it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections
from django.http.request import split_domain_port, validate_host

from agents.models import Run
from agents.services import channels

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
PATH = "/mcp"
#: A page of an attacker names its own host; these no page can have.
LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]


class Gate:
    """Takes requests for /mcp, and hands every other one on."""

    def __init__(self, other: Application) -> None:
        self.other = other
        self.inner: Application | None = None
        self.starting: asyncio.Lock | None = None
        self.life: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].rstrip("/") != PATH:
            await self.other(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, _ = split_domain_port(headers.get(b"host", ""))
        if not host or not validate_host(host, [*settings.ALLOWED_HOSTS, *LOOPBACK]):
            await refuse(send, 421, "This host name is not served here; see ALLOWED_HOSTS.")
            return
        if b"origin" in headers:
            await refuse(send, 403, "Agents come here, not pages in a browser.")
            return
        scheme, _, token = headers.get(b"authorization", "").partition(" ")
        admitted = sync_to_async(_admitted, thread_sensitive=False)
        run = await admitted(token.strip()) if scheme.lower() == "bearer" else None
        if run is None:
            await refuse(send, 401, "The token is wrong, or its run has ended.")
            return
        inner = await self._ready()
        import_module("agents.backchannel").RUN.set(run)
        await inner({**scope, "path": PATH}, receive, send)

    async def _ready(self) -> Application:
        """The MCP application at work. Daphne sends no lifespan event, so the first request
        starts what lives as long as the process."""
        if self.starting is None:
            self.starting = asyncio.Lock()
        async with self.starting:
            if self.inner is None or self.life is None or self.life.done():
                backchannel = await asyncio.to_thread(import_module, "agents.backchannel")
                made = backchannel.server()
                inner = backchannel.app(made)
                is_up = asyncio.Event()
                self.life = asyncio.create_task(_live(made.session_manager, is_up))
                await is_up.wait()
                self.inner = inner
        return self.inner


async def _live(manager: Any, is_up: asyncio.Event) -> None:
    async with manager.run():
        is_up.set()
        await asyncio.Event().wait()


def _admitted(token: str) -> Run | None:
    close_old_connections()
    try:
        return channels.run_of(token)
    finally:
        close_old_connections()


async def refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
