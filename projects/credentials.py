"""The credential of a project's source: at hand for the server's git in one block, nowhere else.

It is in no argument, URL or file of git's: a token is asked for by a program that reads it from the
environment of that one git, a key lies in a private directory for as long as the block lasts.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from projects import git

TOKEN, KEY = "token", "key"
_ASKPASS = """#!/bin/sh
case "$1" in
Username*) printf '%s\\n' "$TUTTI_GIT_USER" ;;
*) printf '%s\\n' "$TUTTI_GIT_TOKEN" ;;
esac
"""


@dataclass(frozen=True)
class Credential:
    """A token for https or a private key for ssh, for one host alone.

    `known_hosts` are lines of ssh's file of that name; without them the server's own file counts.
    """

    kind: str
    host: str
    secret: str = field(repr=False)
    user: str = ""
    known_hosts: str = ""


@dataclass(frozen=True)
class _AtHand:
    credential: Credential
    folder: Path


_at_hand: ContextVar[_AtHand | None] = ContextVar("credential", default=None)


@contextmanager
def using(credential: Credential | None) -> Iterator[None]:
    """Have git use the credential in this block, when it speaks with the credential's host."""
    if credential is None:
        yield
        return
    with git.scratch() as name:
        folder = Path(name)
        _private(folder / "askpass", _ASKPASS, 0o700)
        if credential.kind == KEY:
            _private(folder / "key", credential.secret.strip() + "\n", 0o600)
        if credential.known_hosts:
            _private(folder / "known_hosts", credential.known_hosts.strip() + "\n", 0o600)
        token = _at_hand.set(_AtHand(credential, folder))
        try:
            yield
        finally:
            _at_hand.reset(token)


def https(host: str, port: int, address: str) -> dict[str, str]:
    """Return what git needs for https: the host's address, and the token for exactly this host."""
    held = f"[{address}]" if ":" in address else address
    told = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.curloptResolve",
        "GIT_CONFIG_VALUE_0": f"{host}:{port}:{held}",
    }
    if (now := _for(host, TOKEN)) is None:
        return told
    return told | {
        "GIT_ASKPASS": str(now.folder / "askpass"),
        "TUTTI_GIT_USER": now.credential.user or "x-access-token",
        git.TOKEN_VARIABLE: now.credential.secret,
    }


def ssh(host: str, port: int, address: str) -> dict[str, str]:
    """Return what git needs for ssh: the host's address, its known keys, and the key for it."""
    # As ssh-keyscan and ssh itself write it, for files of known hosts name it so.
    alias = host if port == 22 else f"[{host}]:{port}"
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", f"HostName={address}",
               f"HostKeyAlias={alias}", "ForwardAgent=no", "ClearAllForwardings=yes"]  # fmt: skip
    words = ["ssh"]
    if (now := _for(host, KEY)) is not None:
        words += ["-F", "/dev/null", "-i", str(now.folder / "key")]
        options += ["IdentitiesOnly=yes", "IdentityAgent=none", "PasswordAuthentication=no"]
        if now.credential.known_hosts:
            options += [f"UserKnownHostsFile={now.folder / 'known_hosts'}",
                        "GlobalKnownHostsFile=/dev/null"]  # fmt: skip
    words += [f"-o{option}" for option in options]
    return {"GIT_SSH_COMMAND": shlex.join(words)}


def _for(host: str, kind: str) -> _AtHand | None:
    now = _at_hand.get()
    matches = now is not None and (now.credential.host.lower(), now.credential.kind) == (
        host.lower(), kind)  # fmt: skip
    return now if matches else None


def _private(path: Path, text: str, mode: int) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
    path.chmod(mode)
