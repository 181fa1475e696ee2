"""Pictures of numbers as SVG made on the server, each with the table that says the same.

Only presentation attributes and classes: the strict content policy allows no style, and the
classes of tutti.css give the colours of light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH, HEIGHT = 720.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 16.0, 20.0, 44.0
#: As many classes as tutti.css has colours for.
COLOURS = 6
#: Rows of a table twin; what a picture of more points shows no eye could tell apart.
MOST_ROWS = 500


@dataclass(frozen=True)
class Series:
    """A named line of (x, y) points, in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Mark:
    """A moment or value on the x axis that is worth a word."""

    x: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A picture, and the same numbers as a table: `columns` names each cell of a row."""

    title: str
    svg: SafeString
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    #: Names and classes of the lines, for the legend; empty when there is only one.
    legend: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Axis:
    """One axis: values from `low` to `high` on pixels `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> str:
        width = self.high - self.low or 1.0
        return number(self.begin + (value - self.low) / width * (self.end - self.begin), 1)


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    marks: Sequence[Mark] = (),
    step: bool = False,
    x_text: Callable[[float], str] | None = None,
    point: tuple[float, float] | None = None,
) -> Chart:
    """Lines over one x axis; with `step` a value holds until the next one.

    `x_text` writes an x value (a time of day, say) on the axis and in the table; `point` is the
    one that is marked with a dot, such as today's.
    """
    write = x_text or number
    xs = [x for one in series for x, _ in one.points] + [mark.x for mark in marks]
    ys = [y for one in series for _, y in one.points]
    low, high = min(xs, default=0.0), max(xs, default=1.0)
    if low == high:
        low, high = low - 1, high + 1
    x_axis = Axis(low, high, LEFT, WIDTH - RIGHT)
    top = (ticks(0.0, max(ys, default=1.0)) or [1.0])[-1]
    y_axis = Axis(min([0.0, *ys]), max([top, *ys]), HEIGHT - BOTTOM, TOP)
    names = ", ".join(one.name for one in series) or "nothing yet"
    parts = [
        _grid(x_axis, y_axis, write),
        _words(x_label, y_label),
        *(_line(one, place, x_axis, y_axis, step) for place, one in enumerate(series)),
        *(_mark(mark, x_axis, place) for place, mark in enumerate(marks)),
    ]
    if point:
        parts.append(
            format_html(
                '<circle class="point" cx="{}" cy="{}" r="5"></circle>',
                x_axis.at(point[0]),
                y_axis.at(point[1]),
            )
        )
    described = f"{y_label} over {x_label}: {names}."
    columns, rows = _table(series, marks, x_label, write)
    legend = tuple((one.name, colour(place)) for place, one in enumerate(series))
    svg = drawing(title, described, HEIGHT, parts)
    return Chart(title, svg, columns, rows, legend if len(legend) > 1 else ())


def drawing(title: str, described: str, height: float, parts: Sequence[SafeString]) -> SafeString:
    """The svg element with its title and description around its parts."""
    return format_html(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" preserveAspectRatio="xMidYMid meet">'
        "<title>{}</title><desc>{}</desc>{}</svg>",
        number(WIDTH),
        number(height),
        title,
        described,
        format_html_join("", "{}", ((part,) for part in parts)),
    )


def colour(place: int) -> str:
    return f"series-{place % COLOURS}"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values that cover low to high, at most `most` steps of 1, 2 or 5 times a power of 10.

    Empty when the two are not finite numbers in this order.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return []
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * part for part in (1, 2, 5, 10) if power * part >= rough * 0.999999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, last + 1)]


def number(value: float, digits: int = 3) -> str:
    """A number without needless zeros: 12.5, 0.003, 1,200."""
    if not math.isfinite(value):
        return "—"
    text = f"{value:,.{digits}f}" if abs(value) >= 10_000 and digits == 3 else f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _grid(x_axis: Axis, y_axis: Axis, write: Callable[[float], str]) -> SafeString:
    lines = format_html_join(
        "",
        '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"></line>'
        '<text class="tick" x="{}" y="{}" dy="4" text-anchor="end">{}</text>',
        (
            (LEFT, WIDTH - RIGHT, y_axis.at(value), y_axis.at(value), LEFT - 8, y_axis.at(value),
             number(value))
            for value in ticks(y_axis.low, y_axis.high)
            if value <= y_axis.high
        ),
    )  # fmt: skip
    values = [v for v in ticks(x_axis.low, x_axis.high, 8) if x_axis.low <= v <= x_axis.high]
    below = format_html_join(
        "",
        '<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>',
        ((x_axis.at(value), HEIGHT - BOTTOM + 16, write(value)) for value in values),
    )
    return format_html("<g>{}{}</g>", lines, below)


def _words(x_label: str, y_label: str) -> SafeString:
    return format_html(
        '<text class="axis" x="{}" y="{}" text-anchor="end">{}</text>'
        '<text class="axis" x="4" y="12">{}</text>',
        WIDTH - RIGHT,
        HEIGHT - 6,
        x_label,
        y_label,
    )


def _line(series: Series, place: int, x_axis: Axis, y_axis: Axis, step: bool) -> SafeString:
    moves: list[str] = []
    for x, y in series.points:
        where = f"{x_axis.at(x)} {y_axis.at(y)}"
        if not moves:
            moves.append(f"M{where}")
        elif step:
            moves.append(f"H{x_axis.at(x)}V{y_axis.at(y)}")
        else:
            moves.append(f"L{where}")
    if len(series.points) == 1:
        x, y = series.points[0]
        return format_html(
            '<circle class="dot {}" cx="{}" cy="{}" r="3"><title>{}</title></circle>',
            colour(place), x_axis.at(x), y_axis.at(y), series.name,
        )  # fmt: skip
    return format_html(
        '<path class="line {}" d="{}" fill="none"><title>{}</title></path>',
        colour(place),
        "".join(moves),
        series.name,
    )


def _mark(mark: Mark, x_axis: Axis, place: int) -> SafeString:
    """A mark's line, its words at the top; neighbours are written on two heights."""
    x = x_axis.at(mark.x)
    near_end = float(x) > WIDTH * 0.75
    return format_html(
        '<line class="mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"></line>'
        '<text class="mark-word" x="{0}" y="{3}" dx="{4}" text-anchor="{5}">{6}</text>',
        x,
        TOP,
        HEIGHT - BOTTOM,
        TOP + 10 + (place % 2) * 14,
        -4 if near_end else 4,
        "end" if near_end else "start",
        mark.label,
    )


def _table(
    series: Sequence[Series],
    marks: Sequence[Mark],
    x_label: str,
    write: Callable[[float], str],
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """One row for each x, a column for each line, and one for the marks when there are any."""
    values: dict[float, list[str]] = {}
    width = len(series) + bool(marks)
    for place, one in enumerate(series):
        for x, y in one.points:
            values.setdefault(x, [""] * width)[place] = number(y)
    for mark in marks:
        cells = values.setdefault(mark.x, [""] * width)
        cells[-1] = f"{cells[-1]}; {mark.label}" if cells[-1] else mark.label
    rows = [(write(x), *cells) for x, cells in sorted(values.items())]
    every = max(1, math.ceil(len(rows) / MOST_ROWS))
    columns = (x_label, *(one.name for one in series), *(["mark"] if marks else []))
    return columns, tuple(rows[::every])
