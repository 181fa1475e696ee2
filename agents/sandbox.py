"""The only file that starts agents, checks and code analysis: confined, limited, watched."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agents import confinement, machine, meters, processes, syscalls
from agents.confinement import BUBBLEWRAP, UNCONFINED, Place, level, python
from agents.streams import LINE_BYTES, STREAM_BYTES, Kept, Lines, OnLine
from projects import git
from projects.text import clean_text

__all__ = ["BUBBLEWRAP", "UNCONFINED", "Exited", "Interactive", "Limits", "Runner", "level",
           "python", "run", "start"]  # fmt: skip

Stop = Callable[[], "str | None"]

CHUNK = 1 << 16
TICK_SECONDS = 0.05
GRACE_SECONDS = 3.0
#: A young command is measured often, for most are over within seconds.
SAMPLE_SECONDS, YOUNG_SECONDS, OLD_SAMPLE_SECONDS = 0.1, 3.0, 0.5


@dataclass(frozen=True)
class Limits:
    """What one sandboxed command may use; None means no limit of ours.

    `memory_mb` and `processes` count the whole tree, `cpu_seconds`, `file_mb` and `open_files`
    hold for each process. `tmp_mb` is the size of /tmp when it lies in memory. A command whose
    output is not read line by line is ended after `output_mb` of it.
    """

    memory_mb: int | None = None
    cpu_seconds: int | None = None
    file_mb: int | None = 2_000
    processes: int | None = 512
    open_files: int | None = 4_096
    tmp_mb: int = 1_000
    output_mb: int = 200


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Exited:
    """How a sandboxed command ended; times are in seconds, CPU time of the tree as far as seen.

    `reason` is None when it ended by itself, else "timeout", "idle", "output", "out_of_memory",
    "processes" or "stopped:<why>". `code` is None when a signal ended it from outside. `output`
    is safe text: standard output and error together, or standard error alone for a command whose
    lines were handed on.
    """

    code: int | None
    signal: int | None
    seconds: float
    cpu_seconds: float
    output: str
    truncated: bool
    reason: str | None
    level: str
    #: Most memory of the whole tree, in MB of 1,048,576 bytes; None when nothing was seen of it.
    memory_peak_mb: int | None = None


@dataclass
class _Job:
    """One running command and what its supervising loop needs."""

    process: subprocess.Popen[bytes]
    tree: processes.Tree
    stop: Stop
    limits: Limits
    timeout_seconds: float
    idle_seconds: float | None
    grace_seconds: float
    stdin: bytes
    kept: Kept
    lines: Lines | None
    #: Whether somebody else reads its standard output and writes its standard input.
    is_interactive: bool = False
    started: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    sample_at: float = 0.0
    received: int = 0
    reason: str | None = None
    kill_at: float | None = None
    peak_bytes: int = 0
    meter: meters.Meter = field(default_factory=meters.current)
    oom_kills: int | None = field(default_factory=machine.oom_kills)


def run(
    argv: Sequence[str],
    *,
    workspace: Path,
    writable: Iterable[Path] = (),
    readable: Iterable[Path] = (),
    env: Mapping[str, str] | None = None,
    network: bool = False,
    environment: Path | None = None,
    tmp: Path | None = None,
    read_only: bool = False,
    stdin: bytes | None = None,
    timeout_seconds: float = 600,
    idle_seconds: float | None = None,
    grace_seconds: float = GRACE_SECONDS,
    max_output: int = 1_000_000,
    max_line: int = LINE_BYTES,
    max_stream: int = STREAM_BYTES,
    on_line: OnLine | None = None,
    stop: Stop = lambda: None,
    limits: Limits = DEFAULT_LIMITS,
) -> Exited:
    """Run a command in `workspace` and wait until it, and all that it started, is gone.

    Only the workspace (unless `read_only`), `writable` and /tmp can be written; of the host,
    the system's programs, `readable`, Tutti's base interpreter and the virtual environment
    `environment` can be read; all keep their own paths. Nothing but `env` and a few variables of
    Tutti's own is set. /tmp is the directory `tmp`, or made up in memory. With `on_line` each
    line of standard output goes there. `stop` is asked at least ten times a second: a reason
    ends the command (TERM, `grace_seconds`, KILL). Raises OSError when nothing can be started.
    """
    places = tuple(writable), tuple(readable)
    place = Place(workspace, *places, network, environment, tmp, read_only, limits.tmp_mb)
    mark = f"{os.getpid()}-{uuid.uuid4().hex}"
    with git.scratch() as name:
        variables = confinement.variables(place, Path(name)) | dict(env or {})
        process, init = _start(argv, place, variables, mark, limits, Path(name), bool(on_line))
        job = _Job(
            process,
            processes.Tree(process.pid, init, mark),
            stop,
            limits,
            timeout_seconds,
            idle_seconds,
            grace_seconds,
            stdin or b"",
            Kept(max_output),
            Lines(on_line, max_line, max_stream) if on_line else None,
        )
        try:
            _supervise(job)
        finally:
            job.tree.end(process)
            _close(process)
    return _exited(job)


def start(
    argv: Sequence[str],
    *,
    workspace: Path,
    writable: Iterable[Path] = (),
    readable: Iterable[Path] = (),
    env: Mapping[str, str] | None = None,
    network: bool = False,
    environment: Path | None = None,
    max_errors: int = 64_000,
    limits: Limits = DEFAULT_LIMITS,
) -> Interactive:
    """Start a command that the caller talks with; it sees what `run` would show it.

    Must be called in a thread that outlives the command: it dies with that thread. The caller
    closes it. Raises OSError when nothing can be started.
    """
    places = tuple(writable), tuple(readable)
    place = Place(workspace, *places, network, environment, tmp_mb=limits.tmp_mb)
    mark = f"{os.getpid()}-{uuid.uuid4().hex}"
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(git.scratch()))
        variables = confinement.variables(place, scratch) | dict(env or {})
        process, init = _start(argv, place, variables, mark, limits, scratch, errors_apart=True)
        tree = processes.Tree(process.pid, init, mark)
        endless = float("inf")
        job = _Job(process, tree, _never, limits, endless, None, GRACE_SECONDS, b"",
                   Kept(max_errors), None, is_interactive=True, meter=meters.Relay())  # fmt: skip
        return Interactive(job, stack.pop_all())


class Interactive:
    """A command at work whose standard input and output belong to the caller.

    Both are set not to block. A thread of its own reads standard error, keeps the limits and ends
    the command with everything that it started.
    """

    def __init__(self, job: _Job, scratch: contextlib.ExitStack) -> None:
        assert job.process.stdin is not None and job.process.stdout is not None
        self._job, self._scratch = job, scratch
        self._why: str | None = None
        self._over = threading.Event()
        job.stop = lambda: self._why
        self.stdin, self.stdout = job.process.stdin.fileno(), job.process.stdout.fileno()
        for descriptor in (self.stdin, self.stdout):
            os.set_blocking(descriptor, False)
        threading.Thread(target=self._keep, name="sandbox", daemon=True).start()

    @contextmanager
    def metered(self) -> Iterator[None]:
        """Count what it uses in the block to the meter of the run at work in this thread."""
        relay, before = self._job.meter, self._job.tree.cpu_seconds
        assert isinstance(relay, meters.Relay)
        meter = meters.current()
        relay.point_to(meter)
        try:
            yield
        finally:
            # The meter's file is closed after the block; nothing may write to it then.
            relay.point_to(None)
            meter.end(max(0.0, self._job.tree.cpu_seconds - before))

    @property
    def exited(self) -> Exited | None:
        """How it ended, once it has."""
        return _exited(self._job) if self._over.is_set() else None

    @property
    def errors(self) -> str:
        """What it wrote to standard error until now, as far as that is kept."""
        return clean_text(self._job.kept.value())

    def wait(self, seconds: float) -> Exited | None:
        """Wait until it, and all that it started, is gone; None when that takes longer."""
        self._over.wait(seconds)
        return self.exited

    def end(self, why: str, grace_seconds: float = GRACE_SECONDS) -> None:
        """Have it ended: TERM now, KILL after `grace_seconds`; `wait` tells when it is gone."""
        self._job.grace_seconds = grace_seconds
        self._why = self._why or why

    def close(self, grace_seconds: float = GRACE_SECONDS) -> Exited:
        """End it if it lives still, and free what it held."""
        self.end("closed", grace_seconds)
        self._over.wait()
        self._job.meter.close()
        _close(self._job.process)
        return _exited(self._job)

    def _keep(self) -> None:
        try:
            with self._scratch:
                try:
                    _supervise(self._job)
                finally:
                    self._job.tree.end(self._job.process)
        finally:
            self._job.meter.see(0)
            self._over.set()


def _never() -> str | None:
    return None


class Runner:
    """Runs a contract's checks: by a shell, in a throw-away tree, without network."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS, max_output: int = 1_000_000) -> None:
        self.limits = limits
        self.max_output = max_output

    def __call__(
        self,
        command: str,
        *,
        tree: Path,
        timeout_seconds: float,
        environment: Path | None = None,
        stop: Stop = lambda: None,
        extra_readable: Sequence[Path] = (),
    ) -> Exited:
        return run(
            ["/bin/sh", "-c", command],
            workspace=tree,
            readable=extra_readable,
            environment=environment,
            timeout_seconds=timeout_seconds,
            max_output=self.max_output,
            stop=stop,
            limits=self.limits,
        )


