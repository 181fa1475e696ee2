"""Make what an agent says safe to store: secrets out, clean text, bounded size."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from projects.redaction import Redactor
from projects.text import clean_text

LONGEST_TEXT = 20_000
#: Characters of one event's JSON; an answer may be as long as its texts.
LONGEST_EVENT = 64_000
LONGEST_ANSWER_TEXT = 200_000


class Words:
    """What is done to everything that one agent says."""

    def __init__(self, secrets: Iterable[str] = (), workspace: Path | None = None) -> None:
        self.redactor = Redactor(secrets)
        self.root = f"{workspace}/" if workspace else ""

    def text(self, text: str) -> str:
        return self.redactor.text(text)

    def data(self, value: Any, limit: int = LONGEST_ANSWER_TEXT) -> Any:
        """A JSON value redacted and clean, each of its texts at most `limit` characters."""
        return _clean(self.redactor.data(value), limit)

    def event(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        """An event's data; a path inside the workspace loses what leads there."""
        if kind == "result":
            return dict(self.data(data))
        path = data.get("path")
        if self.root and isinstance(path, str):
            data = {**data, "path": path.removeprefix(self.root)}
        found = self.data(data, LONGEST_TEXT)
        if len(text := json.dumps(found)) > LONGEST_EVENT:
            return {"text": clean_text(text, LONGEST_TEXT)}
        return dict(found)


def _clean(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return clean_text(value, limit)
    if isinstance(value, dict):
        return {clean_text(str(key), 200): _clean(inner, limit) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner, limit) for inner in value]
    return value
