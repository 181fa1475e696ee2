"""Which paths hold Tutti's own data: other projects' hubs and clones, its servers and its keys."""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings

#: Folders of the data directory that hold nothing of any project.
OPEN = ("examples", "cache", "sources")


def shows(path: Path) -> bool:
    """Whether somebody who sees a path sees data of Tutti's own."""
    return is_own(path) or Path(settings.TUTTI_HOME).resolve().is_relative_to(path.resolve())


def is_own(path: Path) -> bool:
    """Whether a path leads into Tutti's data, as it is written or by its links.

    As it is written counts too: links in a clone are its agent's, who may turn them any time.
    """
    whole = path.resolve()
    home = Path(settings.TUTTI_HOME)
    homes = {Path(os.path.abspath(home)), home.resolve()}  # noqa: PTH100
    places = {Path(os.path.abspath(path)), whole}  # noqa: PTH100
    return any(
        place.is_relative_to(own) and not any(place.is_relative_to(own / name) for name in OPEN)
        for own in homes
        for place in places
    )