def _start(
    argv: Sequence[str],
    place: Place,
    variables: Mapping[str, str],
    mark: str,
    limits: Limits,
    scratch: Path,
    errors_apart: bool,
) -> tuple[subprocess.Popen[bytes], int | None]:
    """Start the command; also return the pid of its namespace's first process, if it has one."""
    if why := confinement.refusal():
        raise PermissionError(why)
    is_confined = level() == BUBBLEWRAP
    inner = confinement.limited(
        argv,
        {"c": 0, "t": limits.cpu_seconds, "n": limits.open_files, "f": _blocks(limits.file_mb)},
        stays=is_confined,
    )
    reader, writer = os.pipe() if is_confined else (-1, -1)
    barred = syscalls.pipe() if is_confined else -1
    handed = tuple(descriptor for descriptor in (writer, barred) if descriptor >= 0)
    try:
        process = subprocess.Popen(
            confinement.command(inner, place, scratch, writer, barred)
            if is_confined
            else confinement.unconfined(inner),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if errors_apart else subprocess.STDOUT,
            cwd=place.workspace,
            env={**variables, processes.MARK: mark},
            pass_fds=handed,
            start_new_session=True,
        )
    except BaseException:
        if is_confined:
            os.close(reader)
        raise
    finally:
        for descriptor in handed:
            os.close(descriptor)
    return process, confinement.init_pid(reader) if is_confined else None


