"""The main job, run by its own command in processes of its own, and what its rows say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents.models import Run
from examples.prepare import prepare
from projects.models import Event, Project
from tests.benchmarks.rows import Row, median, percentile, row
from tests.faults.installation import Installation, replayed

#: What lets another run start: the end of one, its slot given back, and the plan's own steps.
RELEASES = frozenset(
    {"plan.approved", "plan.prepared", "run.checking"}
    | {f"run.{status}" for status in Run.Status.values if status not in Run.ACTIVE}
)


@dataclass(frozen=True)
class Job:
    """A finished demo: its totals, its project, and the tree that came out."""

    totals: dict[str, Any]
    project: Project
    tree: str
    command: str


def run(
    installation: Installation,
    example: str,
    *,
    ceiling: int = 5,
    scale: float | None = None,
    leave_out: str = "",
) -> Job:
    """Run the demo to its end, with another speed or without a scene when told so."""
    if scale is not None:
        plan = prepare(example, installation.home).plan_file
        plan.write_text(replayed(plan.read_text(), scale=scale, leave_out=leave_out))
    path = installation.home / "figures.json"
    words = ["demo", example, "--exit", "--fresh", "--ceiling", str(ceiling)]
    process = installation.start(*words, "--port", "0", "--json", str(path), log=example)
    assert process.wait(900) == 0, installation.said(example)
    data = json.loads(path.read_text())
    project = Project.objects.get(slug=data["project"])
    tree = installation.git(project.slug, "rev-parse", "refs/heads/tutti/integration^{tree}")
    return Job(data["totals"], project, tree.strip(), f"manage.py {' '.join(words)}")


def bound_rows(jobs: list[Job]) -> list[Row]:
    """The demo's wall-clock against what no schedule can beat."""
    command = jobs[0].command
    totals = [job.totals for job in jobs]
    ratio = median([one["wall_seconds"] / one["bound_seconds"] for one in totals])
    return [
        row("demo: wall-clock / lower bound", ratio, "x", command, most=1.25),
        row("demo: speed-up over one after another", median([t["speed_up"] for t in totals]),
            "x", command),
        row("demo: simulated wall-clock of the same ceiling / measured",
            median([t["simulated_seconds"] / t["wall_seconds"] for t in totals]), "x", command,
            least=0.9, most=1.1),
        row("demo: wall-clock", median([t["wall_seconds"] for t in totals]), "s", command),
        row("demo: lower bound", median([t["bound_seconds"] for t in totals]), "s", command),
    ]  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A run's start: seconds since the release that let it start, and whether it was handed on."""

    seconds: float
    direct: bool


def starts(project: Project) -> list[Start]:
    """For each run, how long after the latest release before it was queued it started."""
    runs = {run.pk: run for run in Run.objects.filter(project=project)}
    found = []
    released: tuple[datetime, int | None] | None = None
    for event in Event.objects.filter(project=project).order_by("number"):
        of = event.data.get("run")
        if event.kind in RELEASES:
            released = event.at, of
        elif event.kind == "run.queued" and released and (began := runs[of].started_at):
            before = runs.get(released[1] or 0)
            direct = before is not None and before.worker == runs[of].worker
            found.append(Start((began - released[0]).total_seconds(), direct))
    return found


def hand_off_rows(jobs: list[Job], tick_seconds: float) -> list[Row]:
    """End of a run to the start of the next; a gate is part of its run, so it is not in there."""
    command = jobs[0].command
    all_starts = [start for job in jobs for start in starts(job.project)]
    seconds = [start.seconds for start in all_starts]
    direct = [start.seconds for start in all_starts if start.direct] or [0.0]
    p50, p99 = percentile(seconds, 0.5), percentile(seconds, 0.99)
    return [
        row("hand-off: end to next start, p50 / clock's tick", p50 / tick_seconds, "x",
            command, most=0.1),
        row("hand-off: end to next start, p99 / clock's tick", p99 / tick_seconds, "x",
            command, most=1.0),
        row("hand-off: end to next start, p50", p50 * 1000, "ms", command),
        row("hand-off: end to next start, p99", p99 * 1000, "ms", command),
        row("hand-off: in the same thread, p50", percentile(direct, 0.5) * 1000, "ms", command),
        row("hand-off: starts in the same thread", len(direct) / len(seconds), "share", command),
    ]  # fmt: skip


def ceiling_rows(
    installation: Installation, example: str, scale: float, leave_out: str, least: float | None
) -> list[Row]:
    """The same plan one run at a time and five at a time, which is to be `least` times faster."""
    one, five = (
        run(installation, example, ceiling=ceiling, scale=scale, leave_out=leave_out)
        for ceiling in (1, 5)
    )
    command = f"{five.command} (and --ceiling 1), scale {scale:g}"
    faster = one.totals["wall_seconds"] / five.totals["wall_seconds"]
    ideal = five.totals["sequential_seconds"] / five.totals["bound_seconds"]
    return [
        row(f"{example}: ceiling 1 / ceiling 5, wall-clock", faster, "x", command, least=least),
        row(f"{example}: sequential / lower bound, the most there is", ideal, "x", command),
        row(f"{example}: final trees, ceiling 5 = ceiling 1", float(one.tree == five.tree),
            "", command, most=1, least=1),
        row(f"{example}: tokens, ceiling 5 / ceiling 1",
            five.totals["tokens"] / one.totals["tokens"], "x", command, most=1, least=1),
    ]  # fmt: skip
