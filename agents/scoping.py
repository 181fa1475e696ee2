"""Start a program that reaches no abstract socket and signals nobody outside of what it starts.

    python -I -S scoping.py PROGRAM [ARGUMENT ...]

Stands alone, and becomes the program. The kernel's Landlock keeps the promise, from Linux 6.12 on;
on an older kernel the program starts without it.
"""

from __future__ import annotations

import ctypes
import os
import sys

CREATE_RULESET, RESTRICT_SELF = 444, 446
VERSION_FLAG = 1
SCOPES_SINCE = 6
ABSTRACT_SOCKETS, SIGNALS = 1, 2
NO_NEW_PRIVILEGES = 38


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def is_known() -> bool:
    """Tell whether this kernel can keep the promise."""
    if not sys.platform.startswith("linux"):
        return False
    version = _libc().syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG)
    return int(version) >= SCOPES_SINCE


def restrict() -> None:
    """Put this process, and all that it will start, into a scope of their own; raise OSError."""
    libc = _libc()
    wanted = _Ruleset(0, 0, ABSTRACT_SOCKETS | SIGNALS)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    ruleset = libc.syscall(CREATE_RULESET, ctypes.byref(wanted), size, 0)
    if ruleset < 0 or libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "Landlock is not to be had")
    if libc.syscall(RESTRICT_SELF, ruleset, 0):
        raise OSError(ctypes.get_errno(), "Landlock did not take the rules")
    os.close(ruleset)


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


if __name__ == "__main__":
    if is_known():
        restrict()
    os.execv(sys.argv[1], sys.argv[1:])
