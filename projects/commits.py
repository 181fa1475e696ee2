"""What git says about commits, as values; and commit messages."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from projects import git
from projects.git import GitError
from projects.text import clean_text


class HubError(GitError):
    """What an agent handed in is refused; the text says why."""


@dataclass(frozen=True)
class Change:
    """One path that differs between two trees; blobs and modes are None where it is absent."""

    path: str
    status: str
    old_mode: str | None
    new_mode: str | None
    old_blob: str | None
    new_blob: str | None


@dataclass(frozen=True)
class Merged:
    """The outcome of a merge without a work tree: a tree, or the paths in conflict."""

    tree: str | None
    conflicts: list[str]
    messages: list[str]


@dataclass(frozen=True)
class Diff:
    """A diff as safe text, and whether it was cut."""

    text: str
    truncated: bool


@dataclass(frozen=True)
class Commit:
    """One commit of a log; `at` is the commit time in seconds since 1970."""

    sha: str
    author: str
    at: int
    subject: str


@dataclass(frozen=True)
class Published:
    """What became of a push to the source; `message` is a sentence for people."""

    is_done: bool
    message: str


def link_target(path: str, target: str) -> str | None:
    """Return the path inside the tree that a link at `path` leads to, or None if it leaves it."""
    if target.startswith("/") or not target or "\0" in target:
        return None
    full = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return None if full == ".." or full.startswith("../") else full


def one_line(value: str) -> str:
    """Return `value` as one safe line, as a name or trailer needs it."""
    return " ".join(clean_text(value, 300).replace("<", "").replace(">", "").split())


def commit_message(message: str, trailers: Mapping[str, str]) -> str:
    """Return a commit message with its trailers as the last paragraph."""
    body = clean_text(message, 20_000).strip() or "Change"
    lines = [f"{name}: {one_line(value)}" for name, value in trailers.items()]
    return body + "\n" + ("\n" + "\n".join(lines) + "\n" if lines else "")


def read_row(raw: bytes) -> list[str]:
    """Return the four fields of a log line as safe text."""
    fields = raw.split(b"\x1f", 3)
    return [clean_text(field, 500) for field in fields + [b""] * (4 - len(fields))]


def read_change(meta: bytes, raw: bytes) -> Change:
    """Return the change that one entry of `diff-tree --raw -z` tells of."""
    old_mode, new_mode, old_blob, new_blob, status = meta.decode().removeprefix(":").split(" ")
    return Change(
        path=git.decode(raw),
        status=status[0],
        old_mode=None if status == "A" else old_mode,
        new_mode=None if status == "D" else new_mode,
        old_blob=None if status == "A" else old_blob,
        new_blob=None if status == "D" else new_blob,
    )


def read_messages(raw: bytes) -> list[str]:
    """Return the texts of merge-tree's messages: each is count, paths, type and text."""
    fields = raw.split(b"\0")
    found, at = [], 0
    while at < len(fields) and fields[at].strip().isdigit():
        text_at = at + int(fields[at]) + 2
        if text_at >= len(fields):
            break
        found.append(clean_text(fields[text_at], 500).strip())
        at = text_at + 1
    return found


def read_count(raw: bytes) -> int | None:
    """Return a count of lines, or None for the "-" of a binary file."""
    return int(raw) if raw.isdigit() else None


def blob_size(info: bytes) -> int | None:
    """Return the size in a line of `cat-file --batch-check`, or None for what is no blob."""
    words = info.split(b" ")
    return int(words[2]) if len(words) == 3 and words[1] == b"blob" else None


def read_batch(out: bytes) -> Iterator[bytes | None]:
    """Yield the blobs of `cat-file --batch`; None for what is missing or no blob."""
    at = 0
    while at < len(out):
        end = out.index(b"\n", at)
        words = out[at:end].split(b" ")
        if len(words) == 3 and words[2].isdigit():
            size = int(words[2])
            yield out[end + 1 : end + 1 + size] if words[1] == b"blob" else None
            at = end + 2 + size
        else:
            yield None
            at = end + 1
