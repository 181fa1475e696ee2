"""PostgreSQL and Valkey for an installation that brings none of its own.

Both come from wheels, keep their data under TUTTI_HOME and listen on sockets in a private
directory. One process, `config.keeper`, starts, watches and stops them. Everybody else holds a
shared lock for as long as it needs them; when the last holder is gone, killed or not, the keeper
stops the servers.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

CHECKOUT = Path(__file__).resolve().parent.parent
#: Longest path of a socket that both Linux (107) and macOS (103) take.
SOCKET_LIMIT = 103
START_SECONDS = 90
STOP_SECONDS = 40


class EmbeddedError(Exception):
    """The embedded servers cannot run; the message says why and what to do."""


@dataclass(frozen=True)
class Servers:
    """Where the servers of one TUTTI_HOME are reached."""

    home: Path
    database_url: str
    redis_url: str


def home_path() -> Path:
    """Give the data directory: TUTTI_HOME, else `.tutti` in the checkout."""
    text = os.environ.get("TUTTI_HOME", "").strip()
    return (Path(text).expanduser() if text else CHECKOUT / ".tutti").resolve()


def socket_dir(home: Path | None = None) -> Path:
    """Give the short private directory of the sockets, which a deep TUTTI_HOME could not hold."""
    digest = hashlib.sha256(str(home or home_path()).encode()).hexdigest()[:8]
    path = Path(tempfile.gettempdir()).resolve() / f"tutti-{digest}"
    longest = len(str(path / "pg" / ".s.PGSQL.5432.lock"))
    return path if longest <= SOCKET_LIMIT else Path("/tmp") / path.name


def database_url(home: Path | None = None) -> str:
    return f"postgresql://tutti@/tutti?host={socket_dir(home) / 'pg'}"


def redis_url(home: Path | None = None) -> str:
    return f"unix://{socket_dir(home) / 'valkey.sock'}"


def wanted() -> bool:
    """Say whether the environment leaves at least one of the two servers to us."""
    return not (
        os.environ.get("DATABASE_URL", "").strip() and os.environ.get("REDIS_URL", "").strip()
    )


class Lock:
    """A file lock that the kernel drops when its holder dies."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file: IO[str] = path.open("a+")

    def take(self, *, shared: bool = False, wait_seconds: float = 0) -> bool:
        """Take the lock, and say whether that worked in time."""
        mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        deadline = time.monotonic() + wait_seconds
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(self.file, mode)
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)

    def close(self) -> None:
        self.file.close()


@dataclass
class Hold:
    """This process's share in the servers of one home."""

    lock: Lock
    count: int = 1


_holds: dict[Path, Hold] = {}
_holds_lock = threading.RLock()


def running(home: Path | None = None) -> bool:
    """Say whether a keeper has both servers up."""
    return keeper_of(home or home_path()) is not None


def keeper_of(home: Path) -> psutil.Process | None:
    """Find the keeper that reported its servers as up, by its pid and start time."""
    state = read_state(home)
    return same_process(state.get("keeper")) if state.get("ready") else None


