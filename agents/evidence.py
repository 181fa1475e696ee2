"""Collect what coupling is judged by: imports of a checkout, and files that changed together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from projects.coupling import ImportEdge, Suggestion, suggest
from projects.hub import Hub
from projects.specs import ModuleSpec
from reviews.analysis import AnalysisError, analyse, packages, python_files
from reviews.checks import Runner, Stop, never

HISTORY = 5_000
"""Commits that are looked at for files that changed together."""


def imports(
    runner: Runner,
    tree: Path,
    roots: Sequence[str] = (),
    environment: Path | None = None,
    *,
    stop: Stop = never,
) -> list[ImportEdge]:
    """Imports between the Python files of a checkout, the tests' included, in the sandbox.

    `roots` are top-level packages; by default all that the tree holds. Raises AnalysisError.
    """
    files = python_files(tree)
    if not files.paths:
        return []
    job = {"edges": True, "packages": list(roots) or packages(files), "files": files.paths}
    answer = analyse(job, tree, runner, environment=environment, stop=stop)
    return [ImportEdge(*edge) for edge in answer["edges"]]


def changed_together(hub: Hub, commit: str, limit: int = HISTORY) -> list[frozenset[str]]:
    """The files of each commit of the history before `commit`."""
    return [frozenset(paths) for _, paths in hub.history(limit, commit)]


def suggestions(
    specs: Sequence[ModuleSpec],
    hub: Hub,
    commit: str,
    tree: Path,
    runner: Runner,
    environment: Path | None = None,
    *,
    stop: Stop = never,
) -> tuple[list[Suggestion], str]:
    """What the evidence suggests for a plan, and why a part of it is missing ("" if none is)."""
    missing, edges = "", list[ImportEdge]()
    try:
        edges = imports(runner, tree, environment=environment, stop=stop)
    except AnalysisError as error:
        missing = str(error)
    together = changed_together(hub, commit)
    return suggest(specs, edges, together, tracked=hub.files(commit)), missing
