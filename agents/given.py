"""Repository text for an orchestrator that has no clone: what it may mend, as far as it fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from agents.assignments import Assignment, fenced
from agents.models import Profile, Run
from agents.work import Work
from projects import globs
from reviews.models import Finding

#: Backends whose model sees only what it is sent.
BLIND = ("llm",)
LARGEST_FILE = 60_000
MOST_BYTES = 200_000


def files_of(work: Work, profile: Profile, commit: str | None) -> dict[str, str | None]:
    """The files of a commit; those that a fix may change with their text, None where it is left
    out for its size. Empty for an agent that has a clone, and for any other kind of run."""
    if profile.backend not in BLIND or work.run.kind != Run.Kind.FIX or commit is None:
        return {}
    blobs = work.hub.blobs(commit)
    links = set(work.hub.links(commit))
    mine = globs.Files(blobs).matched((*work.contract.owns, *work.contract.exceptions))
    found: dict[str, str | None] = dict.fromkeys(blobs)
    left = MOST_BYTES
    for path in _nearest_first(work, commit, [path for path in mine if path not in links]):
        text = _text(work, commit, path)
        if text is not None and len(text) <= left:
            found[path] = text
            left -= len(text)
    return found


def with_files(assignment: Assignment, files: Mapping[str, str | None]) -> Assignment:
    """The assignment with the text of the files, at the end of it and of its follow-up."""
    shown = {path: text for path, text in files.items() if text is not None}
    if not shown:
        return assignment
    parts = [f"## {path}\n{fenced(text)}" for path, text in shown.items()]
    section = "\n\n".join(["# Files that you may change, as they are now", *parts])
    return replace(
        assignment,
        text=f"{assignment.text}\n\n{section}",
        follow_up=f"{assignment.follow_up}\n\n{section}" if assignment.follow_up else "",
    )


def _nearest_first(work: Work, commit: str, paths: Iterable[str]) -> list[str]:
    """Files with findings first, then those that the module changed, then the others."""
    batch = work.module.open_findings
    rows = Finding.objects.filter(project_id=work.run.project_id, batch=batch)
    marked = set(rows.values_list("path", flat=True)) if batch else set()
    base = str(work.hub.merge_base(str(work.hub.head(work.above)), commit))
    changed = {change.path for change in work.hub.changes(base, commit)}
    return sorted(paths, key=lambda path: (path not in marked, path not in changed, path))


def _text(work: Work, commit: str, path: str) -> str | None:
    raw = work.hub.read(commit, path, max_bytes=20_000_000)
    if raw is None or len(raw) > LARGEST_FILE or b"\0" in raw:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
