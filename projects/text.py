"""Make text from outside safe to store and to show."""

from __future__ import annotations

import re

ELLIPSIS = "…"

# Everything but tab and line feed that PostgreSQL refuses, a terminal obeys or a browser reorders.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def clean_text(value: str | bytes, limit: int | None = None) -> str:
    """Return `value` as text that can be stored, printed and shown as it is.

    Broken UTF-8 and lone surrogates become U+FFFD, control characters their picture (NUL shows
    as "␀", escape as "␛"), marks that turn the reading direction their code (`<U+202E>`), and
    every line ending a line feed. `limit` is a length in characters, the closing "…" included.
    """
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if limit is not None and len(text) > limit:
        text = text[: max(limit - 1, 0)] + ELLIPSIS[:limit]
    if _UNSAFE.search(text) is None:
        return text
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    cleaned = _UNSAFE.sub(_picture, text)
    if limit is not None and len(cleaned) > limit:
        cleaned = cleaned[: max(limit - 1, 0)] + ELLIPSIS[:limit]
    return cleaned


def _picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if code < 0xA0 or 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return f"<U+{code:04X}>"
