"""A plan as one graph: what is wrong with it, who waits for whom, how long it takes.

Pure: takes values, returns values. The parts live in files of their own; callers import this one.
"""

from __future__ import annotations

from projects.forecast import (
    LaneReport,
    Report,
    critical_path,
    layers,
    path_lengths,
    say_seconds,
    simulate,
    why_not_more_parallel,
)
from projects.order import (
    Counters,
    Lane,
    Order,
    counters,
    lane_list,
    lanes,
    may_run_together,
)
from projects.specs import (
    CONTRACT,
    COUPLED,
    IMPLEMENTATION,
    KINDS,
    ModuleSpec,
    Need,
    Problem,
    seconds_of,
)
from projects.validation import SplitVerdict, check_split, validate

__all__ = [
    "CONTRACT",
    "COUPLED",
    "IMPLEMENTATION",
    "KINDS",
    "Counters",
    "Lane",
    "LaneReport",
    "ModuleSpec",
    "Need",
    "Order",
    "Problem",
    "Report",
    "SplitVerdict",
    "check_split",
    "counters",
    "critical_path",
    "lane_list",
    "lanes",
    "layers",
    "may_run_together",
    "path_lengths",
    "say_seconds",
    "seconds_of",
    "simulate",
    "validate",
    "why_not_more_parallel",
]
