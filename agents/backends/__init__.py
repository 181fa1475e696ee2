"""The kinds of backends; one file each, imported at its first use: agents' libraries are large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from django.utils.module_loading import import_string

from agents.backends.base import Backend


class Kinds(Mapping[str, Backend]):
    """Backends by kind; `paths` are where their classes are."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self.paths = paths

    def __getitem__(self, kind: str) -> Backend:
        return _made(self.paths[kind])

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


@cache
def _made(path: str) -> Backend:
    backend: Backend = import_string(path)()
    return backend


KINDS = Kinds(
    {
        "replay": "agents.backends.replay.ReplayBackend",
        "command": "agents.backends.command.CommandBackend",
        "acp": "agents.backends.acp.AcpBackend",
        "llm": "agents.backends.llm.LlmBackend",
    }
)