def _supervise(job: _Job) -> None:
    """Feed, read and watch the command until it has ended and its output is read."""
    with selectors.DefaultSelector() as selector, processes.exit_event(job.process.pid) as event:
        _register(selector, job)
        if event is not None:
            selector.register(event, selectors.EVENT_READ, "exit")
        while not job.tree.has_ended(job.process):
            for key, _ in selector.select(TICK_SECONDS):
                _serve(selector, key, job)
            _watch(job, time.monotonic())
        # Daemons go first: they may hold the pipes open for ever.
        job.tree.end(job.process)
        _drain(selector, job)
    if job.lines:
        job.lines.close()


def _register(selector: selectors.BaseSelector, job: _Job) -> None:
    for stream, name in ((job.process.stdout, "out"), (job.process.stderr, "err")):
        if stream is not None:
            os.set_blocking(stream.fileno(), False)
            if name == "err" or not job.is_interactive:
                selector.register(stream, selectors.EVENT_READ, name)
    assert job.process.stdin is not None
    if job.is_interactive:
        os.set_blocking(job.process.stdin.fileno(), False)
        return
    if job.stdin:
        os.set_blocking(job.process.stdin.fileno(), False)
        selector.register(job.process.stdin, selectors.EVENT_WRITE, "in")
    else:
        job.process.stdin.close()


def _serve(selector: selectors.BaseSelector, key: selectors.SelectorKey, job: _Job) -> None:
    if key.data == "in":
        _feed(selector, key, job)
    elif key.data != "exit":
        _read(selector, key, job)


