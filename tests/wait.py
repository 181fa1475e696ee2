"""Waiting for a condition, the one way in which a test may wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def until(
    condition: Callable[[], Value], *, seconds: float = 20, what: str = "", every: float = 0.02
) -> Value:
    """Return the condition's first true value; it is asked again after `every` seconds.

    Raises:
        AssertionError: when there is none in time.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"Waited {seconds:g} s for {what or condition}."
        time.sleep(every)
    return value
