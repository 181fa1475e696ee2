"""Look at a repository at a commit, for plans; its code is parsed in the sandbox alone."""

from __future__ import annotations

from pathlib import Path

from agents import evidence
from agents.checkouts import clean_checkout
from agents.codebase import Codebase, setup_files
from projects.coupling import ImportEdge
from projects.hub import Hub
from projects.text import clean_text
from reviews.analysis import AnalysisError
from reviews.checks import Runner, Stop, never

MOST_SETUP = 100_000
#: Commits that are looked at for files that changed together.
HISTORY = 2_000


def survey(
    hub: Hub,
    commit: str,
    runner: Runner,
    environment: Path | None = None,
    *,
    stop: Stop = never,
) -> Codebase:
    """The codebase at a commit; what its imports are stays out, with the reason, when they can't
    be read."""
    blobs = {path: blob for path, blob in hub.blobs(commit).items() if path.isprintable()}
    for link in hub.links(commit):
        blobs.pop(link, None)
    sizes = hub.sizes(list(blobs.values()))
    missing, edges = "", list[ImportEdge]()
    with clean_checkout(hub, commit, "survey") as tree:
        try:
            edges = evidence.imports(runner, tree, environment=environment, stop=stop)
        except AnalysisError as error:
            missing = str(error)
    return Codebase(
        {path: sizes.get(blob, 0) for path, blob in blobs.items()},
        tuple(edges),
        tuple(frozenset(paths) for _, paths in hub.history(HISTORY, commit)),
        {path: _text(hub, commit, path) for path in setup_files(blobs)},
        missing,
    )


def _text(hub: Hub, commit: str, path: str) -> str:
    raw = hub.read(commit, path) or b""
    return clean_text(raw[:MOST_SETUP].decode("utf-8", "replace"), MOST_SETUP)
