"""How a session is signed in, opened and configured, and what an agent that fails there needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from acp import RequestError
from acp.schema import (
    AuthMethodEnvVar,
    EnvVariable,
    HttpHeader,
    HttpMcpServer,
    InitializeResponse,
    McpServerStdio,
    NewSessionResponse,
)

from agents import sandbox
from agents.backends.acp_events import AUTH_REQUIRED, error_of
from agents.backends.acp_settings import Settings
from agents.backends.base import BackendError, Turn
from agents.backends.mistakes import NOT_FOUND, missing
from projects.text import clean_text

AUTH_SECONDS = 30.0

Note = Callable[[str, dict[str, Any]], None]


async def session(
    conn: Any, about: InitializeResponse, turn: Turn, settings: Settings
) -> tuple[str, Any]:
    """The session's id and the agent's answer to it: an earlier one where it can, else anew."""
    if turn.session and (found := await _earlier(conn, about, turn)) is not None:
        return turn.session, found
    try:
        response = await _new(conn, about, turn)
    except RequestError as error:
        if error.code != AUTH_REQUIRED:
            raise
        await _sign_in(conn, about, settings)
        response = await _new(conn, about, turn)
    return clean_text(response.session_id, 200), response


async def _new(conn: Any, about: InitializeResponse, turn: Turn) -> NewSessionResponse:
    response: NewSessionResponse = await conn.new_session(
        cwd=str(turn.workspace), mcp_servers=_servers(about, turn)
    )
    return response


async def _earlier(conn: Any, about: InitializeResponse, turn: Turn) -> Any:
    """The answer to loading the run's session; None where the agent cannot or knows it no more."""
    can = about.agent_capabilities
    sessions = can.session_capabilities if can else None
    values: dict[str, Any] = {"cwd": str(turn.workspace), "session_id": turn.session}
    try:
        if can and can.load_session:
            # Loading replays what was said, and with it what the session has cost so far.
            return await conn.load_session(**values, mcp_servers=_servers(about, turn))
        if sessions and sessions.resume is not None:
            return await conn.resume_session(**values, mcp_servers=_servers(about, turn))
    except RequestError as error:
        if error.code == AUTH_REQUIRED:
            raise
    return None


def _servers(about: InitializeResponse, turn: Turn) -> list[Any]:
    """The MCP servers that this agent can reach."""
    can = about.agent_capabilities
    http = bool(can and can.mcp_capabilities and can.mcp_capabilities.http)
    found: list[Any] = []
    for server in turn.mcp_servers:
        if server.get("type") == "http":
            if http:
                headers = [HttpHeader(name=name, value=value)
                           for name, value in server.get("headers", {}).items()]  # fmt: skip
                found.append(HttpMcpServer(type="http", name=server["name"], url=server["url"],
                                           headers=headers))  # fmt: skip
                continue
            if "command" not in server:
                continue
        env = [EnvVariable(name=name, value=value) for name, value in server["env"].items()]
        found.append(McpServerStdio(name=server["name"], command=server["command"],
                                    args=server["args"], env=env))  # fmt: skip
    return found


async def _sign_in(conn: Any, about: InitializeResponse, settings: Settings) -> None:
    """Sign in by a key that the agent has; raises BackendError where that takes a person."""
    methods = about.auth_methods or []
    method = settings.auth_method or _by_key(methods, settings)
    if method:
        try:
            await asyncio.wait_for(conn.authenticate(method_id=method), AUTH_SECONDS)
        except TimeoutError:
            pass
        except RequestError as error:
            found = error_of(error.code, str(error), error.data, settings.title, settings.sign_in)
            found.kind, found.owner = "signed_out", "provider"
            raise found from error
        else:
            return
    raise BackendError(_needs(methods, settings), kind="signed_out", owner="provider")


def _by_key(methods: list[Any], settings: Settings) -> str:
    """The method that a key in the agent's environment makes possible."""
    offered = [method.id for method in methods]
    for method in methods:
        if isinstance(method, AuthMethodEnvVar):
            needed = [one.name for one in method.vars if not one.optional]
            if needed and all(name in settings.environment for name in needed):
                return str(method.id)
    for name, known in settings.keys.items():
        if name in settings.environment and known in offered:
            return known
    return ""


def _needs(methods: list[Any], settings: Settings) -> str:
    said = [
        clean_text(f"{method.name}: {method.description}" if method.description else method.name,
                   200)
        for method in methods
    ]  # fmt: skip
    offers = f" It offers: {'; '.join(said)}." if said else ""
    return f"{settings.title} needs sign-in.{offers} {settings.sign_in}"


