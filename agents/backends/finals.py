"""Turn an agent's last words into the answer that its assignment asks for. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from projects.text import clean_text

#: Names by which an object in an agent's last words is known to be its answer.
KEYS = ("verdict", "outline", "split", "exception", "coupled_with", "plan", "summary")
LONGEST_SUMMARY = 20_000
#: Places in a text where an object is looked for, from its end.
MOST_OBJECTS = 200

_FENCED = re.compile(r"^(`{3,})[ \t]*(?:json|JSON)?[ \t]*\n(.*?)^\1`*[ \t]*$", re.DOTALL | re.M)
_DECODER = json.JSONDecoder()


def answer_of(text: str, kind: str) -> dict[str, Any]:
    """The last answer in the text: `{"tutti": …}`, a fenced block, or an object with a known name.

    Text without one is its own summary; what a planner says without one is its outline.
    """
    for found in _objects(text):
        inner = found.get("tutti")
        if isinstance(inner, dict):
            return inner
        if any(name in found for name in KEYS):
            return found
    said = clean_text(text, LONGEST_SUMMARY).strip()
    if not said:
        return {}
    return {"summary": said, "outline": said} if kind == "tests" else {"summary": said}


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Objects of the text, the likeliest first."""
    for block in reversed(_FENCED.findall(text)):
        if (found := _whole(block[1])) is not None:
            yield found
    if (found := _whole(text)) is not None:
        yield found
    lines = text.splitlines()
    for line in reversed(lines[-MOST_OBJECTS:]):
        if line.lstrip().startswith("{") and (found := _whole(line)) is not None:
            yield found
    yield from reversed(_outermost(text))


def _whole(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _outermost(text: str) -> list[dict[str, Any]]:
    """Objects that stand anywhere in the text, without those inside of others."""
    found, at, tries = [], text.find("{"), 0
    while at >= 0 and tries < MOST_OBJECTS:
        tries += 1
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            if isinstance(value, dict):
                found.append(value)
        at = text.find("{", end)
    return found
