"""A module's own clone: made by the server, afterwards touched only inside the sandbox."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings

from agents import sandbox
from projects import git
from projects.git import GitError
from projects.hub import Hub, commit_message, encode_slug, init, one_line
from projects.text import clean_text

BRANCH = "refs/heads/work"
GIT_SECONDS = 120.0
BUNDLE_BYTES = 100_000_000

# An agent that lives on between its turns may use git at the same moment, and hold its locks.
_AGAIN = """
again() {
  tries=0
  until find .git -name '*.lock' -type f -delete && "$@"; do
    tries=$((tries + 1))
    [ $tries -lt 20 ] || return 1
    sleep 0.1
  done
}
"""
# $1: the commit the turn started from. The tree of the work is put on top of exactly that commit,
# so whatever the agent did to branches, index and history counts for nothing.
_CHECKPOINT = """
set -e
[ -d .git ] && [ ! -L .git ] || { echo 'TUTTI no repository'; exit 70; }
$GIT cat-file -e "$1^{commit}" || { echo 'TUTTI lost commit'; exit 71; }
find .git -name '*.lock' -type f -delete
$GIT add -A . || { rm -f .git/index; again $GIT read-tree "$1"; again $GIT add -A .; }
tree=$(again $GIT write-tree)
[ "$tree" != "$($GIT rev-parse --verify "$1^{tree}")" ] || exit 60
new=$($GIT commit-tree "$tree" -p "$1")
$GIT update-ref --no-deref refs/tutti/out "$new"
$GIT update-ref --no-deref "$BRANCH" "$new"
$GIT symbolic-ref HEAD "$BRANCH"
$GIT bundle create "$OUT/work.bundle" refs/tutti/out "^$1"
"""
# $1: the bundle, $2: the commit to be at; then name and commit of each further ref.
_UPDATE = """
set -e
[ -d .git ] && [ ! -L .git ] || { echo 'TUTTI no repository'; exit 70; }
bundle=$1; new=$2; shift 2
[ -z "$bundle" ] || $GIT fetch --no-tags --quiet "$bundle" '+refs/tutti/bundle:refs/tutti/in'
$GIT symbolic-ref HEAD "$BRANCH"
again $GIT reset --hard --quiet "$new"
$GIT clean -ffdq
while [ $# -gt 1 ]; do $GIT update-ref --no-deref "$1" "$2"; shift 2; done
"""
_GREETINGS = {
    70: "The agent removed or replaced its repository (.git); the work of this turn is lost.",
    71: "The agent's repository no longer holds the commit it started from; its work is lost.",
}


class WorkspaceError(GitError):
    """The agent's clone cannot be used; `kind` is "repo", "size" or "timeout"."""

    def __init__(self, message: str, kind: str = "repo", stderr: str = "") -> None:
        super().__init__(message, 1, stderr)
        self.kind = kind


class Workspace:
    """The directory of one module on this host: the clone at `path`, `home`, `tmp` and state."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self.path = self.directory / "clone"
        self.home = self.directory / "home"
        self.tmp = self.directory / "tmp"
        self.out = self.directory / "out"

    @classmethod
    def of(cls, project_id: int, slug: str) -> Workspace:
        """Return the workspace of a module, whether it exists or not."""
        return cls(Path(settings.TUTTI_HOME) / "workspaces" / str(project_id) / encode_slug(slug))

    @property
    def commit(self) -> str | None:
        """The commit that the clone was last at, as the server knows it."""
        return self._state().get("commit")

    def exists(self) -> bool:
        """Tell whether the clone was made and its directory is still there."""
        return self.commit is not None and (self.path / ".git").is_dir()

    def prepare(self, hub: Hub, commit: str, *, refs: Mapping[str, str] | None = None) -> Workspace:
        """Make the clone anew at `commit`, with only what is reachable from it and from `refs`.

        `refs` are names below refs/tutti/ ("base", "tests") and their commits. What was in the
        clone and in tmp before is gone; home stays, for an agent resumes its session from there.
        """
        wanted = {_ref(name): git.check_sha(sha) for name, sha in (refs or {}).items()}
        for directory in (self.path, self.tmp, self.out):
            _remove_tree(directory)
        for directory in (self.path, self.home, self.tmp, self.out):
            directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        self.directory.chmod(0o700)
        _disarm(self.home)
        repository = self.path / ".git"
        init(repository, bare=False)
        self._copy(hub, repository, [commit, *wanted.values()])
        for name, sha in (wanted | {BRANCH: commit}).items():
            file = repository / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{sha}\n")
        (repository / "HEAD").write_text(f"ref: {BRANCH}\n")
        # The clone is fresh here and no agent ran in it yet: the last time that git outside may.
        Hub(repository).write_files(commit, self.path, repository / "index")
        self._remember(commit)
        return self

    def update(self, hub: Hub, commit: str, *, refs: Mapping[str, str] | None = None) -> None:
        """Bring the clone to a newer commit of the hub; uncommitted work in it is dropped."""
        known = self._known()
        words = [w for name, sha in (refs or {}).items() for w in (_ref(name), git.check_sha(sha))]
        # What the sandbox may only read is never Tutti's own, so that it lies where git may write.
        with tempfile.TemporaryDirectory(
            prefix="in-", dir=self.out, ignore_cleanup_errors=True
        ) as name:
            incoming = Path(name)
            is_new = commit != known
            bundle = hub.bundle(commit, incoming, exclude=[known]) if is_new else None
            argv = [str(bundle or ""), commit, *words]
            done = self._git(_UPDATE, argv, env={"GIT_ALLOW_PROTOCOL": "file"})
        if done.code != 0:
            raise _failed(done, "take in a newer commit")
        self._remember(commit)

    def checkpoint(
        self,
        message: str,
        author: tuple[str, str],
        trailers: Mapping[str, str] | None = None,
        *,
        max_bytes: int = BUNDLE_BYTES,
    ) -> Path | None:
        """Commit the work on top of the known commit and bundle it, all inside the sandbox.

        Returns the bundle for `intake.take(expected_base=workspace.commit)`, or None when
        nothing changed. After the hub took it, `accept` the new commit.
        """
        self._empty_out()
        env = {
            "GIT_AUTHOR_NAME": one_line(author[0]) or "agent",
            "GIT_AUTHOR_EMAIL": one_line(author[1]).strip("<>") or "agent@localhost",
            "OUT": str(self.out),
        }
        done = self._git(_CHECKPOINT, [self._known()], env=env, max_bytes=max_bytes,
                         stdin=commit_message(message, trailers or {}).encode())  # fmt: skip
        if done.code == 60 and done.reason is None:
            return None
        if done.code != 0 or done.reason is not None:
            raise _failed(done, "commit the work")
        return _plain_file(self.out / "work.bundle", max_bytes)

    def accept(self, commit: str) -> None:
        """Note that the hub took the work of the last checkpoint as `commit`."""
        self._remember(git.check_sha(commit))

    def remove(self) -> None:
        """Remove the whole workspace, whatever modes the agent gave its directories."""
        if self.directory.is_dir() and not self.directory.is_symlink():
            _remove_tree(self.directory)

    def _git(
        self,
        script: str,
        argv: list[str],
        *,
        env: Mapping[str, str],
        stdin: bytes = b"",
        max_bytes: int = BUNDLE_BYTES,
    ) -> sandbox.Exited:
        if not self.path.is_dir():
            raise WorkspaceError("The workspace has no clone any more; retry the module.")
        shell = "GIT() { " + " ".join(_quoted(git.base_argv())) + ' "$@"; }\n'
        text = shell + _AGAIN + script.replace("$GIT", "GIT")
        return sandbox.run(
            ["/bin/sh", "-c", text, "sh", *argv],
            workspace=self.path,
            writable=[self.out],
            env=git.environment(inside=True) | {"BRANCH": BRANCH} | dict(env),
            stdin=stdin,
            timeout_seconds=GIT_SECONDS,
            grace_seconds=1.0,
            max_output=64_000,
            limits=sandbox.Limits(file_mb=max(2 * max_bytes // 1_000_000, 200)),
        )

    def _copy(self, hub: Hub, repository: Path, commits: list[str]) -> None:
        """Copy the objects of `commits` as one pack: no hard links, nothing of other modules."""
        wanted = "".join(f"{git.check_sha(commit)}\n" for commit in dict.fromkeys(commits))
        options = ("--revs", "--stdout", "--delta-base-offset", "-q")
        pack = git.run("pack-objects", *options, repo=hub.path, input=wanted.encode(), timeout=300)
        git.run("index-pack", "--stdin", repo=repository, input=pack.out, timeout=300)

    def _empty_out(self) -> None:
        _remove_tree(self.out)
        self.out.mkdir(mode=0o700)

    def _known(self) -> str:
        commit = self.commit
        if commit is None:
            raise WorkspaceError("The workspace was never prepared; retry the module.")
        return commit

    def _state(self) -> dict[str, str]:
        try:
            return dict(json.loads((self.directory / "state.json").read_text()))
        except (OSError, ValueError):
            return {}

    def _remember(self, commit: str) -> None:
        new = self.directory / "state.json.new"
        new.write_text(json.dumps({"commit": commit}))
        new.replace(self.directory / "state.json")


def _ref(name: str) -> str:
    return git.check_ref(name if name.startswith("refs/") else f"refs/tutti/{name}")


def _quoted(words: list[str]) -> list[str]:
    return ["'" + word.replace("'", "'\\''") + "'" for word in words]


def _failed(done: sandbox.Exited, what: str) -> WorkspaceError:
    detail = clean_text(done.output, 2_000)
    if done.reason == "timeout":
        message = (
            f"git took longer than {GIT_SECONDS:g} s to {what}; a filter or hook that the agent "
            "planted may hang."
        )
        return WorkspaceError(message, "timeout", detail)
    if done.code in _GREETINGS:
        return WorkspaceError(_GREETINGS[done.code], "repo", detail)
    if "File too large" in detail or done.signal == 25:
        return WorkspaceError("The work is too large to be handed over.", "size", detail)
    last = (detail.strip().splitlines() or [done.reason or f"exit {done.code}"])[-1]
    return WorkspaceError(f"The agent's repository is broken: could not {what} ({last}).", "repo",
                          detail)  # fmt: skip


def _plain_file(path: Path, max_bytes: int) -> Path:
    try:
        found = path.lstat()
    except OSError:
        raise WorkspaceError(
            "The commit left no bundle; the agent's repository is broken."
        ) from None
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise WorkspaceError("The bundle of the work is no plain file; it is refused.")
    if found.st_size > max_bytes:
        raise WorkspaceError(
            f"The work is {found.st_size // 1_000_000} MB large, more than "
            f"{max_bytes // 1_000_000} MB; leave built and downloaded files out.",
            "size",
        )
    return path


def _disarm(home: Path) -> None:
    """Remove links and pipes that an agent left in its home: the server writes prompts there."""
    home.chmod(0o700)
    for path in home.iterdir():
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            path.unlink()


def _remove_tree(path: Path) -> None:
    """Remove a directory that an agent wrote in, without following links."""
    shutil.rmtree(path, ignore_errors=True)
    if not path.exists():
        return
    path.chmod(0o700)
    for root, directories, _ in os.walk(path):
        for full in (Path(root) / name for name in directories):
            if not full.is_symlink():
                full.chmod(0o700)
    shutil.rmtree(path)
