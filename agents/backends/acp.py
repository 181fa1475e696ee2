"""Any agent that speaks the Agent Client Protocol: one process a run, one prompt a turn."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from agents import sandbox
from agents.backends import acp_settings
from agents.backends.acp_session import Session, Stopped
from agents.backends.acp_settings import Settings
from agents.backends.base import BackendError, Kept, Outcome, Sink, Stop, Turn, Usage, joined
from agents.backends.command import search_path
from agents.backends.finals import answer_of
from agents.startslots import start_slot

#: Started by an agent that reaches Tutti's tools only through a program.
BRIDGE = Path(__file__).with_name("mcp_bridge.py")


class AcpBackend:
    """Settings: agent (a key of KNOWN), command, env (names of the server's variables), variables,
    readable, network, permissions (allow, ask, deny), mode, options, auth_method, trust,
    timeout_seconds, idle_seconds, start_seconds, ask_seconds, memory_mb, output_mb."""

    def run(self, turn: Turn, sink: Sink, stop: Stop) -> Outcome:
        if problem := self.problem(turn.settings):
            raise BackendError(problem, kind="settings", owner="tutti", permanent=True)
        kept = turn.kept or Kept()
        try:
            return self._turn(turn, kept, sink, stop)
        except Stopped:
            kept.close()
            return Outcome(exit_code=None, sandbox=sandbox.level())
        except BaseException:
            kept.close()
            raise
        finally:
            if turn.kept is None:
                kept.close()

    def problem(self, settings: dict[str, Any]) -> str | None:
        return acp_settings.problem(settings)

    def _turn(self, turn: Turn, kept: Kept, sink: Sink, stop: Stop) -> Outcome:
        """Prompt, and again in the same session as often as a person interrupts."""
        before: list[Outcome] = []
        while True:
            session = self._session(turn, kept, sink, stop)
            with session.talk.metered():
                outcome, said = session.prompt(turn, sink, _interrupted(turn, stop))
            before.append(outcome)
            steers = turn.steers
            if steers is None or outcome.exit_code == 0 or stop() is not None:
                break
            text = steers.take()
            whole = f"{turn.text}\n\n{text}"
            turn = replace(turn, text=whole, follow_up=text, session=outcome.session)
        outcome.usage = _together([one.usage for one in before])
        outcome.seconds = sum(one.seconds for one in before)
        outcome.result = session.words.data(answer_of(said, turn.kind))
        if outcome.result:
            sink("result", {"data": outcome.result})
        return outcome

    def _session(self, turn: Turn, kept: Kept, sink: Sink, stop: Stop) -> Session:
        """The run's session, started where none is alive."""
        held = kept.held
        if isinstance(held, Session) and held.is_alive:
            return held
        settings = acp_settings.read(turn.settings, turn.secrets)
        with start_slot(stop):
            if stop() is not None:
                raise Stopped
            session = Session(_started(settings, turn), settings, turn)
            kept.hold(session)
            with session.talk.metered():
                session.start(turn, sink, stop)
        return session


def _interrupted(turn: Turn, stop: Stop) -> Stop:
    """A stop that also comes when a person has something to say at once."""

    def why() -> str | None:
        if (order := stop()) is not None:
            return order
        return "steered" if turn.steers is not None and turn.steers.is_waiting() else None

    return why


def _together(usages: list[Usage]) -> Usage:
    """What several prompts of one turn used; an unknown part makes the sum a part of the whole."""
    if len(usages) == 1:
        return usages[0]
    known = [usage for usage in usages if usage.input_tokens is not None]
    costs = [usage.cost for usage in usages if usage.cost is not None]
    if not known and not costs:
        return Usage()
    last = (known or usages)[-1]
    return Usage(
        sum(usage.input_tokens or 0 for usage in known) if known else None,
        sum(usage.output_tokens or 0 for usage in known) if known else None,
        reduce(joined, [usage.quality for usage in usages]),
        last.source,
        round(sum(costs), 9) if costs else None,
        next((usage.currency for usage in usages if usage.currency), ""),
    )


def _started(settings: Settings, turn: Turn) -> sandbox.Interactive:
    """The agent's process. Raises BackendError when it cannot be started at all."""
    try:
        return sandbox.start(
            settings.command,
            workspace=turn.workspace,
            writable=[turn.home],
            readable=[
                *([BRIDGE] if turn.mcp_servers else []),
                *(path for path in settings.readable if path.exists()),
            ],
            env={
                "PATH": search_path(settings.readable, turn.environment),
                **settings.environment,
                **({name: turn.model} if (name := settings.model_variable) and turn.model else {}),
                "HOME": str(turn.home),
            },
            network=turn.network,
            environment=turn.environment,
            limits=sandbox.Limits(memory_mb=settings.memory_mb),
        )
    except OSError as error:
        text = f"{settings.title} could not be started: {error}. {settings.install}"
        raise BackendError(text, kind="not_installed", owner="tutti", permanent=True) from error
