"""The only file that calls git."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit, urlunsplit

from projects.redaction import Redactor
from projects.text import clean_text

ZERO = "0" * 40
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
MINIMUM_VERSION = (2, 38)
CONFIG_FILE = Path(__file__).with_name("git.config")
SCRATCH = "tutti-scratch-"
#: In which variable one git finds a source's token.
TOKEN_VARIABLE = "TUTTI_GIT_TOKEN"
NAME, EMAIL = "Tutti", "tutti@localhost"

_OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.quotePath=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.filesRefLockTimeout=5000",
    "core.packedRefsTimeout=5000",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "credential.helper=",
    "diff.external=",
    "gc.auto=0",
    "http.followRedirects=false",
    "maintenance.auto=false",
    "merge.directoryRenames=false",
    "protocol.file.allow=never",
    "submodule.recurse=false",
)
_SHA = re.compile(r"[0-9a-f]{40}")
_REF = re.compile(r"[A-Za-z0-9_+=@.,-]+(?:/[A-Za-z0-9_+=@.,-]+)*")
_CHUNK = 1 << 18


class GitError(Exception):
    """A git command failed; the text says what to do, `stderr` is git's own, made safe."""

    def __init__(self, message: str, code: int = 1, stderr: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.stderr = stderr


@dataclass(frozen=True)
class Result:
    """What a git command gave: exit code, raw standard output, safe standard error."""

    code: int
    out: bytes
    err: str
    truncated: bool = False

    @property
    def text(self) -> str:
        """Standard output without its last line feed; odd bytes as surrogates."""
        return decode(self.out).removesuffix("\n")


def run(
    *args: str,
    repo: Path | None = None,
    input: bytes | None = None,
    env: dict[str, str] | None = None,
    timeout: float = 60,
    ok: tuple[int, ...] = (0,),
    max_bytes: int | None = None,
) -> Result:
    """Run git with `args` in the repository `repo` (its git directory) and return the result.

    `timeout` is in seconds. Output past `max_bytes` ends the command and is marked truncated.
    Raises GitError for an exit code that is not in `ok`, for a time-out and for a missing git.
    """
    argv = [*base_argv(), *([f"--git-dir={repo}"] if repo is not None else []), *args]
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as given:
        if input is not None:
            given.write(input)
            given.seek(0)
        process = _start(argv, given if input is not None else None, errors, env)
        with process:
            out, state = _collect(process, time.monotonic() + timeout, max_bytes)
        errors.seek(0)
        err = clean_text(redact(errors.read(_CHUNK).decode("utf-8", "replace"))).strip()
        if token := (env or {}).get(TOKEN_VARIABLE):
            # A host may say what it was told, whatever way it is written.
            err = Redactor([token]).text(err)
    if state == "timeout":
        raise GitError(f"git {_verb(args)} took longer than {timeout:g} s and was ended.", 124, err)
    if state == "truncated":
        return Result(0, out, err, truncated=True)
    if process.returncode not in ok:
        raise GitError(_sentence(args, err), process.returncode, err)
    return Result(process.returncode, out, err)


def base_argv() -> list[str]:
    """Return git and the options that switch off what a repository could make it run."""
    return ["git", "--no-pager", *(word for option in _OPTIONS for word in ("-c", option))]


def environment(*, inside: bool = False) -> dict[str, str]:
    """Return the whole environment of a git call; `inside` is for one inside the sandbox."""
    variables = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null" if inside else str(CONFIG_FILE),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_ALLOW_PROTOCOL": "none" if inside else "https:ssh",
        "GIT_AUTHOR_NAME": NAME,
        "GIT_AUTHOR_EMAIL": EMAIL,
        "GIT_COMMITTER_NAME": NAME,
        "GIT_COMMITTER_EMAIL": EMAIL,
        "LC_ALL": "C",
    }
    if inside:
        return variables
    variables["GIT_SSH_COMMAND"] = "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes"
    kept = (
        "PATH", "HOME", "TMPDIR", "SSH_AUTH_SOCK", "GIT_SSL_CAINFO", "SSL_CERT_FILE", "HTTPS_PROXY",
        "NO_PROXY",
    )  # fmt: skip
    return variables | {name: os.environ[name] for name in kept if name in os.environ}


