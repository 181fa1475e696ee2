"""Run the processes of an installation together, and leave none behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from django.conf import settings
from django.core.management import call_command

from config import embedded

#: Names the supervisor to all that descends from it: `<home>#<pid>#<start time>`.
MARK = "TUTTI_SUPERVISED"
STOP_SECONDS = 35
POLL_SECONDS = 0.1
#: How often to see whether the embedded servers still have their keeper.
LOOK_SECONDS = 1.0
#: A process that lived this long has recovered from whatever ended it before.
RECOVERED_SECONDS = 20
#: Deaths in a row after which a process is given up.
PATIENCE = 5


class ProcessError(Exception):
    """A process does not stay up; the message ends with what it said last."""


@dataclass(frozen=True)
class Program:
    """A command that is to run for as long as its supervisor."""

    name: str
    command: list[str]
    env: Mapping[str, str] = field(default_factory=dict)


def web(*, host: str = "127.0.0.1", port: int = 8000) -> Program:
    """Describe the web process."""
    where = ["-b", host, "-p", str(port)]
    command = [sys.executable, "-m", "daphne", "-v", "0", *where, "config.asgi:application"]
    return Program("web", command)


def workers(queue: str, threads: int, *, actors: str = "agents.tasks") -> Program:
    """Describe a worker process for one queue, as queues of one worker would share its threads."""
    command = [sys.executable, "-m", "dramatiq", "config.broker", actors]
    command += ["--queues", queue, "--processes", "1", "--threads", str(threads)]
    command += ["--worker-shutdown-timeout", "30000", "--skip-logging"]
    # dramatiq sleeps up to a second between looks by default, and holds messages back for later.
    env = {"dramatiq_worker_timeout": "50", "dramatiq_queue_prefetch": str(threads)}
    return Program(queue, command, env)


def clock() -> Program:
    """Describe the clock."""
    return Program("clock", [sys.executable, str(embedded.CHECKOUT / "manage.py"), "schedule"])


def everything(*, host: str, port: int, run_threads: int, short_threads: int = 2) -> list[Program]:
    """List what one machine runs: web, workers of both queues, and the clock."""
    runs = workers("runs", run_threads)
    return [
        web(host=host, port=port),
        replace(runs, env={"TUTTI_URL": _reached(host, port), **runs.env}),
        workers("short", short_threads),
        clock(),
    ]


def _reached(host: str, port: int) -> str:
    """Where agents on this machine reach the web process."""
    if given := os.environ.get("TUTTI_URL"):
        return given
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def free_port(wanted: int = 8000, *, host: str = "127.0.0.1") -> int:
    """Give the wanted port, or another one when that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in (wanted, 0):
        with socket.socket(family) as probe, suppress(OSError):
            # As the server will do: a port with only old, closed connections counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    raise ProcessError(f"No port of {host} is free.")


def wait_for_port(host: str, port: int, *, seconds: float = 60) -> bool:
    """Wait until something accepts connections there, and say whether it did in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((host, port), timeout=1):
            return True
        time.sleep(0.05)
    return False


def marked(prefix: str) -> list[tuple[psutil.Process, str]]:
    """List live processes whose mark begins with `prefix`, with their marks."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK, "")
            if mark.startswith(prefix) and process.status() != psutil.STATUS_ZOMBIE:
                found.append((process, mark))
    return found


def stop_leftovers(home: Path, *, seconds: float = 10) -> int:
    """Stop what killed supervisors of this home left running, and say how many that were."""
    orphans = []
    for process, mark in marked(f"{home}#"):
        _, pid, started = mark.rsplit("#", 2)
        if embedded.same_process([float(pid), float(started)]) is None:
            orphans.append(process)
    end_processes(orphans, seconds=seconds)
    return len(orphans)


def end_processes(processes: list[psutil.Process], *, seconds: float) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


