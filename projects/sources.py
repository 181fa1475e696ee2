"""Where a project's code comes from: a local path under an allowed root, or an https or ssh URL."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from projects import addresses, credentials, git, owndata
from projects.git import GitError
from projects.text import clean_text

# git's short form of an ssh URL: user@host:path.
_SHORT_SSH = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?!//)[^\s-][^\s]*")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]")
_USER = re.compile(r"[A-Za-z0-9._%+-]+")
NETWORK_SECONDS = 600.0
#: What git and ssh say, and what people do about it.
_REMEDIES = (
    (r"could not read (?:username|password)",
     "it asks for a token: enter one for this project"),
    (r"authentication failed|permission denied|error: 40[13]|invalid credentials",
     "it refused the token or key: enter another one for this project, with the right to read and "
     "to push"),
    (r"host key verification failed|identification has changed|no .* host key is known",
     "its host key is not a known one: enter the host's keys beside the deploy key, compared with "
     "what the host publishes"),
    (r"error: 30\d|redirect",
     "it sends Tutti on to another address, which is not followed: enter that address itself"),
    (r"certificate",
     "its certificate is not trusted: an admin names the file of its authority in GIT_SSL_CAINFO "
     "and starts Tutti again"),
    (r"repository .* not found|error: 404",
     "check the address, and whether the token or key is for this repository"),
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A checked source: what git is told, how it is shown, and the environment it needs."""

    address: str
    shown: str
    is_local: bool

    @property
    def env(self) -> dict[str, str]:
        """What git is told besides: which address the host has, and the credential at hand.

        Raises GitError when the host has none that Tutti may reach.
        """
        if self.is_local:
            return {"GIT_ALLOW_PROTOCOL": "file"}
        is_ssh, host, port = _place(self.address)
        port = port or (22 if is_ssh else 443)
        found = addresses.reachable(host, port, self.shown)
        tell = credentials.ssh if is_ssh else credentials.https
        return {"GIT_ALLOW_PROTOCOL": "https:ssh", **tell(host, port, found)}

    @property
    def timeout(self) -> float:
        return NETWORK_SECONDS


def parse(source: str, roots: Iterable[Path]) -> Source:
    """Return the checked `source`; raise GitError with a sentence when it may not be used."""
    if not source or clean_text(source) != source or source != source.strip() or "\n" in source:
        raise GitError("The source is empty or holds characters that no path or URL has.")
    if source.startswith("-"):
        raise GitError("The source may not begin with “-”; give a path or an https or ssh URL.")
    if "://" in source:
        return _url(source)
    if "::" in source.split("/", 1)[0]:
        raise GitError(f"“{source}” names a git remote helper; give an https or ssh URL.")
    if not source.startswith(("/", ".", "~")) and _SHORT_SSH.fullmatch(source):
        return Source(source, source, is_local=False)
    try:
        return _local(source, roots)
    except (OSError, RuntimeError) as error:
        raise GitError(f"{source} cannot be read: {error}.") from error


def branches(source: Source) -> tuple[str | None, dict[str, str]]:
    """Return the source's default branch, if it names one, and the commit of each branch."""
    try:
        answer = git.run(
            "ls-remote",
            "--symref",
            "--",
            source.address,
            "HEAD",
            "refs/heads/*",
            env=source.env,
            timeout=60,
        )
    except GitError as error:
        raise _unreachable(source, error) from error
    default, found = None, {}
    for line in answer.text.splitlines():
        value, _, name = line.partition("\t")
        if value.startswith("ref: refs/heads/") and name == "HEAD":
            default = value.removeprefix("ref: refs/heads/")
        elif name.startswith("refs/heads/"):
            found[name.removeprefix("refs/heads/")] = value
    return default, found


def head(source: Source, branch: str) -> str | None:
    """Return the commit of the source's branch, or None when it has no such branch."""
    return branches(source)[1].get(git.check_branch(branch))


def check_branch(source: Source, branch: str) -> str:
    """Return `branch` (the default one for "") when the source has it, else raise GitError."""
    default, found = branches(source)
    if not found:
        message = f"{source.shown} has no commit yet; push a first commit to it and try again."
        raise GitError(message)
    wanted = git.check_branch(branch or default or "main")
    if wanted not in found:
        names = ", ".join(sorted(found)[:8]) + (", …" if len(found) > 8 else "")
        raise GitError(f"{source.shown} has no branch “{wanted}”; it has {clean_text(names, 300)}.")
    return wanted


def _url(source: str) -> Source:
    try:
        parts = urlsplit(source)
        port_is_legal = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_legal = urlsplit(""), False
    shown = git.redact(source)
    if parts.scheme not in ("https", "ssh"):
        message = (
            f"{clean_text(shown, 200)} is not an https or ssh URL; only these two are allowed."
        )
        raise GitError(message)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    user_is_legal = parts.username is None or _USER.fullmatch(parts.username)
    if not (port_is_legal and _HOST.fullmatch(host) and user_is_legal):
        raise GitError(f"{clean_text(shown, 200)} names no host that can be reached.")
    return Source(source, git.plain_url(source), is_local=False)


def place_of(source: str) -> tuple[bool, str, int | None] | None:
    """Return whether a source is ssh's, its host and its port; None for a path on this server."""
    is_path = source.startswith(("/", ".", "~")) or not _SHORT_SSH.fullmatch(source)
    if "://" not in source and is_path:
        return None
    return _place(source)


def _place(address: str) -> tuple[bool, str, int | None]:
    """Return whether an address is ssh's, its host, and its port when it names one."""
    if "://" not in address:
        return True, address.split(":", 1)[0].rpartition("@")[2], None
    parts = urlsplit(address)
    return parts.scheme == "ssh", parts.hostname or "", parts.port


def _local(source: str, roots: Iterable[Path]) -> Source:
    path = Path(source).expanduser().resolve()
    allowed = [Path(root).resolve() for root in roots]
    if not any(path.is_relative_to(root) for root in allowed):
        listed = ", ".join(map(str, allowed)) or "none is set"
        raise GitError(
            f"{path} lies outside the directories that projects may be read from ({listed}); "
            "move the repository there, or ask an admin to allow its directory."
        )
    if owndata.is_own(path):
        raise GitError(f"{path} holds data of Tutti's own, which is no source of a project.")
    if not path.exists():
        raise GitError(f"There is no repository at {path}; check the path.")
    if not any((path / name).exists() for name in (".git", "HEAD")):
        message = (
            f"{path} is not a git repository; run “git init” and commit there, or check the path."
        )
        raise GitError(message)
    return Source(str(path), str(path), is_local=True)


def remedy(error: GitError) -> str:
    """What to do about a source that git could not speak with; empty when nothing is known."""
    said = error.stderr or error.message
    return next((advice for pattern, advice in _REMEDIES if re.search(pattern, said, re.I)), "")


def _unreachable(source: Source, error: GitError) -> GitError:
    lines = [line for line in error.stderr.splitlines() if not line.startswith("@")]
    reason = clean_text(lines[0] if lines else error.message, 200).rstrip(".")
    hint = "check the path" if source.is_local else "check the address and Tutti's access to it"
    hint = remedy(error) or hint
    return GitError(f"{source.shown} cannot be read ({reason}); {hint}.", error.code, error.stderr)
