"""Recorded turns, played into a real workspace by a real process; only the model is absent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from agents.backends import recordings
from agents.backends.base import BackendError, Outcome, Sink, Stop, Turn
from agents.backends.command import run_agent

PLAYER = Path(__file__).with_name("replay_player.py")


class ReplayBackend:
    """Needs the plan's `replay` section: where the recordings are, their scale and scenes."""

    def run(self, turn: Turn, sink: Sink, stop: Stop) -> Outcome:
        if not turn.replay or not turn.replay.get("recordings"):
            raise BackendError(
                "The plan has no recordings to play. Add project.replay to the plan, or choose "
                "another backend for this role in the project's settings.",
                kind="no_recording",
                owner="tutti",
                permanent=True,
            )
        folder = Path(turn.replay["recordings"])
        leave_out = turn.replay.get("leave_out") or []
        try:
            path = recordings.recording_for(folder, turn.module, turn.kind, turn.number, leave_out)
        except recordings.RecordingError as error:
            raise BackendError(
                str(error), kind="no_recording", owner="tutti", permanent=True
            ) from error
        scale = turn.settings.get("scale", turn.replay.get("scale", 1.0))
        argv = [sys.executable, "-I", "-S", str(PLAYER), "--scale", str(scale)]
        return run_agent(
            argv, turn, sink, stop, stdin=path.read_bytes(), readable=[PLAYER, *interpreter()]
        )

    def problem(self, settings: dict[str, Any]) -> str | None:
        scale = settings.get("scale", 1.0)
        if not isinstance(scale, int | float) or not 0 <= scale <= 100:
            return "scale is a number from 0 (at once) to 100."
        return None


def interpreter() -> list[Path]:
    """What Tutti's own Python needs to run a script in the sandbox."""
    return [Path(sys.prefix), Path(sys.base_prefix)]
