"""Take what an agent made into the hub: through a quarantine, checked before it is pushed."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from projects import git
from projects.commits import Change, HubError
from projects.git import GitError
from projects.hub import Hub, init
from projects.text import clean_text

INCOMING = "refs/heads/incoming"
FILE_BYTES = 50_000_000
PATHS = 20_000
_HEADER = re.compile(rb"[0-9a-f]{40} (\S+)")


def take(
    hub: Hub, bundle: Path, ref: str, *, expected_base: str, max_bytes: int = 100_000_000
) -> str:
    """Take the bundle's one branch into the hub's `ref` and return its commit.

    The branch must build on `expected_base`. Raises HubError with a sentence when anything in
    it is refused; the hub then holds nothing of it.
    """
    git.check_ref(ref)
    _check_file(bundle, max_bytes)
    with git.scratch() as name:
        quarantine = _quarantine(hub, Path(name))
        head = _unbundle(quarantine, bundle)
        check(quarantine, expected_base, head)
        _push(hub, quarantine, ref, head)
    return head


def check(hub: Hub, base: str, head: str) -> None:
    """Raise HubError unless `head` builds on `base` and changes nothing that Tutti refuses."""
    if not hub.has(head):
        raise HubError("The bundle's branch is no commit; commit the work again.")
    if not hub.is_ancestor(base, head):
        raise HubError(
            f"The work does not build on {base[:10]}, the commit it was started from; "
            "keep the history and add commits to it."
        )
    changes = [change for change in hub.changes(base, head) if change.new_blob is not None]
    if len(changes) > PATHS:
        raise HubError(f"The work changes {len(changes)} files; more than {PATHS} are refused.")
    for change in changes:
        _check_path(change.path)
    hub.check_entries({c.path: (c.new_mode or "", c.new_blob or "") for c in changes})
    _check_twins(hub, head, changes)
    _check_sizes(hub, changes)


def _check_file(bundle: Path, max_bytes: int) -> None:
    try:
        # The agent may have put a link or a pipe here; only a plain file is opened by git.
        found = os.lstat(bundle)
    except FileNotFoundError:
        raise HubError("The agent's work was not handed over: there is no bundle.") from None
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise HubError("The agent's work was not handed over: its bundle is no plain file.")
    if found.st_size > max_bytes:
        raise HubError(
            f"The work is {found.st_size // 1_000_000} MB large, more than the "
            f"{max_bytes // 1_000_000} MB that are taken; leave built and downloaded files out."
        )


def _quarantine(hub: Hub, directory: Path) -> Hub:
    path = directory / "quarantine.git"
    init(path)
    (path / "objects" / "info" / "alternates").write_text(f"{hub.path.resolve() / 'objects'}\n")
    return Hub(path)


def _unbundle(quarantine: Hub, bundle: Path) -> str:
    name = _branch_in(bundle)
    options = ("--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--quiet", "--")
    try:
        git.run(
            "fetch",
            *options,
            str(bundle.resolve()),
            f"{name}:{INCOMING}",
            repo=quarantine.path,
            env={"GIT_ALLOW_PROTOCOL": "file"},
            timeout=120,
        )
    except GitError as error:
        message = f"The agent's work is no bundle that builds on known commits ({error.message})."
        raise HubError(message, error.code, error.stderr) from error
    head = quarantine.head(INCOMING)
    if head is None:
        raise HubError("The bundle's branch is no commit; commit the work again.")
    return head


def _branch_in(bundle: Path) -> str:
    """Return the name of the one branch that a bundle's header lists."""
    with bundle.open("rb") as file:
        head = file.read(64_000).split(b"\n\n", 1)[0].split(b"\n")
    if head[0] not in (b"# v2 git bundle", b"# v3 git bundle"):
        raise HubError("The agent's work is no git bundle; commit the work again.")
    names = [m[1].decode("utf-8", "replace") for m in map(_HEADER.fullmatch, head[1:]) if m]
    if len(names) != 1:
        raise HubError(f"The bundle holds {len(names)} branches; exactly one is taken.")
    return git.check_ref(names[0])


def _push(hub: Hub, quarantine: Hub, ref: str, head: str) -> None:
    """Push into the hub, whose receive-pack checks each new object before it is kept."""
    # The agent's branch is Tutti's to move: a turn that was done again may replace an older one.
    options = ("--quiet", "--force", "--no-verify", "--porcelain")
    program = "--receive-pack=git -c core.hooksPath=/dev/null receive-pack"
    try:
        git.run(
            "push",
            *options,
            program,
            "--",
            str(hub.path.resolve()),
            f"{head}:{ref}",
            repo=quarantine.path,
            env={"GIT_ALLOW_PROTOCOL": "file"},
            timeout=120,
        )
    except GitError as error:
        reason = next((line for line in error.stderr.splitlines() if "fsck" in line.lower()
                       or "object" in line), error.message)  # fmt: skip
        message = f"The work holds an object that is refused: {clean_text(reason, 300)}"
        raise HubError(message, error.code, error.stderr) from error


def _check_path(path: str) -> None:
    if any(part.lower() in (".git", ".", "..") for part in path.split("/")):
        raise HubError(f"{clean_text(path, 200)} would write into a git directory; rename it.")
    if clean_text(path) != path or "\n" in path or "\t" in path:
        raise HubError(
            f"The file name {clean_text(path, 200)!r} holds control characters or is not UTF-8; "
            "rename it."
        )


def _check_twins(hub: Hub, head: str, changes: list[Change]) -> None:
    """Refuse new paths that differ from others only in case: not every system holds both."""
    added = [change.path for change in changes if change.status == "A"]
    if not added:
        return
    seen: dict[str, str] = {}
    for path in hub.files(head):
        twin = seen.setdefault(path.casefold(), path)
        if twin != path and (path in added or twin in added):
            raise HubError(
                f"{clean_text(path, 200)} and {clean_text(twin, 200)} differ only in upper and "
                "lower case; rename one."
            )


def _check_sizes(hub: Hub, changes: list[Change]) -> None:
    sizes = hub.sizes([change.new_blob for change in changes if change.new_blob])
    for change in changes:
        if sizes.get(change.new_blob or "", 0) > FILE_BYTES:
            raise HubError(
                f"{clean_text(change.path, 200)} is larger than {FILE_BYTES // 1_000_000} MB; "
                "leave built and downloaded files out."
            )
