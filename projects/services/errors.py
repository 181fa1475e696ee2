from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a plan: module (or empty), field, and what to do."""

    module: str
    field: str
    message: str


class Refused(Exception):
    """A request that can't be done as it was asked; the message says what to do instead."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.problems = list(problems)


def problems_of(error: ValidationError, module: str = "") -> list[Problem]:
    """What the plan file would not take, field by field."""
    return [
        Problem(
            module,
            ".".join(str(part) for part in found["loc"]),
            found["msg"].removeprefix("Value error, "),
        )
        for found in error.errors()
    ]


class Stale(Refused):
    """The object changed since the person saw it; nothing was done."""
