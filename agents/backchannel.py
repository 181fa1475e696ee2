"""The MCP server that a running agent reaches: its tools, each thin over a service."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import Tool
from starlette.applications import Starlette

from agents.models import Run
from agents.services import channels, channeltools
from agents.services.channeltools import Reply

#: The run whose token came with the request at hand.
RUN: ContextVar[Run] = ContextVar("run")
INSTRUCTIONS = (
    "Tools of the project that you work for. Report progress now and then; ask a person what only "
    "a person can decide; ask for an exception before you change a path that you do not own."
)


class Server(MCPServer[Any]):
    """Notes who asks for the tools: an agent that never does has no back-channel."""

    async def list_tools(self) -> list[Tool]:
        await call(channels.connected)
        return await super().list_tools()


async def call(service: Callable[..., Any], *args: Any) -> Any:
    """Do a service for the run at hand, in a thread, with a connection that works."""

    def done() -> Any:
        close_old_connections()
        try:
            return service(RUN.get(), *args)
        finally:
            close_old_connections()

    # Each in a thread of its own: one that waits for a project's lock holds nobody up.
    return await sync_to_async(done, thread_sensitive=False)()


def server() -> Server:
    """A server with all tools."""
    made = Server("tutti", instructions=INSTRUCTIONS)

    @made.tool()
    async def report_progress(message: str, percent: int | None = None) -> Reply:
        """Tell the people who watch what is done, in one sentence; percent is from 0 to 100."""
        found: Reply = await call(channeltools.report_progress, message, percent)
        return found

    @made.tool()
    async def ask_person(question: str) -> Reply:
        """Ask a person of the project. Returns an id at once; get_answer tells the answer."""
        found: Reply = await call(channeltools.ask_person, question)
        return found

    @made.tool()
    async def get_answer(id: int) -> Reply:
        """What a person answered to a question or to a request for an exception."""
        found: Reply = await call(channeltools.get_answer, id)
        return found

    @made.tool()
    async def read_interface(module: str) -> Reply:
        """The declared interface of a module that yours depends on."""
        found: Reply = await call(channeltools.read_interface, module)
        return found

    @made.tool()
    async def ask_exception(paths: list[str], reason: str) -> Reply:
        """Ask to change paths that your module does not own."""
        found: Reply = await call(channeltools.ask_exception, paths, reason)
        return found

    @made.tool()
    async def propose_split(modules: list[dict[str, Any]]) -> Reply:
        """Cut your module into parts with paths of their own, as modules of a plan file: slug,
        title, brief, owns, tests, provides, needs, checks. It happens when your turn ends."""
        found: Reply = await call(channeltools.propose_split, modules)
        return found

    return made


def app(made: Server) -> Starlette:
    """The server over streamable HTTP, where each request stands alone. Who may come in, and
    under which host name, is checked before."""
    return made.streamable_http_app(
        stateless_http=True,
        json_response=True,
        streamable_http_path="/mcp",
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
