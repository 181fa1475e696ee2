"""One agent process that speaks the Agent Client Protocol, for as long as its run lasts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any, cast

import acp
from acp import RequestError
from acp.schema import (
    ClientCapabilities,
    FileSystemCapabilities,
    Implementation,
    InitializeResponse,
)
from pydantic import ValidationError

from agents import sandbox
from agents.backends import acp_setup
from agents.backends.acp_events import STOPS, Ear, error_of, one_line, usage_of
from agents.backends.acp_guest import Guest
from agents.backends.acp_settings import Settings
from agents.backends.acp_wire import Wire
from agents.backends.base import BackendError, Outcome, Sink, Stop, Turn, Usage
from agents.backends.command import out_of_memory
from agents.backends.events import Words
from projects.text import clean_text

TICK_SECONDS = 0.05
CANCEL_SECONDS = 10.0
GRACE_SECONDS = 3.0
#: The end of standard error in which a provider's refusal is looked for.
SAID_CHARS = 600
#: Updates that may wait to be handed on before no more are read.
WAITING = 500

_ENDS = {
    "timeout": "The agent did not end within its time limit and was stopped.",
    "idle": "The agent gave no sign for too long and was stopped. Its provider may be refusing "
    "requests without the agent saying so: look at the account, then retry.",
    "output": "The agent printed more than is kept and was stopped.",
    "processes": "The agent started more processes than it may and was stopped.",
}


class Stopped(Exception):
    """Somebody told the run to end while the agent was being started."""


class Session:
    """An agent's process, its connection and its session.

    The event loop runs only while a turn waits; between two steps of it the caller's thread hands
    updates on and listens to orders, so that the database is never touched inside the loop.
    """

    def __init__(self, talk: sandbox.Interactive, settings: Settings, turn: Turn) -> None:
        self.talk, self.settings = talk, settings
        self.words = Words(turn.secrets.values(), turn.workspace)
        self.loop = asyncio.new_event_loop()
        self.waiting: list[tuple[str, dict[str, Any]]] = []
        self.guest = Guest(turn.workspace, self._note, self.words)
        self.pause: asyncio.Future[None] | None = None
        self.heard = time.monotonic()
        self.wire: Wire | None = None
        self.is_replaying = False
        self.conn: Any = None
        self.about: InitializeResponse | None = None
        self.id = ""
        #: Models, modes and further options that may be chosen.
        self.offers: dict[str, Any] = {}
        self.prompts = 0
        #: Whether it was ordered to end: it lives on for a moment, but takes no prompt any more.
        self.is_ended = False
        #: Cumulative cost up to the last turn; None while it is unknown.
        self.cost: float | None = None

    @property
    def is_alive(self) -> bool:
        is_ended = self.is_ended or self.talk.exited is not None
        return bool(self.id) and not is_ended and self._broken() is None

    def close(self) -> None:
        """End the agent and everything that it started."""
        try:
            self.talk.close(GRACE_SECONDS)
        finally:
            with contextlib.suppress(Exception):
                if self.conn is not None:
                    self.loop.run_until_complete(self.conn.close())
            self.loop.close()

    # --- Start ---------------------------------------------------------------------------------

    def start(self, turn: Turn, sink: Sink, stop: Stop) -> None:
        """Connect, sign in where a key is enough, and open, load or resume the session.

        Raises Stopped, or BackendError when the agent cannot be used.
        """
        deadline = time.monotonic() + self.settings.start_seconds
        ear = Ear(sink, self.words)

        def watch(task: asyncio.Task[None]) -> None:
            if stop() is not None:
                task.cancel()
                raise Stopped
            if time.monotonic() > deadline:
                task.cancel()
                raise BackendError(self._mute(), kind="protocol")

        try:
            self._drive(self._open(turn), ear, watch)
        except RequestError as error:
            raise self._failed(error) from error
        except (ConnectionError, ValidationError, asyncio.CancelledError) as error:
            raise self._gone(error, turn) from error
        ear.close()
        self.cost = ear.cost if turn.session == self.id else 0.0
        about = {"protocol": acp.PROTOCOL_VERSION, **acp_setup.introduced(self.about)}
        sink("session", {"id": self.id, **about, **self.offers})

    async def _open(self, turn: Turn) -> None:
        self.wire = Wire(
            (self.talk.stdin, self.talk.stdout), self._heard, self._strayed, self._is_full
        )
        self.conn = acp.connect_to_agent(cast("Any", self.guest), self.wire)
        self.about = await self.conn.initialize(
            protocol_version=acp.PROTOCOL_VERSION,
            client_capabilities=ClientCapabilities(
                fs=FileSystemCapabilities(read_text_file=False, write_text_file=False)
            ),
            client_info=Implementation(name="tutti", title="Tutti", version="1"),
        )
        if self.about.protocol_version != acp.PROTOCOL_VERSION:
            text = (
                f"{self.settings.title} speaks version {self.about.protocol_version} of the "
                f"protocol, and Tutti {acp.PROTOCOL_VERSION}. Install a version that speaks it."
            )
            raise BackendError(text, kind="protocol", owner="tutti", permanent=True)
        self.is_replaying = bool(turn.session)
        try:
            self.id, response = await acp_setup.session(self.conn, self.about, turn, self.settings)
        finally:
            self.is_replaying = False
        self.offers = acp_setup.offered(response)
        await acp_setup.configure(self.conn, self.id, response, turn, self.settings, self._note)

    # --- A turn --------------------------------------------------------------------------------

    def prompt(self, turn: Turn, sink: Sink, stop: Stop) -> tuple[Outcome, str]:
        """Let the agent take one turn; returns how it ended and all that it said.

        Raises BackendError when the agent could not, with the reason.
        """
        assert self.wire is not None
        self.wire.begin_turn()
        settings, began = self.settings, time.monotonic()
        self.guest.begin_turn(settings.permissions, turn.owns, can_ask=turn.ask is not None)
        self.heard, received = began, self.wire.received
        ear, order = Ear(sink, self.words), _Order()

        def watch(_: asyncio.Task[Any]) -> None:
            now = time.monotonic()
            self._obey(order, now, self._why(now, began, received, stop))
            if self.guest.pending and order.why is None:
                self.heard = now
                self.guest.put(turn.ask, settings.ask_seconds)

        follows = bool(self.prompts and turn.follow_up)
        self.prompts += 1
        text = turn.follow_up if follows else turn.text
        call = self.conn.prompt(session_id=self.id, prompt=[acp.text_block(text)])
        response: Any = None
        try:
            response = self._drive(call, ear, watch)
        except RequestError as error:
            if order.why is None:
                raise self._failed(error) from error
        except (ConnectionError, ValidationError, asyncio.CancelledError) as error:
            if order.why is None:
                raise self._gone(error, turn) from error
        finally:
            said = ear.close()
        return self._outcome(response, ear, order, began, turn, sink), said

    def _outcome(
        self, response: Any, ear: Ear, order: _Order, began: float, turn: Turn, sink: Sink
    ) -> Outcome:
        data = response.model_dump(by_alias=True, exclude_none=True) if response else {}
        usage = usage_of(data, self.settings.trust)
        usage = self._priced(usage if usage.source else ear.told(self.settings.trust), ear)
        outcome = Outcome(usage=usage, session=self.id, sandbox=sandbox.level())
        outcome.seconds = time.monotonic() - began
        if usage.source:
            # What is unknown is left out: it is no number.
            known = {name: value for name, value in asdict(usage).items() if value is not None}
            sink("usage", known)
        if order.why is not None:
            outcome.exit_code = None
        if order.why is not None and not order.why.startswith("stopped:"):
            error = self._ended(order.why, turn)
        elif order.why is None and (reason := str(data.get("stopReason"))) != "end_turn":
            error = BackendError(STOPS.get(reason, f"The turn ended: {reason}."), kind=reason)
        elif order.why is None and ear.is_failed:
            said = "".join(ear.answer).strip().rpartition("\n\n")[2]
            error = error_of(None, said, None, self.settings.title, self.settings.sign_in)
        else:
            return outcome
        error.usage = usage
        raise error

    def _priced(self, usage: Usage, ear: Ear) -> Usage:
        """The turn's share of a cost that agents count up over the whole session."""
        if ear.cost is None:
            return usage
        before, self.cost = self.cost, ear.cost
        if before is None:
            return usage
        # A count that fell was begun anew.
        spent = ear.cost - before if ear.cost >= before else ear.cost
        return Usage(usage.input_tokens, usage.output_tokens, usage.quality,
                     usage.source or "usage_update", round(spent, 9), ear.currency)  # fmt: skip

    def _why(self, now: float, began: float, received: int, stop: Stop) -> str | None:
        """The reason to end the turn now, if there is one."""
        assert self.wire is not None
        if (order := stop()) is not None:
            return f"stopped:{order}"
        if now - began > self.settings.timeout_seconds:
            return "timeout"
        if self.wire.received - received > self.settings.output_mb * 1_000_000:
            return "output"
        return "idle" if now - self.heard > self.settings.idle_seconds else None

    def _obey(self, order: _Order, now: float, why: str | None) -> None:
        """Cancel the turn, and end the agent when it does not answer that in time."""
        if order.why is None and why is not None:
            order.why, order.kill_at = why, now + self.settings.cancel_seconds
            self.guest.cancel()
            order.cancelling = self.loop.create_task(self._cancel())
            if why == "output":
                order.kill_at = now
        if order.why is not None and now >= order.kill_at:
            self.is_ended = True
            self.talk.end(order.why, GRACE_SECONDS)

    async def _cancel(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self.conn.cancel(session_id=self.id)

    # --- Driving the loop ----------------------------------------------------------------------

    def _drive(
        self, work: Coroutine[Any, Any, Any], ear: Ear, watch: Callable[[asyncio.Task[Any]], None]
    ) -> Any:
        """Run the loop until the work is done, in steps, handing on what was heard."""
        task = self.loop.create_task(work)
        task.add_done_callback(lambda _: self._wake())
        try:
            while not task.done():
                self.loop.run_until_complete(self._rest())
                self._hand_on(ear)
                if not task.done():
                    watch(task)
        finally:
            if not task.done():
                task.cancel()
                self.loop.run_until_complete(asyncio.wait([task], timeout=1))
            self._hand_on(ear)
        return task.result()

    async def _rest(self) -> None:
        self.pause = self.loop.create_future()
        timer = self.loop.call_later(TICK_SECONDS, self._wake)
        try:
            await self.pause
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self.pause is not None and not self.pause.done():
            self.pause.set_result(None)

    def _hand_on(self, ear: Ear) -> None:
        waiting, self.waiting = self.waiting, []
        for kind, data in waiting:
            if kind == "session/update":
                ear.update(data)
            else:
                ear.event(kind, data)

    # --- What the wire reports -----------------------------------------------------------------

    def _heard(self, message: dict[str, Any]) -> None:
        self.heard = time.monotonic()
        params = message.get("params")
        update = params.get("update") if isinstance(params, dict) else None
        if not isinstance(update, dict):
            self._strayed(clean_text(str(message), 500))
        elif not self.is_replaying or update.get("sessionUpdate") == "usage_update":
            self.waiting.append(("session/update", update))

    def _strayed(self, line: str) -> None:
        self.heard = time.monotonic()
        self._note("stray", {"text": line})

    def _note(self, kind: str, data: dict[str, Any]) -> None:
        self.waiting.append((kind, data))

    def _is_full(self) -> bool:
        if len(self.waiting) < WAITING:
            return False
        self._wake()
        return True

    # --- What went wrong -----------------------------------------------------------------------

    def _broken(self) -> str | None:
        return str(self.wire.error) if self.wire is not None and self.wire.error else None

    def _mute(self) -> str:
        seconds = f"{self.settings.start_seconds:g} s"
        return (
            f"{self.settings.title} did not answer as an ACP agent within {seconds}. Check that "
            f"its command starts it in ACP mode: {self.settings.shown}."
        )

    def _failed(self, error: RequestError) -> BackendError:
        return error_of(
            error.code, str(error), error.data, self.settings.title, self.settings.sign_in
        )

    def _gone(self, error: BaseException, turn: Turn) -> BackendError:
        """Why the connection is over: what the agent broke, or how its process ended."""
        if broken := self._broken():
            return BackendError(f"{broken} It was stopped.", kind="protocol")
        if isinstance(error, ValidationError):
            said = one_line(str(error))[:300]
            return BackendError(f"The agent broke the protocol: {said}", kind="protocol")
        ended = self.talk.wait(GRACE_SECONDS)
        if ended is None:
            self.talk.end("closed its output", GRACE_SECONDS)
            self.talk.wait(2 * GRACE_SECONDS)
            return BackendError("The agent closed its output in the middle of its turn.",
                                kind="protocol")  # fmt: skip
        if ended.reason and not ended.reason.startswith("stopped"):
            return self._ended(ended.reason, turn)
        return acp_setup.died(ended, self.settings, has_started=bool(self.id))

    def _ended(self, why: str, turn: Turn) -> BackendError:
        if why == "out_of_memory":
            ended = self.talk.wait(2 * GRACE_SECONDS)
            if ended is not None:
                return out_of_memory(ended, turn)
        if why == "idle":
            # Some agents try a provider again and again, and say so nowhere else.
            said = one_line(self.words.text(self.talk.errors)[-SAID_CHARS:])
            found = error_of(None, said, None, self.settings.title, self.settings.sign_in)
            if found.owner == "provider":
                return found
        return BackendError(_ENDS.get(why, f"The agent was stopped: {why}."), kind=why)


class _Order:
    """That a turn has to end, why, and when patience is over."""

    def __init__(self) -> None:
        self.why: str | None = None
        self.kill_at = 0.0
        self.cancelling: asyncio.Task[None] | None = None
