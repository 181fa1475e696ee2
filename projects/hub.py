"""The hub: a project's bare repository, which only Tutti writes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from projects import git, sources
from projects.commits import (
    Change as Change,
)
from projects.commits import (
    Commit as Commit,
)
from projects.commits import (
    Diff as Diff,
)
from projects.commits import (
    HubError as HubError,
)
from projects.commits import (
    Merged as Merged,
)
from projects.commits import (
    Published as Published,
)
from projects.commits import (
    blob_size,
    read_batch,
    read_change,
    read_count,
    read_messages,
    read_row,
)
from projects.commits import (
    commit_message as commit_message,
)
from projects.commits import (
    link_target as link_target,
)
from projects.commits import (
    one_line as one_line,
)
from projects.git import GitError, Result
from projects.text import clean_text

LINK, SUBMODULE = "120000", "160000"
LONGEST_LINK = 4096
INTEGRATION = "refs/heads/tutti/integration"

_CONFIG = """\
[core]
	repositoryformatversion = 0
	filemode = true
	bare = {bare}
	logAllRefUpdates = false
[gc]
	auto = 0
[maintenance]
	auto = false
[transfer]
	fsckObjects = true
[receive]
	fsckObjects = true
	autogc = false
	denyDeletes = true
"""
# What a team's own old history may hold and no attack needs; new objects get no such pardon.
_PARDONED = ("badTimezone", "missingSpaceBeforeDate", "zeroPaddedFilemode", "zeroPaddedDate")
# In-tree attributes choose filters, encodings, merge and diff drivers; here none of them counts.
ATTRIBUTES = "* -text -ident !crlf !eol !filter !working-tree-encoding !merge !diff !whitespace\n"


def integration_ref() -> str:
    """Return the ref of the project's integration branch."""
    return INTEGRATION


def module_ref(plan_number: int, slug: str) -> str:
    """Return the ref of a module's branch; a child's is no path below its parent's."""
    return git.check_ref(f"refs/heads/tutti/{plan_number}/{encode_slug(slug)}")


def encode_slug(slug: str) -> str:
    """Return a slug as one path component: `parent/child` is `parent+child`."""
    return slug.replace("/", "+")


def remove_leftovers(hubs: Path) -> int:
    """Remove half-made hubs of killed processes of this machine; returns how many there were."""
    removed = 0
    for path in hubs.glob("*.new"):
        pid = path.suffixes[-2].removeprefix(".") if len(path.suffixes) > 1 else ""
        if pid.isdigit() and not Path("/proc", pid).exists() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def init(path: Path, *, bare: bool = True) -> None:
    """Write an empty repository to the git directory `path`, without templates and hooks."""
    for name in ("objects/pack", "objects/info", "refs/heads", "info"):
        (path / name).mkdir(parents=True, exist_ok=True)
    (path / "config").write_text(_CONFIG.format(bare=str(bare).lower()))
    (path / "info" / "attributes").write_text(ATTRIBUTES)
    (path / "HEAD").write_text(f"ref: {INTEGRATION}\n")


