"""The kinds of backends; one file each."""

from __future__ import annotations

from agents.backends import acp, command, replay
from agents.backends.base import Backend

KINDS: dict[str, Backend] = {
    "replay": replay.ReplayBackend(),
    "command": command.CommandBackend(),
    "acp": acp.AcpBackend(),
}
