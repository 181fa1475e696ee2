"""What a child process asks of the kernel before it becomes another program."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Drop:
    """Whom a child of root becomes, and the paths it must reach as that user."""

    uid: int
    gid: int
    reach: list[Path]

    def is_blocked(self) -> bool:
        """Say whether a directory on the way is closed to others, as root's home is."""
        return any(
            parent.exists() and not parent.stat().st_mode & 0o001
            for path in self.reach
            for parent in path.parents
        )


def die_with_parent(sign: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel signal this process when its parent dies (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, int(sign), 0, 0, 0)


def child_setup(sign: signal.Signals, drop: Drop | None = None) -> Callable[[], None]:
    """Make the function that a new child runs first: become `drop`, then die with the parent."""
    parent = os.getpid()
    capability = passing_capability() if drop and drop.is_blocked() else None

    def setup() -> None:
        if drop:
            become(drop, capability)
        # A change of user clears the wish, so it comes after.
        die_with_parent(sign)
        if os.getppid() != parent:
            os._exit(1)  # The parent died before the wish was heard.

    return setup


def passing_capability() -> int | None:
    """Find a capability of ours that lets a child pass through closed directories."""
    if sys.platform != "linux":
        return None
    status = Path("/proc/self/status").read_text()
    held = next((line for line in status.splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    mask = int(held.split()[1], 16)
    wanted = (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE)
    return next((number for number in wanted if mask >> number & 1), None)


def become(drop: Drop, capability: int | None) -> None:
    """Change to another user for good, keeping at most the one capability."""
    if capability is not None:
        _libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(drop.gid)
    os.setuid(drop.uid)
    if capability is None:
        return
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    bit = 1 << capability
    data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    _libc.capset(header, data)
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)


def main() -> None:
    """Become the command of `python -m config.posix PARENT COMMAND...`, and die with the parent."""
    parent, *command = sys.argv[1:]
    die_with_parent()
    if os.getppid() != int(parent):
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
