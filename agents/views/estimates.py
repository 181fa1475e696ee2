"""Who would do what of a plan, and what it would take: a part of the plan's page."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET

from agents.estimate_facts import PlanEstimate, estimate_of
from agents.estimates import KINDS, PRICED, REPLAYED, TOLD, Row, Step, say_money, total_of
from agents.views.fresh import fresh_response
from projects import access
from projects.access import HtmxRequest
from projects.forms import whole_number
from projects.planpage import plan_shown

PRICE_WORDS = {
    PRICED: "at the entered price",
    TOLD: "money as the agents told it",
    REPLAYED: "no price needed: recorded runs are played again, their tokens were another day's",
}
UNPRICED_WORDS = "unpriced: a site admin enters what the model costs"


@dataclass(frozen=True)
class Cell:
    """What a table shows of one step: its figures, and the mark of what they go by."""

    tokens: str
    money: str
    mark: str
    is_guess: bool


@dataclass(frozen=True)
class Line:
    """One module of the table; a cell is None where no such run is wanted."""

    slug: str
    note: str
    cells: list[Cell | None]
    tokens: str
    money: str


class Marks:
    """Letters for the sentences below a table, each said once."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def of(self, sentence: str) -> str:
        return self.known.setdefault(sentence, self._letter(len(self.known)))

    @staticmethod
    def _letter(place: int) -> str:
        more, last = divmod(place, len(ascii_lowercase))
        return (ascii_lowercase[more - 1] if more else "") + ascii_lowercase[last]


def basis_of(step: Step) -> str:
    """What a step's tokens and money go by, in one sentence."""
    return f"{step.basis}; {PRICE_WORDS.get(step.price, UNPRICED_WORDS)}"


def _cell(step: Step | None, found: PlanEstimate, marks: Marks) -> Cell | None:
    if step is None:
        return None
    money = say_money(total_of([step]), found.currency)
    return Cell(f"{step.tokens:,}", money, marks.of(basis_of(step)), step.is_guess)


def _line(row: Row, found: PlanEstimate, marks: Marks) -> Line:
    cells = [_cell(row.steps.get(kind), found, marks) for kind in KINDS]
    total = row.total
    return Line(
        row.wanted.slug,
        row.wanted.note,
        cells,
        f"{total.tokens:,}",
        say_money(total, found.currency) if row.steps else "",
    )


def _context(found: PlanEstimate | None) -> dict[str, Any]:
    if found is None:
        return {"found": None}
    marks = Marks()
    lines = [_line(row, found, marks) for row in found.rows]
    sums = [
        _cell_sum([row.steps[kind] for row in found.rows if kind in row.steps], found)
        for kind in KINDS
    ]
    return {
        "found": found,
        "lines": lines,
        "sums": sums,
        "tokens": f"{found.total.tokens:,}",
        "money": say_money(found.total, found.currency),
        "marks": [(mark, sentence) for sentence, mark in marks.known.items()],
    }


def _cell_sum(steps: list[Step], found: PlanEstimate) -> tuple[str, str]:
    total = total_of(steps)
    return (f"{total.tokens:,}", say_money(total, found.currency)) if steps else ("", "")


@login_required
@require_GET
def panel(request: HtmxRequest, slug: str) -> HttpResponse:
    """The estimate of a plan; `framed` puts the region round it that keeps it live."""
    project = access.project_for(request.user, slug)
    asked = request.GET.get("plan", "")
    number = whole_number(asked)
    plan = plan_shown(project, number)
    if asked and (number is None or plan is None):
        raise Http404("There is no plan of this number.")
    query = {"plan": asked} if asked else {}
    source = reverse("agents:plan-estimates", args=[slug])
    found = estimate_of(plan) if plan else None
    # Prices, use and machines move without an event of the project, so it is never kept.
    return fresh_response(
        request,
        "agents/plan_estimates.html",
        {
            "project": project,
            "source": f"{source}?{urlencode(query)}" if query else source,
            **_context(found),
        },
        topic=f"{project.topic}/board",
        version=project.event_count,
        partial="frame" if request.GET.get("framed") else "panel",
    )
