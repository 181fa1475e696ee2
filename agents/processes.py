"""Watch and end whole trees of processes."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from projects.git import SCRATCH

MARK = "TUTTI_SANDBOX"
# Where the kernel lists the children of a thread; reading it costs a tenth of walking /proc.
CHILDREN = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")


@dataclass(frozen=True)
class Sample:
    """What a tree of processes uses now."""

    count: int
    memory_bytes: int
    cpu_seconds: float


class Tree:
    """A started process and everything that came of it.

    `init` is the first process of its own pid namespace, if it has one: the kernel ends all
    others with it. Without one, strays are found by the environment mark they inherited.
    """

    def __init__(self, pid: int, init: int | None, mark: str) -> None:
        self.pid, self.init, self.mark = pid, init, mark
        self.init_fd = _pidfd(init)
        self.cpu_seconds = 0.0

    def has_ended(self, process: subprocess.Popen[bytes]) -> bool:
        """Reap the process when it has ended, and keep its CPU time."""
        if process.returncode is not None:
            return True
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return False
        process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_seconds = max(self.cpu_seconds, usage.ru_utime + usage.ru_stime)
        return True

    def members(self) -> list[psutil.Process]:
        """Return the living processes of the tree, without bubblewrap's own two."""
        found = []
        for pid in _descendants(self.init or self.pid) + ([] if self.init else [self.pid]):
            with contextlib.suppress(psutil.Error):
                found.append(psutil.Process(pid))
        return found

    def sample(self) -> Sample:
        """Measure the tree; what ends between two looks is only seen through its parent."""
        count, memory, cpu = 0, 0, 0.0
        for member in self.members():
            with contextlib.suppress(psutil.Error):
                times = member.cpu_times()
                memory += member.memory_info().rss
                cpu += times.user + times.system + times.children_user + times.children_system
                count += 1
        self.cpu_seconds = max(self.cpu_seconds, cpu)
        return Sample(count, memory, cpu)

    def terminate(self) -> None:
        """Ask every process of the tree to end."""
        for member in self.members():
            with contextlib.suppress(psutil.Error):
                member.terminate()

    def kill(self) -> None:
        """End every process of the tree at once."""
        self._kill_init()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self.init is None:
            for member in self.members():
                with contextlib.suppress(psutil.Error):
                    member.kill()

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End what is left and wait until it is gone."""
        if not self.has_ended(process):
            self.kill()
            process.wait()
        if self.init_fd is not None:
            self._kill_init()
            _wait(self.init_fd)
            os.close(self.init_fd)
            self.init_fd = None
        if self.init is None:
            _sweep(lambda mark: mark == self.mark)

    def _kill_init(self) -> None:
        """Kill the namespace by descriptor: the number could name another process by now."""
        if self.init_fd is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.init_fd, signal.SIGKILL)


@contextmanager
def exit_event(pid: int) -> Iterator[int | None]:
    """Yield a file descriptor that is readable once the process ended, where the host has one."""
    descriptor = _pidfd(pid)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def end_orphans() -> int:
    """End sandboxed processes whose worker is gone, and return how many there were."""
    return _sweep(_is_orphaned)


def _is_orphaned(mark: str) -> bool:
    worker = mark.partition("-")[0]
    return worker.isdigit() and not psutil.pid_exists(int(worker))


def remove_scratch() -> int:
    """Remove the temporary directories of killed workers, and return how many there were."""
    removed = 0
    for path in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        owner = path.name.removeprefix(SCRATCH).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)) and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def _sweep(is_meant: Callable[[str], bool]) -> int:
    """Kill everything with such a mark until a look finds nothing new; returns how many."""
    ended: set[psutil.Process] = set()
    for _ in range(20):
        found = [process for process, mark in _marked() if is_meant(mark)]
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
                ended.add(process)
        if not found:
            break
        psutil.wait_procs(found, timeout=0.2)
    return len(ended)


def _descendants(pid: int) -> list[int]:
    """Return the living descendants of a process, nearest first."""
    if not CHILDREN.exists():
        try:
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        except psutil.Error:
            return []
    found, at = [pid], 0
    while at < len(found):
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{found[at]}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        at += 1
    return found[1:]


def _marked() -> Iterator[tuple[psutil.Process, str]]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            value = process.environ().get(MARK)
            if value:
                yield process, value


def _pidfd(pid: int | None) -> int | None:
    if pid is None or not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _wait(descriptor: int) -> None:
    """Wait until the process of a pid descriptor is gone, five seconds at most."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not poll.poll(50):
        pass
