"""Any agent that speaks the Agent Client Protocol: one process a run, one prompt a turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents import sandbox
from agents.backends import acp_settings
from agents.backends.acp_session import Session, Stopped
from agents.backends.acp_settings import Settings
from agents.backends.base import BackendError, Kept, Outcome, Sink, Stop, Turn
from agents.backends.finals import answer_of
from agents.startslots import start_slot


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
        held = kept.held
        if isinstance(held, Session) and held.is_alive:
            session = held
            with session.talk.metered():
                outcome, said = session.prompt(turn, sink, stop)
        else:
            settings = acp_settings.read(turn.settings, turn.secrets)
            with start_slot(stop):
                if stop() is not None:
                    raise Stopped
                session = Session(_started(settings, turn), settings, turn)
                kept.hold(session)
                with session.talk.metered():
                    session.start(turn, sink, stop)
            with session.talk.metered():
                outcome, said = session.prompt(turn, sink, stop)
        outcome.result = session.words.data(answer_of(said, turn.kind))
        if outcome.result:
            sink("result", {"data": outcome.result})
        return outcome


def _started(settings: Settings, turn: Turn) -> sandbox.Interactive:
    """The agent's process. Raises BackendError when it cannot be started at all."""
    try:
        return sandbox.start(
            settings.command,
            workspace=turn.workspace,
            writable=[turn.home],
            readable=[path for path in settings.readable if path.exists()],
            env={
                "PATH": _path(settings, turn),
                **settings.environment,
                "HOME": str(turn.home),
            },
            network=turn.network,
            environment=turn.environment,
            limits=sandbox.Limits(memory_mb=settings.memory_mb),
        )
    except OSError as error:
        text = f"{settings.title} could not be started: {error}. {settings.install}"
        raise BackendError(text, kind="not_installed", owner="tutti", permanent=True) from error


def _path(settings: Settings, turn: Turn) -> str:
    """Programs are found in the readable directories too, for most agents are installed apart."""
    own = [str(folder) for path in settings.readable for folder in (path, path / "bin",
           path / "node_modules" / ".bin") if Path(folder).is_dir()]  # fmt: skip
    first = [str(turn.environment / "bin")] if turn.environment else []
    return ":".join([*first, *own, "/usr/local/bin:/usr/bin:/bin"])