class Hub:
    """A project's bare repository at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: Path, source: str, branch: str, *, roots: Iterable[Path]) -> Hub:
        """Make the hub from the source's branch, which also becomes the integration branch.

        `source` is a path under one of `roots`, or an https or ssh URL; an empty `branch` means
        the source's default one. Raises GitError with a sentence when it cannot be had.
        """
        git.version()
        checked = sources.parse(source, roots)
        wanted = sources.check_branch(checked, branch)
        hub = cls(path)
        if path.exists():
            raise GitError(f"There is already a hub at {path}; remove it or use it.")
        # Everything happens beside the final place, so that a crash leaves no half hub there.
        building = path.with_name(f"{path.name}.{os.getpid()}.new")
        shutil.rmtree(building, ignore_errors=True)
        try:
            init(building)
            commit = cls(building)._fetch(checked, wanted)
            cls(building).swap(INTEGRATION, commit, None)
            building.rename(path)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return hub

    def fetch_source(self, source: str, branch: str, *, roots: Iterable[Path]) -> str:
        """Fetch the source's branch again and return its commit."""
        return self._fetch(sources.parse(source, roots), git.check_branch(branch))

    def source_head(self, source: str, branch: str, *, roots: Iterable[Path]) -> str | None:
        """Return the commit that the source's branch is at now, or None when it has none."""
        return sources.head(sources.parse(source, roots), branch)

    def head(self, ref: str) -> str | None:
        """Return the commit that a full ref name is at, or None when there is no such ref."""
        name = git.check_ref(ref)
        if name.startswith("refs/heads/"):
            # Read a dozen times a run; git replaces the file as a whole, and packs it seldom.
            with suppress(OSError, UnicodeDecodeError):
                text = (self.path / name).read_text("ascii").rstrip("\n")
                if git.is_sha(text):
                    return text
        return self._resolve(name)

    def has(self, commit: str) -> bool:
        """Tell whether the hub holds this commit."""
        return git.is_sha(commit) and self._resolve(commit) is not None

    def tree(self, commit: str) -> str:
        """Return the tree of a commit."""
        return self._git("rev-parse", "--verify", f"{git.check_sha(commit)}^{{tree}}").text

    def refs(self, prefix: str = "refs/heads/tutti/") -> dict[str, str]:
        """Return the commit of each ref whose name begins with `prefix`."""
        out = self._git("for-each-ref", "--format=%(objectname) %(refname)").text
        pairs = (line.split(" ", 1) for line in out.splitlines())
        return {name: sha for sha, name in pairs if name.startswith(prefix)}

    def files(self, commit: str) -> list[str]:
        """Return the paths of all files of a commit."""
        out = self._git("ls-tree", "-r", "-z", "--name-only", git.check_sha(commit)).out
        return [git.decode(raw) for raw in out.split(b"\0") if raw]

    def blobs(self, commit: str) -> dict[str, str]:
        """Return the blob of each file of a commit."""
        return {path: blob for path, (_mode, blob) in self._entries(commit).items()}

    def read(self, commit: str, path: str, *, max_bytes: int = 20_000_000) -> bytes | None:
        """Return a file's content, or None when the commit has no file at `path`."""
        name = f"{git.check_sha(commit)}:{path}".encode("utf-8", "surrogateescape")
        if b"\n" in name:
            raise GitError("A path with a line feed in it cannot be read.")
        return self._contents([name], max_bytes)[0]

    def is_ancestor(self, old: str, new: str) -> bool:
        """Tell whether `old` is `new` or one of its ancestors."""
        shas = git.check_sha(old), git.check_sha(new)
        return self._git("merge-base", "--is-ancestor", *shas, ok=(0, 1)).code == 0

    def merge_base(self, one: str, two: str) -> str | None:
        """Return the best common ancestor of two commits, or None."""
        return (
            self._git("merge-base", git.check_sha(one), git.check_sha(two), ok=(0, 1)).text or None
        )

    def commit_files(
        self,
        parent: str,
        files: Mapping[str, bytes | None],
        message: str,
        author: tuple[str, str] = (git.NAME, git.EMAIL),
        *,
        trailers: Mapping[str, str] | None = None,
    ) -> str:
        """Commit `files` (None deletes) on top of `parent`, without a work tree."""
        with git.scratch() as name:
            scratch = Path(name)
            env = {"GIT_INDEX_FILE": str(scratch / "index")}
            self._git("read-tree", git.check_sha(parent), env=env)
            lines = self._index_lines(scratch, {_plain(path): files[path] for path in files})
            self._git("update-index", "-z", "--index-info", input=lines, env=env)
            tree = self._git("write-tree", env=env).text
        return self.commit_tree(tree, [parent], message, author=author, trailers=trailers or {})

    def merge_tree(self, ours: str, theirs: str) -> Merged:
        """Merge two commits in memory; the hub's branches stay where they are."""
        shas = git.check_sha(ours), git.check_sha(theirs)
        options = ("--write-tree", "-z", "--name-only", "--messages", "--allow-unrelated-histories")
        result = self._git("merge-tree", *options, *shas, ok=(0, 1))
        head, _, tail = result.out.partition(b"\0\0")
        tree, *paths = [git.decode(raw) for raw in head.rstrip(b"\0").split(b"\0")]
        conflicts = sorted(set(paths)) if result.code else []
        return Merged(None if result.code else tree, conflicts, read_messages(tail))

    def commit_tree(
        self,
        tree: str,
        parents: Sequence[str],
        message: str,
        *,
        author: tuple[str, str],
        trailers: Mapping[str, str],
        date: int | None = None,
    ) -> str:
        """Commit a tree; the committer is always Tutti. `date` is in seconds since 1970."""
        when = f"@{int(time.time()) if date is None else date} +0000"
        env = {
            "GIT_AUTHOR_NAME": one_line(author[0]) or "agent",
            "GIT_AUTHOR_EMAIL": one_line(author[1]).strip("<>") or "agent@localhost",
            "GIT_AUTHOR_DATE": when,
            "GIT_COMMITTER_DATE": when,
        }
        words = [word for parent in parents for word in ("-p", git.check_sha(parent))]
        text = commit_message(message, trailers).encode()
        return self._git("commit-tree", git.check_sha(tree), *words, input=text, env=env).text

    def swap(self, ref: str, new: str, old: str | None) -> bool:
        """Move `ref` from `old` (None: it must not exist) to `new`; False if it was elsewhere."""
        values = git.check_sha(new), git.ZERO if old is None else git.check_sha(old)
        try:
            self._git("update-ref", "--no-deref", git.check_ref(ref), *values)
        except GitError:
            # A refused swap is an answer; a broken hub or a missing commit is not.
            if self.head(ref) == old and old != new:
                raise
            return False
        return True

    def delete(self, ref: str) -> None:
        """Delete a ref; one that is not there is no error."""
        self._git("update-ref", "--no-deref", "-d", git.check_ref(ref))

    def changes(self, base: str, head: str) -> list[Change]:
        """Return each path whose entry differs between two commits; a rename is two changes."""
        options = ("-r", "-z", "--raw", "--no-renames", "--no-abbrev")
        shas = git.check_sha(base), git.check_sha(head)
        fields = self._git("diff-tree", *options, *shas).out.split(b"\0")
        return [
            read_change(meta, path) for meta, path in zip(fields[::2], fields[1::2], strict=False)
        ]

    def diff(
        self,
        base: str,
        head: str,
        paths: Sequence[str] | None = None,
        max_bytes: int = 1_000_000,
    ) -> Diff:
        """Return the difference of two commits as text of at most `max_bytes`, renames shown."""
        options = ("--no-ext-diff", "--no-textconv", "--no-color", "-M", "--src-prefix=a/")
        shas = git.check_sha(base), git.check_sha(head)
        where = ["--", *(f":(top,literal){path}" for path in paths)] if paths is not None else []
        if paths is not None and not paths:
            return Diff("", truncated=False)
        result = self._git("diff", *options, "--dst-prefix=b/", *shas, *where, max_bytes=max_bytes)
        return Diff(clean_text(result.out), result.truncated)

    def numstat(self, base: str, head: str) -> list[tuple[str, int | None, int | None]]:
        """Return path, added and deleted lines of each change; None for binary files."""
        options = ("--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv")
        out = self._git("diff", *options, git.check_sha(base), git.check_sha(head)).out
        rows = [raw.split(b"\t", 2) for raw in out.split(b"\0") if raw]
        return [(git.decode(path), read_count(a), read_count(d)) for a, d, path in rows]

    def log(self, base: str | None, head: str, limit: int = 500) -> list[Commit]:
        """Return the commits that `head` has and `base` has not, newest first."""
        span = [git.check_sha(head), *([f"^{git.check_sha(base)}"] if base else [])]
        out = self._git("log", "-z", f"-{limit}", "--format=%H%x1f%an%x1f%ct%x1f%s", *span).out
        rows = (read_row(raw) for raw in out.split(b"\0") if raw)
        return [Commit(sha, author, int(at), subject) for sha, author, at, subject in rows]

    def history(self, limit: int, commit: str | None = None) -> Iterator[tuple[str, list[str]]]:
        """Yield the newest `limit` commits without merges, each with the paths it changed."""
        start = git.check_sha(commit or self.head(INTEGRATION) or "")
        options = ("--no-merges", "--no-renames", "--name-only", "--format=%x01%H")
        out = self._git("log", "-z", f"-{limit}", *options, start, timeout=120).out
        for block in out.split(b"\x01")[1:]:
            sha, _, names = block.partition(b"\0")
            paths = [git.decode(raw.lstrip(b"\n")) for raw in names.split(b"\0")]
            yield sha.decode().strip(), [path for path in paths if path]

    def checkout(self, commit: str, directory: Path) -> None:
        """Write a commit's files to the empty `directory`: no filters, no hooks, no git directory.

        Raises HubError when the tree holds a submodule or a link that leaves it.
        """
        self.check_entries(self._entries(commit))
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise GitError(f"{directory} is not empty.")
        with git.scratch() as scratch:
            self.write_files(commit, directory, Path(scratch) / "index")

    def write_files(self, commit: str, directory: Path, index: Path) -> None:
        """Write a commit's files to `directory` and their state to the index file `index`."""
        env = {"GIT_INDEX_FILE": str(index), "GIT_WORK_TREE": str(directory)}
        self._git("read-tree", "-m", "-u", git.check_sha(commit), env=env, timeout=300)

    def check_entries(self, entries: Mapping[str, tuple[str, str]]) -> None:
        """Raise HubError for submodules, and for links that leave the tree, among `entries`."""
        for path, (mode, _) in entries.items():
            if mode == SUBMODULE:
                shown = clean_text(path, 200)
                raise HubError(f"{shown} is a submodule or a repository; commit its files instead.")
        links = [(path, blob) for path, (mode, blob) in entries.items() if mode == LINK]
        if not links:
            return
        lengths = self.sizes([blob for _, blob in links])
        short = [(path, blob) for path, blob in links if lengths.get(blob, 0) <= LONGEST_LINK]
        targets = self._contents([blob.encode() for _, blob in short], LONGEST_LINK)
        found = dict(zip((path for path, _ in short), targets, strict=True))
        for path, _ in links:
            target = found.get(path)
            if target is None or link_target(path, git.decode(target)) is None:
                raise HubError(f"The link {clean_text(path, 200)} leads out of the repository; "
                               "use a relative path inside it.")  # fmt: skip

    def links(self, commit: str) -> dict[str, str]:
        """Return the target of each symbolic link of a commit."""
        links = [(p, blob) for p, (mode, blob) in self._entries(commit).items() if mode == LINK]
        targets = self._contents([blob.encode() for _, blob in links], 4096)
        return {p: git.decode(t or b"") for (p, _), t in zip(links, targets, strict=True)}

    def bundle(self, commit: str, directory: Path, exclude: Iterable[str] = ()) -> Path:
        """Write a bundle with a commit (a full ref name or id), without what `exclude` has."""
        sha = commit if git.is_sha(commit) else self.head(commit)
        if sha is None:
            raise GitError(f"The hub has no {clean_text(commit, 80)}.")
        left_out = [git.check_sha(value) for value in exclude]
        wanted = "".join(f"{line}\n" for line in [sha, *(f"^{value}" for value in left_out)])
        options = ("--revs", "--stdout", "--thin", "--delta-base-offset", "-q")
        pack = self._git("pack-objects", *options, input=wanted.encode(), timeout=300).out
        lines = [
            "# v2 git bundle",
            *(f"-{v} " for v in left_out),
            f"{sha} refs/tutti/bundle",
            "",
            "",
        ]
        path = directory / f"{sha}.bundle"
        path.write_bytes("\n".join(lines).encode() + pack)
        return path

    def publish(
        self, source: str, branch: str, commit: str, old: str | None, *, roots: Iterable[Path]
    ) -> Published:
        """Move the team's branch in the source from `old` forward to `commit`, never back."""
        checked, name = sources.parse(source, roots), git.check_branch(branch)
        now = sources.head(checked, name)
        if now == commit:
            return Published(True, f"{name} is already at {commit[:10]}.")
        if now != old or (
            old is not None and not (self.has(old) and self.is_ancestor(old, commit))
        ):
            message = f"{name} has moved in the source; take its new commits in and publish again."
            return Published(False, message)
        return self._push(checked, name, commit, now)

    def push_branch(
        self, source: str, name: str, commit: str, *, roots: Iterable[Path]
    ) -> Published:
        """Push `commit` to the source as the new branch `name`, for a pull request."""
        checked = sources.parse(source, roots)
        now = sources.head(checked, name)
        if now is not None and not (self.has(now) and self.is_ancestor(now, commit)):
            message = f"The source has another branch “{name}” already; choose another name."
            return Published(False, message)
        return self._push(checked, git.check_branch(name), commit, now)

    def _push(self, source: sources.Source, name: str, commit: str, now: str | None) -> Published:
        ref = f"refs/heads/{name}"
        lease = f"--force-with-lease={ref}:{now or ''}"
        # A local source's hooks may lie in its tree: they would run agents' code outside.
        program = ["--receive-pack=git -c core.hooksPath=/dev/null -c core.fsmonitor=false "
                   "-c receive.autogc=false receive-pack"] if source.is_local else []  # fmt: skip
        spec = f"{git.check_sha(commit)}:{ref}"
        options = ("push", "--no-verify", "--no-follow-tags", "--porcelain", lease, *program, "--")
        try:
            self._git(*options, source.address, spec, env=source.env, timeout=source.timeout)
        except GitError as error:
            return Published(False, _push_refused(source, name, error))
        return Published(True, f"{name} is now at {commit[:10]} in {source.shown}.")

    def _fetch(self, source: sources.Source, branch: str) -> str:
        ref = f"refs/tutti/source/{branch}"
        pardons = [w for name in _PARDONED for w in ("-c", f"fetch.fsck.{name}=ignore")]
        options = ("--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--force", "--")
        spec = f"refs/heads/{branch}:{ref}"
        self._git(*pardons, "fetch", *options, source.address, spec, env=source.env,
                  timeout=source.timeout)  # fmt: skip
        commit = self.head(ref)
        if commit is None:
            raise GitError(f"{source.shown} gave no commit for “{branch}”; try again.")
        return commit

    def _resolve(self, name: str) -> str | None:
        options = ("--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        # rev-parse repeats the option it was given; the last line is the answer.
        lines = self._git("rev-parse", *options, ok=(0, 1, 128)).text.splitlines()
        return lines[-1] if lines and git.is_sha(lines[-1]) else None

    def _entries(self, commit: str) -> dict[str, tuple[str, str]]:
        out = self._git("ls-tree", "-r", "-z", git.check_sha(commit)).out
        pairs = (raw.split(b"\t", 1) for raw in out.split(b"\0") if raw)
        words = ((meta.decode().split(" "), git.decode(path)) for meta, path in pairs)
        return {path: (mode, blob) for (mode, _, blob), path in words}

    def sizes(self, blobs: Sequence[str]) -> dict[str, int]:
        """Return the size in bytes of each blob that the hub holds."""
        if not blobs:
            return {}
        wanted = "".join(f"{git.check_sha(blob)}\n" for blob in blobs).encode()
        rows = (
            row.split()
            for row in self._git("cat-file", "--batch-check", input=wanted).text.splitlines()
        )
        return {row[0]: int(row[2]) for row in rows if len(row) == 3}

    def _contents(self, names: Sequence[bytes], max_bytes: int) -> list[bytes | None]:
        """Return the content of each named blob; None for one that is missing or no blob."""
        wanted = b"".join(name + b"\n" for name in names)
        infos = self._git("cat-file", "--batch-check", input=wanted).out.splitlines()
        sizes = [blob_size(info) for info in infos]
        if any(size is not None and size > max_bytes for size in sizes):
            raise GitError(f"A file is larger than {max_bytes} bytes and is not read.")
        out = self._git("cat-file", "--batch", input=wanted).out
        return list(read_batch(out))

    def _index_lines(self, scratch: Path, files: Mapping[str, bytes | None]) -> bytes:
        written = [path for path, content in files.items() if content is not None]
        names = []
        for number, path in enumerate(written):
            (scratch / str(number)).write_bytes(files[path] or b"")
            names.append(f"{scratch / str(number)}\n")
        options = ("-w", "--no-filters", "--stdin-paths")
        blobs = self._git("hash-object", *options, input="".join(names).encode()).text.split()
        lines = [f"100644 {blob}\t{path}\0" for path, blob in zip(written, blobs, strict=True)]
        lines += [f"0 {git.ZERO}\t{path}\0" for path in files if files[path] is None]
        return "".join(lines).encode("utf-8", "surrogateescape")

    def _git(
        self,
        *args: str,
        input: bytes | None = None,
        env: dict[str, str] | None = None,
        ok: tuple[int, ...] = (0,),
        timeout: float = 60,
        max_bytes: int | None = None,
    ) -> Result:
        if not self.path.is_dir():
            raise GitError(f"The hub {self.path} is missing; run “manage.py recover”.")
        return git.run(
            *args, repo=self.path, input=input, env=env, ok=ok, timeout=timeout, max_bytes=max_bytes
        )


def _plain(path: str) -> str:
    parts = path.split("/")
    if not path or "\0" in path or any(part.lower() in ("", ".", "..", ".git") for part in parts):
        raise GitError(f"“{clean_text(path, 200)}” is not a path inside the repository.")
    return path


def _push_refused(source: sources.Source, name: str, error: GitError) -> str:
    text = error.stderr + error.message
    if "checked out" in text or "denyCurrentBranch" in text:
        return (
            f"{name} is checked out in {source.shown}; check out another branch there, or push "
            "a branch and merge it there."
        )
    if "stale info" in text or "fetch first" in text or "non-fast-forward" in text:
        return f"{name} has moved in the source; take its new commits in and publish again."
    advice = sources.remedy(error)
    return f"The source did not take {name}: {error.message}{f'; {advice}.' if advice else ''}"
