"""Keep files that hold a secret out of a module's branch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from projects import git
from projects.commits import read_batch
from projects.hub import Change, Hub
from projects.redaction import Redactor

#: Bytes of files that are read at once.
BATCH_BYTES = 20_000_000


def leaking_paths(hub: Hub, redactor: Redactor, base: str, head: str) -> list[str]:
    """The paths changed from `base` to `head` whose new content, or whose name, holds a secret."""
    if not redactor or base == head:
        return []
    changed = [change for change in hub.changes(base, head) if change.new_blob]
    blobs = {str(change.new_blob) for change in changed}
    leaking = {
        blob
        for batch in _batches(hub, sorted(blobs))
        for blob, content in zip(batch, _contents(hub, batch), strict=True)
        if redactor.holds(content)
    }
    return [c.path for c in changed if c.new_blob in leaking or redactor.text(c.path) != c.path]


def without(
    hub: Hub, base: str, head: str, paths: Sequence[str], message: str, author: tuple[str, str]
) -> str:
    """One commit on `base` with the tree of `head`, but with `paths` as they were in `base`.

    The commit that holds them is no part of its history.
    """
    before: dict[str, Change] = {change.path: change for change in hub.changes(base, head)}
    files = {p: hub.read(base, p) if before[p].old_blob else None for p in paths}
    tree = hub.tree(hub.commit_files(head, files, message))
    if tree == hub.tree(base):
        return base
    return hub.commit_tree(tree, [base], message, author=author, trailers={})


def _batches(hub: Hub, blobs: Sequence[str]) -> Iterator[list[str]]:
    sizes = hub.sizes(blobs)
    batch: list[str] = []
    total = 0
    for blob in blobs:
        if blob not in sizes:
            continue  # A submodule, which the gates refuse by themselves.
        if batch and total + sizes[blob] > BATCH_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(blob)
        total += sizes[blob]
    if batch:
        yield batch


def _contents(hub: Hub, blobs: Sequence[str]) -> list[bytes]:
    wanted = "".join(f"{blob}\n" for blob in blobs).encode()
    out = git.run("cat-file", "--batch", repo=hub.path, input=wanted).out
    return [content or b"" for content in read_batch(out)]
