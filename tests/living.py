"""Which processes a test left behind."""

from __future__ import annotations

import time

import psutil


def living(mark: object, *, is_whole: bool = False) -> list[int]:
    """The processes of this machine whose command lines hold a mark, which one test alone may use.

    Other tests run at the same time: a path of the test's own folder is such a mark. Those alone
    of which it is a whole word, and not a part of a script, when it `is_whole`.
    """
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if str(mark) in words if is_whole else any(str(mark) in word for word in words):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def left_behind(mark: object, seconds: float = 5) -> list[int]:
    """The living that are still there after a moment, which one that was just killed may take."""
    deadline = time.monotonic() + seconds
    while (found := living(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found
