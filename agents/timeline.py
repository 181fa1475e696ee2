"""A plan's runs over time as pictures: bars by module, and agents at work beside the ceiling. Pure.

Time in which nothing ran is squeezed to a sliver, so that a night of waiting hides no minute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from agents.charts import LEFT, RIGHT, WIDTH, Chart, Mark, Series, drawing, line_chart, number
from agents.economics import BEFORE, PlanFacts, RunFacts, laps_of
from projects.forecast import say_seconds

#: Modules that have bars, and moments of the line; the run list shows everything.
MOST_MODULES = 40
MOST_BARS = 600
MOST_POINTS = 400
ROW, HEAD = 16, 24
KINDS = ("tests", "build", "review", "fix", "merge", "recheck")
#: A gap longer than this share of the busy time is squeezed, to this share.
GAP, SLIVER = 0.05, 0.02


@dataclass(frozen=True)
class Squeeze:
    """Seconds since the plan's start on an axis without idle gaps; `gaps` are (begin, end)."""

    gaps: tuple[tuple[float, float], ...] = ()
    sliver: float = 0.0

    def x(self, seconds: float) -> float:
        lost = 0.0
        for begin, end in self.gaps:
            if seconds <= begin:
                break
            inside = min(seconds, end) - begin
            lost += inside - self.sliver * inside / (end - begin)
        return seconds - lost

    def seconds(self, x: float) -> float:
        """The moment that is drawn at x."""
        for begin, end in self.gaps:
            if x <= begin:
                break
            inside = min(x - begin, self.sliver)
            x += inside * ((end - begin) / self.sliver - 1)
        return x


def squeeze(spans: Sequence[tuple[float, float]], end: float) -> Squeeze:
    """Find the gaps in which nothing ran, from 0 to the end."""
    busy, reached = 0.0, 0.0
    idle: list[tuple[float, float]] = []
    for begin, until in sorted(spans):
        if begin > reached:
            idle.append((reached, begin))
        busy += max(0.0, until - max(begin, reached))
        reached = max(reached, until)
    if end > reached:
        idle.append((reached, end))
    least = max(1.0, busy * GAP)
    gaps = tuple(gap for gap in idle if gap[1] - gap[0] > least)
    return Squeeze(gaps, max(0.5, busy * SLIVER))


def working(facts: PlanFacts) -> list[tuple[float, float]]:
    """When agents were at work, since the plan's start: each turn of each run that has a slot."""
    zero = facts.began or 0.0
    found = []
    for run in facts.runs:
        if not run.needs_slot or run.kind == BEFORE:
            continue
        reached = run.started
        for lap in laps_of(run):
            began = reached if lap.at is None else run.started + lap.at
            found.append((began - zero, began + max(0.0, lap.agent_seconds) - zero))
            reached = began + lap.agent_seconds + lap.gate_seconds
    return found


def agents_chart(facts: PlanFacts) -> Chart:
    """How many agents worked at each moment, and how many could."""
    axis = axis_of(facts)
    steps = sorted(
        moment for begin, end in working(facts) for moment in ((begin, 1), (end, -1)) if end > begin
    )
    count, points = 0, [(0.0, 0.0)]
    for at, change in steps:
        count += change
        points.append((axis.x(at), float(count)))
    last = axis.x(max(facts.wall_clock, steps[-1][0] if steps else 0.0))
    series = [Series("agents at work", _most(points, last))]
    zero = facts.began or 0.0
    limit = [(max(0.0, axis.x(at - zero)), float(value)) for at, value in facts.ceilings]
    limit = limit or [(0.0, float(facts.ceiling))]
    series.append(Series("ceiling", _most([*limit, (last, limit[-1][1])], last)))
    return line_chart(
        "Agents at work beside the ceiling",
        series,
        x_label="since the approval",
        y_label="agents",
        marks=[Mark(axis.x(begin), f"idle {say_seconds(end - begin)}") for begin, end in axis.gaps],
        step=True,
        x_text=lambda x: say_seconds(max(0.0, axis.seconds(x))),
    )


def axis_of(facts: PlanFacts) -> Squeeze:
    zero = facts.began or 0.0
    spans = [(run.started - zero, run.ended - zero) for run in _drawn(facts)]
    return squeeze(spans, facts.wall_clock)


