"""A plan's figures in words and rows: the same for the page, its CSV, the command and the API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from django.conf import settings

from agents.bounds import BOUNDS
from agents.economics import Economics, PlanFacts, Spent
from agents.figures import line
from projects.forecast import say_seconds

REPLAYED = "Replayed: the runs were recorded before, so tokens and money say nothing of this plan."
COLUMNS = (
    "group", "name", "runs", "agent_seconds", "gate_seconds", "input_tokens", "output_tokens",
    "parallel_only_tokens", "runs_without_tokens", "runs_with_part_of_tokens", "cost",
    "currency", "runs_without_price",
)  # fmt: skip


def tokens(spent: Spent) -> str:
    """Tokens of a group; "unknown" where nobody told any, never 0 for it."""
    if not spent.tokens and spent.unknown:
        return "unknown"
    left_out = f", unknown for {_runs(spent.unknown)}" if spent.unknown else ""
    return f"{'at least ' if spent.partial else ''}{spent.tokens:,}{left_out}"


def money(spent: Spent) -> str:
    """Money of a group; "unpriced" where no run has a price, and of how many it lacks."""
    if spent.cost is None:
        return f"unpriced ({_runs(spent.unpriced)})" if spent.unpriced else "—"
    left_out = f", {_runs(spent.unpriced)} unpriced" if spent.unpriced else ""
    return f"{amount(spent.cost)}{left_out}"


def amount(cost: Decimal) -> str:
    return f"{cost:,.4f} {settings.TUTTI_CURRENCY}"


def parallel(found: Economics) -> str:
    """Tokens that exist only because of parallel work, and their share."""
    spent = found.total
    if not spent.tokens and spent.unknown:
        return "unknown"
    return f"{spent.parallel_only:,} of {spent.tokens:,} tokens ({spent.parallel_share:.1%})"


def groups(found: Economics) -> Iterator[tuple[str, str, Spent]]:
    """Every row of every table: its table, its name and what it says."""
    for title, rows in (
        ("role", found.by_role),
        ("kind", found.by_kind),
        ("purpose", found.by_purpose),
        ("module", found.by_module),
    ):
        for name, spent in rows.items():
            yield title, name or "the plan itself", spent
    yield "rework", "fix and rework", found.rework
    yield "total", "all runs", found.total


def csv_rows(found: Economics) -> list[list[object]]:
    """Cells of `COLUMNS`; empty where nothing is known, never 0 for it."""
    rows: list[list[object]] = []
    for group, name, spent in groups(found):
        known = bool(spent.tokens) or not spent.unknown
        rows.append(
            [
                group,
                name,
                spent.runs,
                f"{spent.agent_seconds:.3f}",
                f"{spent.gate_seconds:.3f}",
                spent.tokens_in if known else None,
                spent.tokens_out if known else None,
                spent.parallel_only if known else None,
                spent.unknown,
                spent.partial,
                None if spent.cost is None else f"{spent.cost:.6f}",
                settings.TUTTI_CURRENCY,
                spent.unpriced,
            ]
        )
    return rows


def text(facts: PlanFacts, found: Economics) -> Iterable[str]:
    """The figures for a terminal; the last line is the demo's."""
    yield f"{facts.project}, plan {facts.number}, at most {facts.ceiling} at once"
    if found.is_replayed:
        yield REPLAYED
    yield ""
    yield f"  wall-clock   {found.wall_clock:10.1f} s  from approval to done"
    yield f"  sequential   {found.sequential:10.1f} s  agents and gates, one after another"
    yield f"  lower bound  {found.bound_seconds:10.1f} s  {BOUNDS[found.bound.binds]}"
    yield f"  speed-up     {found.speed_up:10.2f}    {found.times_bound:.2f} times the bound"
    yield f"  parallel only  {parallel(found)}"
    yield (
        f"  rework         {say_seconds(found.rework.seconds)}, {tokens(found.rework)} tokens, "
        f"{money(found.rework)}"
    )
    yield ""
    for title, name, spent in groups(found):
        if title != "module":
            yield (
                f"  {title:<8} {name:<15} {spent.runs:5} runs {spent.seconds:9.1f} s "
                f"{tokens(spent):>12} tokens  {money(spent)}"
            )
    yield ""
    curve = "  ".join(f"{ceiling}: {seconds:.0f}" for ceiling, seconds in found.what_if.items())
    yield f"  what if (ceiling: seconds)  {curve}"
    for sentence in found.why_not:
        yield f"  Parallel did not pay: {sentence}"
    yield line(facts, found)


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
