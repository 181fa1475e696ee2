"""Which processes a test left behind."""

from __future__ import annotations

import psutil


def living(mark: object) -> list[int]:
    """The processes of this machine whose command lines hold a mark, which one test alone may use.

    Other tests run at the same time: a path of the test's own folder is such a mark.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(mark) in word for word in process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
