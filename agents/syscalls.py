"""A seccomp filter for what no namespace holds: calls that reach past a sandbox's walls.

The kernel's key rings belong to users and sessions, sockets to a hypervisor to no network,
io_uring opens sockets behind a filter's back, and in a user namespace of its own a guest may
mount. Machines whose numbers are not listed start without the filter.
"""

from __future__ import annotations

import functools
import os
import platform
import struct

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_VSOCK = 40
_X32 = 0x40000000

#: What is refused, and its number on each machine.
NUMBERS = {
    "x86_64": {"add_key": 248, "request_key": 249, "keyctl": 250, "bpf": 321,
               "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425,
               "open_by_handle_at": 304},
    "aarch64": {"add_key": 217, "request_key": 218, "keyctl": 219, "bpf": 280,
                "perf_event_open": 241, "userfaultfd": 282, "io_uring_setup": 425,
                "open_by_handle_at": 265},
}  # fmt: skip
_SOCKET = {"x86_64": 41, "aarch64": 198}
CLONING = {"x86_64": (56, 272), "aarch64": (220, 97)}
_CLONE3 = 435
_NEW_USERS = 0x10000000
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


@functools.cache
def program(machine: str) -> bytes:
    """Return the filter as the kernel reads it; empty for a machine whose numbers are not known."""
    if machine not in NUMBERS:
        return b""
    lines = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, _AUDIT[machine]),
             (_RETURN, 0, 0, _FAIL | _ENOSYS), (_LOAD, 0, 0, _NUMBER)]  # fmt: skip
    if machine == "x86_64":
        lines += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _FAIL | _ENOSYS)]
    for number in NUMBERS[machine].values():
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _FAIL | _EPERM)]
    # Its flags lie where no filter can read them; the C library goes on with clone.
    lines += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _FAIL | _ENOSYS)]
    for number in CLONING[machine]:
        lines += _unless(number, _ANY_BIT, _NEW_USERS)
    lines += [*_unless(_SOCKET[machine], _EQUAL, _VSOCK), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _unless(number: int, test: int, value: int) -> list[tuple[int, int, int, int]]:
    """Refuse a call whose first argument meets the test, and allow it otherwise."""
    return [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, _FIRST_ARGUMENT), (test, 0, 1, value),
            (_RETURN, 0, 0, _FAIL | _EPERM), (_RETURN, 0, 0, _ALLOW)]  # fmt: skip


def pipe() -> int:
    """Return a pipe's end from which bubblewrap reads the filter; -1 where there is none."""
    filter_ = program(platform.machine())
    if not filter_:
        return -1
    reader, writer = os.pipe()
    os.write(writer, filter_)
    os.close(writer)
    return reader
