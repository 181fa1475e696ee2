"""Save what the agent of a run did as a recording that plays again, without its model."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Sum

from agents.backends.recordings import FORMAT, file_stem
from agents.models import Run, RunLog
from agents.services.secrets import redactor
from projects.hub import LINK, SUBMODULE, Change, Hub
from projects.services.errors import Refused

#: What an agent said; everything else in a log is Tutti's own, or comes from the commit.
SAID = ("message", "thought", "tool", "plan")
#: Bytes of files in the recording of one run.
MOST_BYTES = 50_000_000
EXECUTABLE = "100755"
Lines = list[dict[str, Any]]


@dataclass
class Turn:
    """One prompt and what came of it: log rows, and the commits before and after."""

    number: int
    began: datetime
    rows: list[RunLog] = field(default_factory=list)
    base: str = ""
    head: str = ""

    def at(self, row: RunLog) -> float:
        """Seconds since the prompt."""
        return round(max((row.at - self.began).total_seconds(), 0.0), 3)

    def last(self, kind: str) -> dict[str, Any] | None:
        found = [row.data for row in self.rows if row.kind == kind]
        return found[-1] if found else None


def recordings(run: Run) -> dict[str, Lines]:
    """The run's turns as recordings, by file name. Raises Refused when it can't be played again."""
    if run.is_active:
        raise Refused(f"Run {run.pk} is still at work; record it when it has ended.")
    turns = list(_turns(run))
    if not turns:
        raise Refused(f"No agent took part in run {run.pk}, so there is nothing to record.")
    hub, secrets = Hub(run.project.hub_path), redactor()
    earlier = Run.objects.filter(module=run.module, kind=run.kind, number__lt=run.number)
    if run.module is None:
        earlier = earlier.filter(plan=run.plan)
    before = earlier.aggregate(n=Sum("turns"))["n"] or 0
    slug = run.module.slug if run.module else "project"
    found, room = {}, MOST_BYTES
    for turn in turns:
        files, size = _files(hub, run, turn, room)
        room -= size
        number = before + turn.number
        lines = [_header(run, slug, number), *_events(run, turn, files, is_last=turn is turns[-1])]
        found[f"{file_stem(slug)}.{run.kind}.{number}.jsonl"] = [secrets.data(x) for x in lines]
    return found


def text(lines: Sequence[dict[str, Any]]) -> str:
    """JSON Lines; everything but ASCII is escaped, so that a line is a line everywhere."""
    return "".join(json.dumps(line) + "\n" for line in lines)


def archive(run: Run) -> bytes:
    """The run's recordings as a zip file that unpacks into a directory of recordings."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, lines in recordings(run).items():
            packed.writestr(f"base/{name}", text(lines))
    return out.getvalue()


def _turns(run: Run) -> Iterator[Turn]:
    turn: Turn | None = None
    for row in RunLog.objects.filter(run=run).iterator(chunk_size=2_000):
        if row.kind == "prompt":
            if turn:
                yield turn
            turn = Turn(int(row.data.get("turn", 1)), row.at)
        elif turn and row.kind == "checkpoint":
            turn.base, turn.head = str(row.data["base"]), str(row.data["head"])
        elif turn and (row.kind == "failed" or not turn.head):
            turn.rows.append(row)
    if turn:
        yield turn


def _header(run: Run, slug: str, number: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "module": slug,
        "role": run.role,
        "kind": run.kind,
        "number": number,
        "backend": run.backend,
        "model": run.model,
        "scene": None,
    }


def _events(run: Run, turn: Turn, files: Lines, *, is_last: bool) -> Lines:
    """What the agent said in its time, the files at its last word of each, answer and exit."""
    said = [row for row in turn.rows if row.kind in SAID]
    end = max([turn.at(row) for row in turn.rows if row.kind in (*SAID, "result", "usage")] or [0])
    events = [{"at": turn.at(row), "event": row.kind, **_plain(row.data)} for row in said]
    named = {str(row.data.get("path")): turn.at(row) for row in said if row.data.get("path")}
    events += [{"at": named.get(file["path"], end), **file} for file in files]
    events.sort(key=lambda event: float(event["at"]))
    if used := turn.last("usage") or (_total(run) if is_last else None):
        events.append({"at": end, "event": "usage", **_plain(used)})
    answered = turn.last("result")
    result = answered.get("data") if answered else (run.result if is_last else None)
    if isinstance(result, dict) and result:
        events.append({"at": end, "event": "result", "data": result})
    failed = turn.last("failed") or {}
    if failed.get("owner") == "provider":
        kind, message = failed.get("kind"), failed.get("reason")
        events.append({"at": end, "event": "error", "kind": kind, "message": message})
    # What a gate refused, or Tutti itself spoilt, was a turn that ended well.
    ended_well = failed.get("kind", "gate") in ("gate", "answer") or failed["owner"] == "tutti"
    return [*events, {"at": end, "event": "exit", "code": 0 if ended_well else 1}]


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in ("at", "event")}


def _total(run: Run) -> dict[str, Any] | None:
    """The run's usage where its agent did not say it in the log: of one turn only."""
    if run.input_tokens is None or run.turns > 1:
        return None
    tokens = {"input_tokens": run.input_tokens, "output_tokens": run.output_tokens}
    return {**tokens, "quality": run.usage_quality}


def _files(hub: Hub, run: Run, turn: Turn, room: int) -> tuple[Lines, int]:
    """Whole-file writes and deletes of a turn, and the bytes of them."""
    if not turn.head or turn.head == turn.base:
        return [], 0
    if not hub.has(turn.head) or not hub.has(turn.base):
        raise Refused(f"The hub no longer holds what turn {turn.number} of run {run.pk} made.")
    changes = hub.changes(turn.base, turn.head)
    sizes = hub.sizes([change.new_blob for change in changes if change.new_blob])
    size = sum(sizes.values())
    if size > room:
        raise Refused(
            f"Run {run.pk} wrote more than {MOST_BYTES // 1_000_000} MB of files; that is too much "
            "for a recording."
        )
    return [_file(hub, turn.head, change) for change in changes], size


def _file(hub: Hub, head: str, change: Change) -> dict[str, Any]:
    if change.new_mode in (LINK, SUBMODULE):
        raise Refused(f"{change.path} is a link or a repository, which a recording can't hold.")
    if not change.new_blob:
        return {"event": "delete", "path": change.path}
    content = hub.read(head, change.path, max_bytes=MOST_BYTES) or b""
    event: dict[str, Any] = {"event": "write", "path": change.path}
    try:
        event["content"] = content.decode("utf-8")
    except UnicodeDecodeError:
        event |= {"content": base64.b64encode(content).decode(), "encoding": "base64"}
    if EXECUTABLE in (change.old_mode, change.new_mode):
        event["executable"] = change.new_mode == EXECUTABLE
    return event
