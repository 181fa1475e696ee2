"""A recording in the making: one turn of one agent, written as JSON Lines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = "tutti-recording/1"
ROLES = {"tests": "planner", "build": "executor"}
MODELS = {"executor": "recorded-fast"}
CHARACTERS_PER_TOKEN = 4


@dataclass
class Script:
    """What an agent says, writes and answers in one turn of `seconds` at scale 1."""

    module: str
    kind: str
    seconds: float
    heard: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def role(self) -> str:
        return ROLES.get(self.kind, "orchestrator")

    def hear(self, *texts: str) -> Script:
        """Count texts that the agent is given or reads."""
        self.heard += sum(len(text) for text in texts)
        return self

    def think(self, text: str) -> Script:
        return self._add("thought", text=text)

    def say(self, text: str) -> Script:
        return self._add("message", text=text)

    def read(self, path: str, text: str) -> Script:
        return self.hear(text)._add("tool", name="read", path=path)

    def write(self, path: str, content: str) -> Script:
        return self._add("tool", name="edit", path=path)._add("write", path=path, content=content)

    def restore(self, path: str, ref: str) -> Script:
        """Put a path back to what it is in `ref`, a ref of the workspace."""
        return self._add("tool", name="edit", path=path)._add("restore", path=path, ref=ref)

    def run(self, command: str) -> Script:
        return self._add("tool", name="run", command=command)

    def result(self, **data: Any) -> Script:
        return self._add("result", data=data)

    def save(self, folder: Path, *, number: int, scene: str | None) -> Path:
        """Write the recording below `folder`; events are spread evenly over the turn."""
        header = {
            "format": FORMAT,
            "module": self.module,
            "role": self.role,
            "kind": self.kind,
            "number": number,
            "backend": "replay",
            "model": MODELS.get(self.role, "recorded-strong"),
            "scene": scene,
        }
        *told, answer = self.events
        events = [*told, self._usage(), answer, {"event": "exit", "code": 0}]
        step = self.seconds / (len(told) + 1)
        lines = [header]
        for index, event in enumerate(events, start=1):
            at = self.seconds if index > len(told) else index * step
            lines.append({"at": round(at, 3), **event})
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.module.replace('/', '~')}.{self.kind}.{number}.jsonl"
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        path.write_text(text, encoding="utf-8")
        return path

    def _add(self, event: str, **data: Any) -> Script:
        self.events.append({"event": event, **data})
        return self

    def _usage(self) -> dict[str, Any]:
        told = sum(len(json.dumps(event, ensure_ascii=False)) for event in self.events)
        return {
            "event": "usage",
            "input_tokens": self.heard // CHARACTERS_PER_TOKEN,
            "output_tokens": told // CHARACTERS_PER_TOKEN,
            "quality": "exact",
        }
