"""Recordings: how they are read, and which one plays in which turn.

The turns of a module and a kind of run form one list: the recordings of every scene that is not
left out, scene after scene in the order of scenes.json, each scene's by number; after them those
of base. Turn n plays the n-th; when the list is over, its last one plays again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = "tutti-recording/1"


class RecordingError(Exception):
    """A recording is missing or cannot be read; the message says what to do."""


@dataclass(frozen=True)
class Header:
    """The first line of a recording."""

    module: str
    role: str
    kind: str
    number: int
    backend: str
    model: str
    scene: str | None


@dataclass(frozen=True)
class Recording:
    """One turn; `at` of an event is in seconds since the start of the turn at scale 1."""

    header: Header
    events: list[dict[str, Any]]

    @property
    def seconds(self) -> float:
        return max((float(event["at"]) for event in self.events), default=0.0)

    @property
    def result(self) -> dict[str, Any]:
        found = [event["data"] for event in self.events if event["event"] == "result"]
        return dict(found[-1]) if found else {}


def sequence(recordings: Path, module: str, kind: str, leave_out: Iterable[str] = ()) -> list[Path]:
    """The recordings that (module, kind) plays, in the order of its turns; never empty.

    Raises RecordingError when there are none, and for a scene in `leave_out` that is not there.
    """
    left_out = set(leave_out)
    names = scene_names(recordings)
    if unknown := left_out - set(names):
        raise RecordingError(
            f"replay.leave_out names {', '.join(sorted(unknown))}, which {recordings} does not "
            f"hold; it holds {', '.join(names) or 'no scenes'}"
        )
    folders = [recordings / "scenes" / name for name in names if name not in left_out]
    found = [
        path
        for folder in [*folders, recordings / "base"]
        for path in _numbered(folder, module, kind)
    ]
    if not found:
        raise RecordingError(
            f"no recording of a {kind} run of {module} in {recordings}; record one as "
            f"base/{file_stem(module)}.{kind}.1.jsonl, or give the role another backend"
        )
    return found


def recording_for(
    recordings: Path, module: str, kind: str, turn: int, leave_out: Iterable[str] = ()
) -> Path:
    """The recording of turn `turn` (from 1); the last one repeats when there are no more."""
    found = sequence(recordings, module, kind, leave_out)
    return found[min(turn, len(found)) - 1]


def scene_names(recordings: Path) -> list[str]:
    """The scenes in their order, from scenes.json; without that file, by name."""
    try:
        names = json.loads((recordings / "scenes.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return sorted(path.name for path in (recordings / "scenes").glob("*") if path.is_dir())
    except ValueError as error:
        raise RecordingError(f"{recordings / 'scenes.json'} is not JSON: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RecordingError(f"{recordings / 'scenes.json'} must be a list of scene names")
    return names


def read(path: Path) -> Recording:
    """Read a recording whole."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecordingError(f"{path} does not exist; prepare the example again") from error
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path} is not UTF-8: {error}") from error
    lines = [_line(path, number, line) for number, line in enumerate(text.splitlines(), start=1)]
    if not lines or lines[0].get("format") != FORMAT:
        raise RecordingError(f"{path}: line 1 must be a header with format {FORMAT}")
    for number, event in enumerate(lines[1:], start=2):
        if not isinstance(event.get("at"), int | float) or not isinstance(event.get("event"), str):
            raise RecordingError(f"{path}: line {number} needs `at` in seconds and `event`")
    return Recording(_header(path, lines[0]), lines[1:])


def file_stem(module: str) -> str:
    """The name of a module in a file's name; a child's slug holds a slash."""
    return module.replace("/", "~")


def _numbered(folder: Path, module: str, kind: str) -> list[Path]:
    prefix = f"{file_stem(module)}.{kind}."
    if not folder.is_dir():
        return []
    numbered = [
        (int(number), path)
        for path in folder.iterdir()
        if path.name.startswith(prefix)
        and path.suffix == ".jsonl"
        and (number := path.name[len(prefix) : -len(".jsonl")]).isdigit()
    ]
    return [path for _, path in sorted(numbered)]


def _header(path: Path, line: dict[str, Any]) -> Header:
    try:
        return Header(
            module=str(line["module"]),
            role=str(line["role"]),
            kind=str(line["kind"]),
            number=int(line["number"]),
            backend=str(line["backend"]),
            model=str(line["model"]),
            scene=line.get("scene"),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise RecordingError(f"{path}: the header lacks or spoils {error}") from error


def _line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise RecordingError(f"{path}: line {number} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RecordingError(f"{path}: line {number} must be an object")
    return found
