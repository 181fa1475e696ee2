"""What the record says of a judgement, so that a row that was changed later is found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from projects.live import instant, sha256_of
from reviews.models import CheckResult, Finding, Merge, Review

#: What never changes once it is in the record. An older digest is proved with the same fields: a
#: field of the future needs a list of its own.
LASTING: dict[type, tuple[str, ...]] = {
    Review: (
        "project_id", "module_id", "run_topic", "base_commit", "head_commit", "verdict", "summary",
        "model", "prompt_version", "person_id", "overrules_id", "at",
    ),
    Finding: (
        "project_id", "module_id", "review_id", "run_topic", "batch", "source", "path", "line",
        "clause", "message", "at",
    ),
    CheckResult: (
        "project_id", "module_id", "run_topic", "phase", "command", "commit", "exit_code", "ok",
        "kind", "flaky", "seconds", "output", "at",
    ),
    Merge: (
        "project_id", "module_id", "run_topic", "branch", "base_commit", "head_commit",
        "tested_commit", "status", "reason", "started_at", "ended_at",
    ),
}  # fmt: skip


def digest(row: Review | CheckResult | Merge, findings: Sequence[Finding] = ()) -> str:
    """SHA-256 over what a row says, and over the findings of a review in their order."""
    return sha256_of([_values(one) for one in (row, *findings)])


def _values(row: Review | CheckResult | Merge | Finding) -> list[object]:
    values = (getattr(row, name) for name in LASTING[type(row)])
    return [instant(value) if isinstance(value, datetime) else value for value in values]