class Child:
    """One supervised process: started again when it dies, its output kept in a log."""

    def __init__(self, program: Program, *, home: Path, mark: str) -> None:
        self.program = program
        self.log = home / "logs" / f"{program.name}.log"
        self.env = {**os.environ, "TUTTI_HOME": str(home), "PYTHONUNBUFFERED": "1"}
        self.env |= {**program.env, MARK: mark}
        self.popen: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.deaths = 0
        self.shown = 0

    def start(self) -> None:
        if not self.popen:
            if self.log.exists() and self.log.stat().st_size > 10 * 1024 * 1024:
                self.log.replace(self.log.with_suffix(".log.1"))
            self.shown = self.log.stat().st_size if self.log.exists() else 0
        launcher = [sys.executable, "-m", "config.posix", str(os.getpid())]
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                [*launcher, *self.program.command],
                cwd=embedded.CHECKOUT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the supervisor, which stops all.
            )
        self.started = time.monotonic()

    def is_alive(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def revive(self) -> None:
        """Start a process that died, later each time in a row."""
        if self.is_alive() or self.is_hopeless():
            if time.monotonic() - self.started > RECOVERED_SECONDS:
                self.deaths = 0
            return
        if time.monotonic() - self.started > min(0.2 * 2**self.deaths, 5):
            self.deaths += 1
            self.start()

    def is_hopeless(self) -> bool:
        return self.deaths >= PATIENCE and not self.is_alive()

    def terminate(self) -> None:
        """Ask it to end; it passes that on itself, and takes a second request for impatience."""
        if self.popen is not None and self.is_alive():
            self.popen.terminate()

    def kill(self) -> None:
        if self.popen is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)

    def new_lines(self) -> list[str]:
        """Read what the log got since the last time, as whole lines."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(self.shown)
                text, end, _ = stream.read().rpartition(b"\n")
        except OSError:
            return []
        self.shown += len(text) + len(end)
        return text.decode(errors="replace").splitlines() if end else []

    def last_words(self) -> str:
        with suppress(OSError):
            return self.log.read_bytes()[-2000:].decode(errors="replace").strip()
        return ""


class Processes:
    """Keep programs running in a `with` block; when it ends, for whatever reason, all are gone.

    On Linux the kernel stops them too when this process is killed; elsewhere, the next start does.
    """

    def __init__(
        self, programs: list[Program], *, home: Path | None = None, echo: bool = False
    ) -> None:
        self.home = (home or embedded.home_path()).resolve()
        pid, started = embedded.identity(os.getpid())
        self.mark = f"{self.home}#{pid}#{started}"
        self.children = [Child(each, home=self.home, mark=self.mark) for each in programs]
        self.echo = echo
        self.next_look = 0.0
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._watch, name="processes", daemon=True)

    def __enter__(self) -> Self:
        embedded.make_directories(self.home)
        stop_leftovers(self.home)
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _watch(self) -> None:
        # Children are started here alone: the kernel counts the end of the starting thread as the
        # death of the parent, and this thread ends after all of them.
        while not self.stopping.wait(POLL_SECONDS):
            with self.lock:
                if self.stopping.is_set():
                    break
                for child in self.children:
                    child.revive() if child.popen else child.start()
            self._revive_servers()
            self._show()
        while any(child.is_alive() for child in self.children):
            time.sleep(POLL_SECONDS)
        self._show()

    def _revive_servers(self) -> None:
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + LOOK_SECONDS
        try:
            embedded.revive(self.home)
        except embedded.EmbeddedError as error:
            print(error, file=sys.stderr, flush=True)

    def _show(self) -> None:
        for child in self.children if self.echo else []:
            for line in child.new_lines():
                print(f"{child.program.name:>6} | {line}", flush=True)

    def check(self) -> None:
        """Return while every process is up or coming up again.

        Raises:
            ProcessError: when one died over and over.
        """
        for child in self.children:
            if child.is_hopeless():
                raise ProcessError(
                    f"The process {child.program.name} does not stay up. {child.log} ends with:\n"
                    + child.last_words()
                )

    def pids(self) -> dict[str, int]:
        """Give the process id of each program that is up."""
        return {
            child.program.name: child.popen.pid
            for child in self.children
            if child.popen and child.is_alive()
        }

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End all processes: politely, and by force after `seconds` or a second Ctrl-C."""
        with self.lock:
            self.stopping.set()
        try:
            for child in self.children:
                child.terminate()
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and any(c.is_alive() for c in self.children):
                time.sleep(0.05)
        finally:
            for child in self.children:
                child.kill()
            end_processes([process for process, _ in marked(self.mark)], seconds=2)
            if self.thread.ident is not None:
                self.thread.join(5)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an orderly exit, as Ctrl-C is one."""

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = {sign: signal.signal(sign, leave) for sign in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def serve(programs: list[Program], *, home: Path | None = None, echo: bool = True) -> None:
    """Run programs until Ctrl-C or SIGTERM.

    Raises:
        ProcessError: when one of them does not stay up.
    """
    with (
        ended_by_signals(),
        suppress(KeyboardInterrupt),
        Processes(programs, home=home, echo=echo) as running,
    ):
        while True:
            running.check()
            time.sleep(POLL_SECONDS)


def dev(*, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Bring the database up to date, then run everything here until Ctrl-C.

    Raises:
        ProcessError: when a process does not stay up.
    """
    call_command("migrate", verbosity=0)
    port = free_port(port, host=host)
    shown = "localhost" if host in {"127.0.0.1", "0.0.0.0"} else host
    print(f"Tutti: http://{shown}:{port}/ (Ctrl-C stops it)", flush=True)
    serve(everything(host=host, port=port, run_threads=settings.TUTTI_RUN_THREADS))
