"""An actor that shows which process worked on it."""

from __future__ import annotations

import os
from pathlib import Path

import dramatiq


@dramatiq.actor(queue_name="faults", max_retries=0, time_limit=float("inf"))
def sign(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