def is_sha(value: str) -> bool:
    """Tell whether `value` is a full object name."""
    return _SHA.fullmatch(value) is not None


def check_sha(value: str) -> str:
    """Return `value` when it is a full object name, else raise GitError."""
    if not is_sha(value):
        raise GitError(f"“{clean_text(value, 80)}” is not a full commit id.")
    return value


def check_ref(name: str) -> str:
    """Return the full ref name `name`, or raise GitError when it is not a plain, safe one."""
    parts = name.split("/")
    bad = (
        len(name) > 240
        or len(parts) < 3
        or parts[0] != "refs"
        or _REF.fullmatch(name) is None
        or ".." in name
        or "@{" in name
        or any(part[0] in ".-" or part.endswith((".lock", ".")) or part == "@" for part in parts)
    )
    if bad:
        raise GitError(f"“{clean_text(name, 80)}” is not a ref name that Tutti uses.")
    return name


def check_branch(name: str) -> str:
    """Return the branch name `name` when `refs/heads/<name>` is safe, else raise GitError."""
    try:
        check_ref(f"refs/heads/{name}")
    except GitError:
        message = f"“{clean_text(name, 80)}” is not a branch name that Tutti can use."
        raise GitError(message) from None
    return name


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary directory whose name tells which process it belongs to."""
    prefix = f"{SCRATCH}{os.getpid()}-"
    return tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)


def decode(raw: bytes) -> str:
    """Return git's bytes as text that encodes back to the same bytes."""
    return raw.decode("utf-8", "surrogateescape")


def redact(text: str) -> str:
    """Return `text` with passwords in URLs taken out."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1…@", text)


def plain_url(url: str) -> str:
    """Return `url` without user and password, for messages."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@functools.cache
def version() -> tuple[int, int]:
    """Return the version of git; raise GitError when it is missing or too old."""
    found = re.search(r"(\d+)\.(\d+)", run("--version").text)
    number = (int(found[1]), int(found[2])) if found else (0, 0)
    if number < MINIMUM_VERSION:
        raise GitError(f"Tutti needs git 2.38 or newer; this is {number[0]}.{number[1]}.")
    return number


def _start(
    argv: list[str], given: IO[bytes] | None, errors: IO[bytes], env: dict[str, str] | None
) -> subprocess.Popen[bytes]:
    if shutil.which("git") is None:
        raise GitError("git is not installed on this host; install git 2.38 or newer.", 127)
    return subprocess.Popen(
        argv,
        stdin=given if given is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment() | (env or {}),
        cwd="/",
        start_new_session=True,
    )


def _collect(
    process: subprocess.Popen[bytes], deadline: float, max_bytes: int | None
) -> tuple[bytes, str]:
    """Read standard output to its end, the deadline or the cap; then wait for the process."""
    assert process.stdout is not None
    chunks: list[bytes] = []
    size = 0
    state = "done"
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while state == "done":
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                state = "timeout"
                break
            chunk = os.read(process.stdout.fileno(), _CHUNK)
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)
            if max_bytes is not None and size > max_bytes:
                state = "truncated"
    state = _finish(process, deadline, state)
    out = b"".join(chunks)
    return (out[:max_bytes] if state == "truncated" else out), state


def _finish(process: subprocess.Popen[bytes], deadline: float, state: str) -> str:
    if state == "done":
        try:
            process.wait(max(deadline - time.monotonic(), 0.05))
            return state
        except subprocess.TimeoutExpired:
            state = "timeout"
    # git starts helpers (pack-objects, ssh); the whole session has to go.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return state


def _verb(args: tuple[str, ...]) -> str:
    return next((arg for arg in args if not arg.startswith("-")), "")


def _sentence(args: tuple[str, ...], err: str) -> str:
    """Say in one sentence what went wrong, with git's last complaint in it."""
    lines = [line for line in err.splitlines() if line.startswith(("fatal:", "error:", "! ", " !"))]
    detail = (lines or err.splitlines() or ["it gave no reason"])[-1]
    detail = detail.removeprefix("fatal: ").removeprefix("error: ")
    return f"git {_verb(args)} failed: {clean_text(detail, 300)}"