def read_state(home: Path) -> dict[str, Any]:
    try:
        state = json.loads(state_path(home).read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def state_path(home: Path) -> Path:
    return home / "run" / "servers.json"


def identity(pid: int) -> list[float]:
    """Give what tells a process from a later one with its pid: [pid, start time]."""
    return [pid, psutil.Process(pid).create_time()]


def same_process(mark: list[float] | None) -> psutil.Process | None:
    """Find the live process that `identity` described."""
    if not mark:
        return None
    try:
        process = psutil.Process(int(mark[0]))
        alive = process.status() != psutil.STATUS_ZOMBIE
        return process if alive and abs(process.create_time() - mark[1]) < 1 else None
    except psutil.NoSuchProcess:
        return None


def start(home: Path | None = None) -> Servers:
    """Have the servers running for as long as this process lives, or until `stop`.

    Raises:
        EmbeddedError: when they do not come up.
    """
    home = (home or home_path()).resolve()
    servers = Servers(home, database_url(home), redis_url(home))
    with _holds_lock:
        if home in _holds:
            _holds[home].count += 1
            return servers
        make_directories(home)
        gate = Lock(home / "run" / "gate.lock")
        users = Lock(home / "run" / "users.lock")
        try:
            # Whoever starts holds the gate, so that two starters make one keeper; a keeper that is
            # stopping holds both locks until its servers are down.
            if not gate.take(wait_seconds=START_SECONDS) or not users.take(
                shared=True, wait_seconds=STOP_SECONDS
            ):
                raise EmbeddedError(
                    f"Another process holds {home / 'run'}: is it stopped (Ctrl-Z)?"
                )
            if not running(home):
                launch_keeper(home)
        except BaseException:
            users.close()
            raise
        finally:
            gate.close()
        _holds[home] = Hold(users)
    return servers


def stop(home: Path | None = None) -> None:
    """Give this process's share back; wait for the servers to stop when nobody else holds one."""
    home = (home or home_path()).resolve()
    with _holds_lock:
        hold = _holds.get(home)
        if hold is None:
            return
        hold.count -= 1
        if hold.count:
            return
        del _holds[home]
        gate = Lock(home / "run" / "gate.lock")
        try:
            if gate.take(wait_seconds=STOP_SECONDS) and hold.lock.take():
                end_keeper(home)
        finally:
            hold.lock.close()
            gate.close()


def revive(home: Path | None = None) -> None:
    """Start the servers again when this process needs them and their keeper was killed.

    Raises:
        EmbeddedError: when they do not come up.
    """
    home = (home or home_path()).resolve()
    with _holds_lock:
        if home not in _holds or running(home):
            return
        gate = Lock(home / "run" / "gate.lock")
        try:
            if gate.take(wait_seconds=START_SECONDS) and not running(home):
                launch_keeper(home)
        finally:
            gate.close()


@contextmanager
def servers(home: Path | None = None) -> Iterator[Servers | None]:
    """Hold the servers for a block; nothing is started when the environment names others."""
    if not wanted():
        yield None
        return
    found = start(home)
    try:
        yield found
    finally:
        stop(home)


def make_directories(home: Path) -> None:
    try:
        for name in ("run", "logs"):
            (home / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(
            f"The data directory {home} cannot be made ({error.strerror}). "
            "Set TUTTI_HOME to a directory that you may write."
        ) from error


def make_private(path: Path, *, mode: int = 0o700) -> None:
    """Make a directory in the temporary directory that nobody else can have prepared.

    Raises:
        EmbeddedError: when it exists and is not ours.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=mode)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise EmbeddedError(f"{path} belongs to somebody else: remove it, or set another TMPDIR.")
    path.chmod(mode)


def launch_keeper(home: Path) -> None:
    """Start a keeper and wait until it reports its servers as up.

    Raises:
        EmbeddedError: with the end of its log, when it ends or takes too long.
    """
    log = home / "logs" / "keeper.log"
    before = log.stat().st_size if log.exists() else 0
    with log.open("a") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "config.keeper", str(home)],
            cwd=CHECKOUT,
            # It serves others than the one who happens to start it, so it bears nobody's mark.
            env={key: value for key, value in os.environ.items() if key != "TUTTI_SUPERVISED"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the one who holds the terminal.
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and keeper.poll() is None:
        found = keeper_of(home)
        if found is not None and found.pid == keeper.pid:
            threading.Thread(target=keeper.wait, daemon=True).start()  # Leaves no zombie.
            return
        time.sleep(0.02)
    keeper.terminate()
    said = log.read_text(errors="replace")[before:].strip() if log.exists() else ""
    raise EmbeddedError(f"The embedded servers did not start. {log} says:\n{said[-2000:]}")


def end_keeper(home: Path) -> None:
    """Stop the keeper, which stops its servers; the caller holds both locks."""
    process = same_process(read_state(home).get("keeper"))
    if process is None:
        return
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()  # Its servers die with it, or are found at the next start.
