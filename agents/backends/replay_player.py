"""Play a recording into the current directory, in time, and print what happens.

    python -I -S replay_player.py --scale 1.0 < recording.jsonl

Stands alone: it runs inside the sandbox, where Tutti is not. Prints one JSON line an event;
the content of written files is not repeated. Exit: the recorded code, or 2 when the recording
cannot be played, with an event that says why.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import stat
import subprocess
import sys
import time
from typing import Any

FORMAT = "tutti-recording/1"
UNPLAYABLE = 2
Event = dict[str, Any]


class Unplayable(Exception):
    """The recording asks for something that cannot or must not be done."""


def main() -> int:
    # As the first process of a namespace, default signal actions would not apply.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0)
    scale = max(0.0, parser.parse_args().scale)
    try:
        return play(sys.stdin.buffer.read().decode("utf-8"), scale)
    except Unplayable as error:
        say({"event": "error", "text": str(error)})
        return UNPLAYABLE


def play(text: str, scale: float) -> int:
    """Carry out the events of a recording and return its exit code."""
    events = read(text)
    started = time.monotonic()
    for event in events:
        wait = float(event.get("at", 0)) * scale - (time.monotonic() - started)
        if wait > 0:
            time.sleep(wait)
        if event["event"] == "exit":
            say(event)
            return int(event.get("code", 0))
        say(act(event))
    # A recording that ends without an exit is an agent that died.
    return 1


def read(text: str) -> list[Event]:
    try:
        lines = [json.loads(line) for line in text.splitlines()]
    except ValueError as error:
        raise Unplayable(f"the recording is not JSON Lines: {error}") from error
    if not lines or not isinstance(lines[0], dict) or lines[0].get("format") != FORMAT:
        raise Unplayable(f"the recording does not start with a header of format {FORMAT}")
    if not all(isinstance(line, dict) and "event" in line for line in lines[1:]):
        raise Unplayable("every line after the header must be an object with `event`")
    return lines[1:]


def act(event: Event) -> Event:
    """Do what the event says, and return what is to be printed."""
    kind = event["event"]
    if kind == "write":
        size = write(event["path"], content(event), event.get("executable"))
        return {"at": event.get("at"), "event": kind, "path": event["path"], "size": size}
    if kind == "delete":
        delete(event["path"])
    elif kind == "restore":
        restore(event["path"], event["ref"])
    return event


def content(event: Event) -> bytes:
    """The bytes of a file; binary ones are recorded in base64."""
    if event.get("encoding", "utf-8") == "utf-8":
        return bytes(event["content"].encode("utf-8", "surrogatepass"))
    if event["encoding"] != "base64":
        raise Unplayable(f"{event['path']} is recorded in the unknown encoding {event['encoding']}")
    try:
        return base64.b64decode(event["content"], validate=True)
    except ValueError as error:
        raise Unplayable(f"{event['path']} is not base64: {error}") from error


def write(path: str, data: bytes, executable: bool | None = None) -> int:
    """Write a file below the current directory; parents are made, links never followed.

    `executable` sets whether it may be run; None leaves it as it is.
    """
    folder = _folder(path, make=True)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(_name(path), flags, 0o666, dir_fd=folder), "wb") as file:
            file.write(data)
            if executable is not None:
                os.fchmod(file.fileno(), 0o755 if executable else 0o644)
    except OSError as error:
        raise Unplayable(f"cannot write {path}: {error.strerror}") from error
    finally:
        os.close(folder)
    return len(data)


def delete(path: str) -> None:
    """Remove a file below the current directory; one that is not there is no error."""
    try:
        folder = _folder(path, make=False)
    except FileNotFoundError:
        return
    try:
        os.unlink(_name(path), dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise Unplayable(f"cannot delete {path}: {error.strerror}") from error
    finally:
        os.close(folder)


def restore(path: str, ref: str) -> None:
    """Make a path what it is in `ref`: the same content, or gone when it is not there."""
    _parts(path)
    if not ref.startswith("refs/"):
        raise Unplayable(f"{ref} is not a full ref name")
    if _git("rev-parse", "--quiet", "--verify", f"{ref}^{{commit}}").returncode:
        raise Unplayable(f"this workspace has no ref {ref}, which the recording restores from")
    found = _git("cat-file", "-p", f"{ref}:{path}")
    if found.returncode:
        delete(path)
    else:
        write(path, found.stdout)


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = ["git", "-c", "safe.directory=*", *arguments]
    return subprocess.run(command, capture_output=True, check=False)


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if not path or path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise Unplayable(f"{path!r} is not a path inside the workspace")
    if "\0" in path:
        raise Unplayable(f"{path!r} holds a NUL byte")
    return parts


def _name(path: str) -> str:
    return _parts(path)[-1]


def _folder(path: str, *, make: bool) -> int:
    """Open the folder of `path` step by step, so that no link leads out of the workspace."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(".", flags)
    for part in _parts(path)[:-1]:
        try:
            if make:
                _make(part, folder)
            inner = os.open(part, flags, dir_fd=folder)
        except FileNotFoundError:
            os.close(folder)
            raise
        except OSError as error:
            os.close(folder)
            raise Unplayable(f"{part} in {path} is not a plain folder: {error.strerror}") from error
        os.close(folder)
        folder = inner
    return folder


def _make(name: str, folder: int) -> None:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        os.mkdir(name, dir_fd=folder)
        return
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(20, "a file or a link is in the way")


def say(event: Event) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    sys.exit(main())
