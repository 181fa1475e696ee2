"""Clean checkouts of a commit, for checks and for looking at code."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from projects.hub import Hub


@contextmanager
def clean_checkout(hub: Hub, commit: str, purpose: str) -> Iterator[Path]:
    """A clean checkout of a commit that is gone afterwards; `purpose` begins its folder's name."""
    folder = Path(settings.TUTTI_HOME) / "checks"
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=folder))
    try:
        hub.checkout(commit, place / "tree")
        yield place / "tree"
    finally:
        shutil.rmtree(place, ignore_errors=True)
