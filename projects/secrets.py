"""Secrets at rest: sealed with the newest key of a ring, opened with whichever key made them.

The ring is TUTTI_SECRET_KEYS (newest first, comma separated), else the file `secret_keys` in
TUTTI_HOME (newest first, one a line), which is made at the first need for its owner alone.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

FILE = "secret_keys"
HOW = "a key is made by “manage.py rotate_secrets --new-key” or by cryptography's Fernet"


class SecretError(Exception):
    """A secret can't be sealed or opened; the message says what to do and holds no secret."""


def encrypt(value: str) -> str:
    """Seal a text under the newest key: the key's id, a colon, the token."""
    newest = _ring()[0]
    token = MultiFernet([Fernet(newest)]).encrypt(value.encode())
    return f"{key_id(newest)}:{token.decode()}"


def decrypt(sealed: str) -> str:
    """Open what `encrypt` made. Raises SecretError when no key of the ring opens it."""
    name, _, token = sealed.partition(":")
    keys = _ring()
    try:
        return MultiFernet([Fernet(key) for key in keys]).decrypt(token.encode()).decode()
    except InvalidToken:
        known = ", ".join(key_id(key) for key in keys)
        raise SecretError(
            f"No key opens a secret that was sealed with the key {name[:12]}; the ring holds "
            f"{known}. Put that key back into {_place()}, or enter the secret again."
        ) from None


def is_newest(sealed: str) -> bool:
    """Whether a secret is sealed under the newest key of the ring."""
    return sealed.partition(":")[0] == key_id(_ring()[0])


def key_id(key: bytes) -> str:
    """A short name of a key, which says nothing about it."""
    return hashlib.sha256(b"tutti-key:" + key).hexdigest()[:12]


def new_key() -> str:
    """Put a new key in front of the key file and return its id.

    Raises SecretError when the ring comes from the environment, which only people can change.
    """
    if settings.TUTTI_SECRET_KEYS:
        raise SecretError(
            "The keys come from TUTTI_SECRET_KEYS. Put the new one in front there, start Tutti "
            "again, and then run this without --new-key."
        )
    keys = [Fernet.generate_key(), *_ring()]
    _write(keys)
    return key_id(keys[0])


def drop_old_keys() -> int:
    """Leave only the newest key in the key file; returns how many went."""
    keys = _ring()
    if not settings.TUTTI_SECRET_KEYS:
        _write(keys[:1])
    return 0 if settings.TUTTI_SECRET_KEYS else len(keys) - 1


def _ring() -> list[bytes]:
    """The keys, newest first. Read each time: another process may have added one."""
    named = list(settings.TUTTI_SECRET_KEYS)
    if not named:
        file = _file()
        try:
            if not file.exists():
                _create(file)
            named = file.read_text(encoding="ascii").split()
        except OSError as error:
            message = (
                f"The keys in {file} can't be read ({error.strerror}); let Tutti's user own it."
            )
            raise SecretError(message) from error
    if not named:
        raise SecretError(f"{_place()} holds no key; {HOW}.")
    return [_checked(key, number) for number, key in enumerate(named, start=1)]


def _checked(key: str, number: int) -> bytes:
    try:
        if len(base64.urlsafe_b64decode(key)) == 32:
            return key.encode()
    except ValueError:
        pass
    raise SecretError(
        f"Key {number} of {_place()} is none: it has to be 32 bytes in URL-safe base64; {HOW}."
    )


def _place() -> str:
    return "TUTTI_SECRET_KEYS" if settings.TUTTI_SECRET_KEYS else str(_file())


def _file() -> Path:
    return Path(settings.TUTTI_HOME) / FILE


def _create(file: Path) -> None:
    """Make the key file; of two processes that start together, one wins and both read it."""
    draft = _draft(file, [Fernet.generate_key()])
    try:
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _write(keys: list[bytes]) -> None:
    _draft(_file(), keys).replace(_file())


def _draft(file: Path, keys: list[bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(b"".join(key + b"\n" for key in keys))
    return draft