def _most(points: Sequence[tuple[float, float]], last: float) -> list[tuple[float, float]]:
    """At most a few hundred points: of each slice of time the greatest value, which holds on."""
    kept = [points[0]] if points else []
    if len(points) <= MOST_POINTS:
        for before, point in pairwise(points):
            if point[0] == kept[-1][0]:
                kept[-1] = point
            elif point[1] != before[1] or point is points[-1]:
                kept.append(point)
        return kept
    width = (last or 1.0) / MOST_POINTS
    found: dict[int, float] = {}
    value = 0.0
    for x, y in points:
        place = min(MOST_POINTS - 1, int(x / width))
        found[place] = max(found.get(place, value), y)
        value = y
    return [(place * width, y) for place, y in sorted(found.items())] + [(last, value)]


def bars_chart(facts: PlanFacts, url: Callable[[RunFacts], str]) -> Chart:
    """A row for each module, a bar for each run; the busiest modules when there are many."""
    axis, zero = axis_of(facts), facts.began or 0.0
    rows = _rows(facts)
    end = max(
        [axis.x(facts.wall_clock), *(axis.x(run.ended - zero) for run in _drawn(facts)), 0.001]
    )
    left = LEFT + 70

    def x(moment: float) -> float:
        return left + axis.x(moment - zero) / end * (WIDTH - RIGHT - left)

    parts: list[SafeString] = [
        format_html(
            '<rect class="gap-mark" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>',
            number(left + begin_x / end * (WIDTH - RIGHT - left), 1),
            HEAD,
            number(max(1.0, axis.sliver / end * (WIDTH - RIGHT - left)), 1),
            len(rows) * ROW,
            f"idle {say_seconds(gap_end - begin)}",
        )
        for begin, gap_end in axis.gaps
        for begin_x in [axis.x(begin)]
    ]
    table: list[tuple[str, ...]] = []
    left_bars = MOST_BARS
    for place, (module, runs) in enumerate(rows):
        y = HEAD + place * ROW
        name = module or "the plan itself"
        parts.append(
            format_html(
                '<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>',
                left - 6, y + 12, name if len(name) < 20 else f"{name[:18]}…",
            )
        )  # fmt: skip
        for run in runs[: max(0, left_bars)]:
            words = f"{name}: {run.kind}, {say_seconds(max(0.0, run.ended - run.started))}"
            parts.append(
                format_html(
                    '<a href="{}"><rect class="run-bar {}" x="{}" y="{}" width="{}" height="{}">'
                    "<title>{}</title></rect></a>",
                    url(run),
                    class_of(run.kind),
                    number(x(run.started), 1),
                    y + 2,
                    number(max(1.0, x(run.ended) - x(run.started)), 1),
                    ROW - 4,
                    words,
                )
            )
            table.append(
                (name, run.kind, say_seconds(max(0.0, run.started - zero)),
                 say_seconds(max(0.0, run.ended - run.started)), run.status)
            )  # fmt: skip
        left_bars -= len(runs)
    title = "Runs over time"
    left_out = len({run.module for run in _drawn(facts)}) - len(rows)
    if left_out > 0:
        title += f" of the {len(rows)} busiest modules; {left_out} more are in the list of runs"
    marks = _times(axis, end, left, len(rows))
    described = "A row a module, a bar a run, coloured by its kind."
    svg = drawing(title, described, HEAD + len(rows) * ROW + 8, [*marks, *parts])
    legend = tuple((kind, class_of(kind)) for kind in KINDS)
    return Chart(title, svg, ("module", "kind", "began", "took", "status"), tuple(table), legend)


def _drawn(facts: PlanFacts) -> list[RunFacts]:
    """The pictures begin with the approval, which may come long after the proposal."""
    return [run for run in facts.runs if run.kind != BEFORE]


def class_of(kind: str) -> str:
    return f"series-{KINDS.index(kind)}" if kind in KINDS else f"series-{len(KINDS) - 1}"


def _rows(facts: PlanFacts) -> list[tuple[str, list[RunFacts]]]:
    """Modules by their first start; of too many those that ran longest."""
    groups: dict[str, list[RunFacts]] = {}
    for run in _drawn(facts):
        groups.setdefault(run.module, []).append(run)
    longest = sorted(groups, key=lambda name: -sum(run.seconds for run in groups[name]))
    kept = set(longest[:MOST_MODULES])
    return [(name, runs) for name, runs in groups.items() if name in kept]


def _times(axis: Squeeze, end: float, left: float, rows: int) -> list[SafeString]:
    moments = [end * place / 6 for place in range(7)]
    width = WIDTH - RIGHT - left
    return [
        format_html_join(
            "",
            '<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"></line>'
            '<text class="tick" x="{0}" y="14" text-anchor="middle">{3}</text>',
            (
                (number(left + moment / end * width, 1), HEAD, HEAD + rows * ROW,
                 say_seconds(max(0.0, axis.seconds(moment))))
                for moment in moments
            ),
        )
    ]  # fmt: skip
