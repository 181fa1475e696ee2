"""A figure with its goal, and the two files that hold them all."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure; `goal` is a bound such as "<= 1.25", or empty for a figure that only informs."""

    name: str
    value: float
    unit: str
    goal: str
    ok: bool | None
    command: str


def row(name: str, value: float, unit: str, command: str, *, most: float | None = None,
        least: float | None = None) -> Row:  # fmt: skip
    """A figure that is at most `most` or at least `least`, when it has a goal."""
    value = float(f"{value:.4g}")
    if most is not None and least is not None:
        ok = least <= value <= most
        goal = f"= {most:g}" if most == least else f"{least:g} to {most:g}"
        return Row(name, value, unit, goal, ok, command)
    if most is not None:
        return Row(name, value, unit, f"<= {most:g}", value <= most, command)
    if least is not None:
        return Row(name, value, unit, f">= {least:g}", value >= least, command)
    return Row(name, value, unit, "", None, command)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed; `values` is not empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def write(rows: Sequence[Row], about: dict[str, Any], notes: Sequence[str], folder: Path) -> None:
    """Write benchmarks.json and benchmarks.md."""
    data = {"machine": about, "rows": [asdict(one) for one in rows], "notes": list(notes)}
    (folder / "benchmarks.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (folder / "benchmarks.md").write_text(page(rows, about, notes), encoding="utf-8")


def page(rows: Sequence[Row], about: dict[str, Any], notes: Sequence[str]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench` (`ARGS=--quick` measures less). Only ratios within one run compare;",
        "plain times depend on the machine and have no goal.",
        "",
        f"{about['date']}, {about['system']}, {about['cores']} cores, Python {about['python']}, "
        f"load {about['load_before']} before the first measurement.",
        "",
        "| figure | value | goal | reached | made by |",
        "|---|---|---|---|---|",
    ]
    said = {True: "yes", False: "**no**", None: ""}
    lines += [
        f"| {r.name} | {r.value:g} {r.unit} | {r.goal} | {said[r.ok]} | `{r.command}` |"
        for r in rows
    ]
    if notes:
        lines += ["", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"