async def configure(
    conn: Any, session_id: str, response: Any, turn: Turn, settings: Settings, note: Note
) -> None:
    """Set the profile's model, mode and further options. Raises BackendError for unknown ones."""
    options = {option.id: option for option in getattr(response, "config_options", None) or []}
    wanted: list[tuple[str, str | bool]] = []
    # A model that a variable chose is chosen already.
    model = "" if settings.model_variable else turn.model
    usual = settings.usual_mode if settings.usual_mode in offered(response).get("modes", []) else ""
    for what, chosen in (("model", model), ("mode", settings.mode or usual)):
        name = next((id for id, one in options.items() if id == what), None) or next(
            (id for id, one in options.items() if one.category == what), None
        )
        if chosen and name:
            wanted.append((name, chosen))
        elif chosen and what == "mode":
            await _set_mode(conn, session_id, response, chosen, settings)
        elif chosen:
            note("update", {"name": "model", "raw": f"{settings.title} lets nobody choose a model"
                            f" by the protocol; {chosen} is not set."})  # fmt: skip
    for name, value in [*wanted, *settings.options.items()]:
        await _set(conn, session_id, options, name, value, settings)


async def _set(
    conn: Any,
    session_id: str,
    options: Mapping[str, Any],
    name: str,
    value: str | bool,
    settings: Settings,
) -> None:
    if name not in options:
        known = ", ".join(options) or "none"
        raise _unknown(f"{settings.title} has no option {name}; it has {known}.")
    offered = _values(options[name])
    if offered and value not in offered:
        raise _unknown(f"{settings.title} does not offer {value} as its {name}; it offers "
                       f"{', '.join(offered[:20])}.")  # fmt: skip
    if options[name].current_value == value:
        return
    try:
        await conn.set_config_option(config_id=name, session_id=session_id, value=value)
    except RequestError as error:
        raise _unknown(f"{settings.title} did not take {value} as its {name} "
                       f"({clean_text(str(error), 200)}).") from error  # fmt: skip


def _values(option: Any) -> list[str]:
    found: list[str] = []
    for one in getattr(option, "options", None) or []:
        found += [inner.value for inner in one.options] if hasattr(one, "group") else [one.value]
    return found


async def _set_mode(
    conn: Any, session_id: str, response: Any, mode: str, settings: Settings
) -> None:
    modes = getattr(response, "modes", None)
    known = [one.id for one in modes.available_modes] if modes else []
    if mode not in known:
        raise _unknown(f"{settings.title} has no mode {mode}; it has {', '.join(known) or 'none'}.")
    if modes is not None and modes.current_mode_id != mode:
        await conn.set_session_mode(session_id=session_id, mode_id=mode)


def _unknown(sentence: str) -> BackendError:
    text = f"{sentence} Change it in the role's profile."
    return BackendError(text, kind="settings", owner="tutti", permanent=True)


def offered(response: Any) -> dict[str, Any]:
    """What a session offers, as far as the agent says it: names of models and modes, and options.

    `options` are the names of the values of each further option by its own name.
    """
    found: dict[str, Any] = {}
    for option in (getattr(response, "config_options", None) or [])[:100]:
        values = [clean_text(value, 120) for value in _values(option)[:100]]
        what = next((w for w in ("model", "mode") if w in (option.id, option.category)), "")
        if what:
            found.setdefault(f"{what}s", values)
        else:
            found.setdefault("options", {})[clean_text(option.id, 120)] = values
    modes = getattr(response, "modes", None)
    if modes and "modes" not in found:
        found["modes"] = [clean_text(mode.id, 120) for mode in modes.available_modes[:100]]
    return found


def introduced(about: InitializeResponse | None) -> dict[str, str]:
    """An agent's own name and version, as far as it says them."""
    info = about.agent_info if about else None
    if info is None:
        return {}
    return {
        "agent": clean_text(info.title or info.name, 100),
        "version": clean_text(info.version, 60),
    }


def _no_agent(code: int | None, last: str, settings: Settings) -> BackendError:
    """It ended before it took any work: what started it has to be looked at."""
    said = f": {last}" if last else ""
    return BackendError(
        f"{settings.title} ended with exit code {code} before it answered as an ACP agent{said}. "
        f"Check that its command starts it in ACP mode, and try it on the host: {settings.shown}.",
        kind="protocol",
        owner="tutti",
    )


def died(ended: sandbox.Exited, settings: Settings, *, has_started: bool) -> BackendError:
    """Why an agent's process ended by itself, from its last words."""
    lines = clean_text(ended.output, 4_000).strip().splitlines()
    last = lines[-1] if lines else ""
    if not has_started and ended.code in NOT_FOUND:
        return missing(settings.command[0], last, settings.install)
    if ended.signal is not None:
        return BackendError(f"The agent was ended by signal {ended.signal}.", kind="signal")
    found = error_of(None, last, None, settings.title, settings.sign_in)
    if found.owner != "agent":
        return found
    if not has_started:
        return _no_agent(ended.code, last, settings)
    said = f": {last}" if last else ""
    return BackendError(f"The agent ended with exit code {ended.code}{said}.", kind="exit")
