"""Say in words what a module waits for. Pure: the caller has read what is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from projects.models import Module

S = Module.Status

KINDS = {S.PLANNING: "tests", S.BUILDING: "build", S.REVIEWING: "review", S.FIXING: "fix"}
#: Names that a sentence lists before it only counts.
NAMED = 3


@dataclass(frozen=True)
class Other:
    """Another module that this one waits for, and how far that one is."""

    slug: str
    status: str


@dataclass(frozen=True)
class Around:
    """What a module's sentence depends on beside its own row."""

    starts_after: Sequence[Other] = ()
    finishes_after: Sequence[Other] = ()
    children: Sequence[Other] = ()
    lane_holder: Other | None = None
    is_running: bool = False


@dataclass(frozen=True)
class Ground:
    """What holds for all modules of a project at this moment."""

    now: datetime
    is_paused: bool = False
    is_prepared: bool = True
    blocked_reason: str = ""
    binding: str = ""
    #: For each kind of run that a quota or a provider stops: which, and until when.
    walls: Mapping[str, str] = field(default_factory=dict)
    merging: str = field(default="")


def sentence(module: Module, around: Around, ground: Ground) -> str:
    """Why nothing happens with the module right now; empty while it runs or when it is done."""
    if module.status in (S.NEEDS_PERSON, S.CANCELLED):
        return module.reason
    if module.status in (S.MERGED, S.DRAFT) or around.is_running:
        return ""
    if module.paused_at:
        return "It is paused. Resume it to go on."
    if module.status == S.WAITING and around.starts_after:
        return f"Waits until {names(around.starts_after)} {_are(around.starts_after)} merged."
    if module.status == S.WAITING and around.lane_holder:
        holder = around.lane_holder
        return f"Waits for the lane {module.lane}, which {holder.slug} ({label(holder)}) holds."
    if module.status == S.BUILT:
        if others := [*around.children, *around.finishes_after]:
            return f"Built; its checks run again when {names(others)} {_are(others)} merged."
        return _slot("Its checks run again as soon as there is room for them.", module, ground)
    return _slot(_wanted(module, ground), module, ground)


def _slot(otherwise: str, module: Module, ground: Ground) -> str:
    if ground.is_paused:
        return "The project is paused. Resume the project to go on."
    if ground.blocked_reason:
        return "The plan is blocked; the board says why and offers to try again."
    if not ground.is_prepared:
        return "Waits until the declared interfaces are committed as a skeleton."
    if module.not_before and module.not_before > ground.now:
        return f"Tries again at {module.not_before:%H:%M:%S} (UTC)."
    return otherwise


def _wanted(module: Module, ground: Ground) -> str:
    if module.status == S.MERGING:
        if ground.merging and ground.merging != module.slug:
            return f"In the merge queue; {ground.merging} is being merged."
        return "In the merge queue; its turn comes next."
    if wall := ground.walls.get(_kind(module)):
        return f"Waits. {wall}"
    return f"Waits for a free slot. {ground.binding}".strip()


def _kind(module: Module) -> str:
    """The kind of run that the module wants from an agent next."""
    if module.status == S.WAITING:
        return "build" if module.tests_commit else "tests"
    return KINDS.get(S(module.status), "")


def names(others: Sequence[Other]) -> str:
    """A few modules by name with their status, and the rest as a number."""
    shown = [f"{other.slug} ({label(other)})" for other in others[:NAMED]]
    if len(others) > NAMED:
        shown.append(f"{len(others) - NAMED} more")
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def label(other: Other) -> str:
    return str(Module.Status(other.status).label).lower()


def _are(others: Sequence[Other]) -> str:
    return "is" if len(others) == 1 else "are"