def _feed(selector: selectors.BaseSelector, key: selectors.SelectorKey, job: _Job) -> None:
    assert job.process.stdin is not None
    try:
        job.stdin = job.stdin[os.write(key.fd, job.stdin[:CHUNK]) :]
    except BlockingIOError:
        return
    except BrokenPipeError:
        job.stdin = b""
    if not job.stdin:
        selector.unregister(key.fileobj)
        job.process.stdin.close()


def _read(selector: selectors.BaseSelector, key: selectors.SelectorKey, job: _Job) -> bool:
    try:
        chunk = os.read(key.fd, CHUNK)
    except BlockingIOError:
        return False
    if not chunk:
        selector.unregister(key.fileobj)
        return False
    job.heard = time.monotonic()
    job.received += len(chunk)
    if key.data == "out" and job.lines is not None:
        job.lines.add(chunk)
    else:
        job.kept.add(chunk)
    return True


def _drain(selector: selectors.BaseSelector, job: _Job) -> None:
    """Read what the tree left in the pipes when it died."""
    deadline = time.monotonic() + 2
    for key in list(selector.get_map().values()):
        while key.data in ("out", "err") and time.monotonic() < deadline:
            if not _read(selector, key, job):
                break


def _watch(job: _Job, now: float) -> None:
    """End the command when somebody or a limit says so."""
    if now >= job.sample_at:
        _measure(job, now)
    if job.kill_at is not None:
        if now >= job.kill_at:
            job.tree.kill()
        return
    job.reason = job.reason or _overdue(job, now)
    if job.reason is None and (why := job.stop()) is not None:
        job.reason = f"stopped:{why}"
    if job.reason is None:
        return
    if job.reason in ("out_of_memory", "processes", "output"):
        job.kill_at = now
        job.tree.kill()
        return
    job.kill_at = now + job.grace_seconds
    job.tree.terminate()


def _measure(job: _Job, now: float) -> None:
    sample = job.tree.sample()
    job.peak_bytes = max(job.peak_bytes, sample.memory_bytes)
    job.meter.see(sample.memory_bytes)
    pause = SAMPLE_SECONDS if now - job.started < YOUNG_SECONDS else OLD_SAMPLE_SECONDS
    # By the time it took, so that a host with many processes is not kept busy by looking.
    job.sample_at = now + max(pause, 20 * (time.monotonic() - now))
    most = job.limits.memory_mb
    if most is not None and sample.memory_bytes > most * 1_000_000:
        job.reason = job.reason or "out_of_memory"
    if job.limits.processes is not None and sample.count > job.limits.processes:
        job.reason = job.reason or "processes"


def _overdue(job: _Job, now: float) -> str | None:
    if now - job.started > job.timeout_seconds:
        return "timeout"
    if job.idle_seconds is not None and now - job.heard > job.idle_seconds:
        return "idle"
    if job.lines is None and job.received > job.limits.output_mb * 1_000_000:
        return "output"
    return None


def _exited(job: _Job) -> Exited:
    code = job.process.returncode
    number = -code if code < 0 else code - 128 if 128 < code < 160 else None
    job.meter.end(job.tree.cpu_seconds)
    return Exited(
        code=code if code >= 0 else None,
        signal=number if number in set(signal.Signals) else None,
        seconds=time.monotonic() - job.started,
        cpu_seconds=job.tree.cpu_seconds,
        output=clean_text(job.kept.value()),
        truncated=job.kept.dropped > 0 or (job.lines is not None and job.lines.truncated),
        reason=job.reason or _killed_for_memory(job, number),
        level=level(),
        memory_peak_mb=-(-job.peak_bytes // machine.MB) or None,
    )


def _killed_for_memory(job: _Job, number: int | None) -> str | None:
    """A kill from outside while the kernel was short of memory, or near a limit of ours."""
    if number != signal.SIGKILL:
        return None
    kills, most = machine.oom_kills(), job.limits.memory_mb
    is_short = kills is not None and job.oom_kills is not None and kills > job.oom_kills
    is_near = most is not None and job.peak_bytes >= 0.9 * most * 1_000_000
    return "out_of_memory" if is_short or is_near else None


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _blocks(megabytes: int | None) -> int | None:
    # POSIX shells count file sizes in blocks of 512 bytes.
    return None if megabytes is None else megabytes * 2048
