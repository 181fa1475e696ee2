"""Points of the readiness checklist about checks: are they there, quick, honest?"""

from __future__ import annotations

from functools import partial

from agents.readiness_values import (
    Button,
    CheckFact,
    Facts,
    Link,
    PlanFacts,
    Point,
    State,
    many,
    named,
)
from projects.forecast import say_seconds
from projects.specs import ModuleSpec

SLOW_SECONDS = 60.0
"""Every gate, recheck and merge waits for a check, so one above this is a warning."""

#: Kinds of outcomes that keep a check from saying anything.
NO_START = ("not_found", "killed", "out_of_memory")


def check_points(facts: Facts) -> list[Point]:
    """Are checks there, quick and honest?"""
    if facts.plan is None or not facts.plan.specs:
        return []
    return [
        _project_checks(facts, facts.plan),
        _environment(facts),
        _starting(facts, facts.plan),
        _speed(facts, facts.plan),
        _proof(facts, facts.plan),
    ]


def measure_button(facts: Facts) -> Button | None:
    """Measure the checks; None while that goes on already."""
    if facts.measure.status in ("asked", "measuring"):
        return None
    text = "Measure again" if facts.measure.status == "ended" else "Measure the checks"
    return Button("agents:readiness-measure", (facts.slug,), text, "member")


def _project_checks(facts: Facts, plan: PlanFacts) -> Point:
    point = partial(Point, "project-checks", "checks", "The whole is checked at merges and the end")
    merge = sum(at == "merge" for _, at in plan.checks)
    end = sum(at == "end" for _, at in plan.checks)
    link, text = facts.for_all("checks"), "Add project checks"
    if not plan.checks:
        return point(State.MISSING, "There are 0 project checks: nothing proves the merged whole.",
                     link, text)  # fmt: skip
    said = f"{merge} at each merge, {end} when all is merged"
    if not merge or not end:
        gap = "a merge could break what others made" if not merge else "the end proves nothing"
        return point(State.WARNING, f"{said}: {gap}.", link, text)
    return point(State.READY, f"{said}.")


def _environment(facts: Facts) -> Point:
    point = partial(Point, "environment", "checks", "Checks have an environment to run in")
    link, text = facts.settings("id_environment"), "Set the environment"
    if facts.environment and not facts.environment_exists:
        return point(State.MISSING, f"{facts.environment} is no virtual environment on this"
                     " machine.", link, text)  # fmt: skip
    lost = [row for row in _rows(facts) if row.kind == "not_found"]
    if lost and not facts.environment:
        return point(State.WARNING, f"None is set, and {many(len(lost), 'check')} found no program"
                     " to start.", link, text)  # fmt: skip
    if facts.environment:
        return point(State.READY, f"Checks run in {facts.environment}.")
    return point(State.READY, "None is set: checks use the system's programs.")


def _rows(facts: Facts) -> tuple[CheckFact, ...]:
    return facts.measure.rows if facts.measure.is_current else ()


def _not_measured(facts: Facts) -> tuple[State, str, Link | None, str, Button | None] | None:
    """What all measured points say while there is no measuring of this plan's commit."""
    measure, button = facts.measure, measure_button(facts)
    page = facts.page("agents:readiness", anchor="measure")
    if measure.status in ("asked", "measuring"):
        return State.UNKNOWN, "The checks are being measured.", page, "See how far", None
    if measure.status == "lost":
        return State.UNKNOWN, "The last measuring ended without a word.", page, "Measuring", button
    if measure.status == "none" or not measure.is_current:
        was = "never" if measure.status == "none" else "only for another commit"
        return State.UNKNOWN, f"The checks were {was} measured.", page, "Measuring", button
    if not measure.rows:
        said = f"The measuring failed: {measure.problem or 'no check ran'}"
        return State.UNKNOWN, said, page, "Measuring", button
    return None


def _starting(facts: Facts, plan: PlanFacts) -> Point:
    point = partial(Point, "checks-start", "checks", "Each check can start")
    if unsaid := _not_measured(facts):
        return point(*unsaid)
    broken = {row.command: row.kind for row in _rows(facts) if row.kind in NO_START}
    hit = [spec for spec in plan.specs if any(check in broken for check in spec.checks)]
    if hit:
        command, kind = next(iter(broken.items()))
        return point(State.MISSING, f"Checks of {len(hit)} of {many(len(plan.specs), 'module')}"
                     f" cannot run: {command} ended as {kind.replace('_', ' ')}.",
                     facts.contract(hit[0].slug, "id_checks"),
                     f"Change the checks of {hit[0].slug}", measure_button(facts))  # fmt: skip
    tried = {row.command for row in _rows(facts)}
    checks = (check for spec in plan.specs for check in spec.checks if check.strip())
    untried = [check for check in checks if check not in tried]
    if untried:
        return point(State.UNKNOWN, f"{many(len(set(untried)), 'check')} of the plan"
                     f" {'was' if len(set(untried)) == 1 else 'were'} not tried, such as"
                     f" {untried[0]}. {facts.measure.problem}".rstrip(),
                     facts.page("agents:readiness", anchor="measure"), "Measuring",
                     measure_button(facts))  # fmt: skip
    return point(State.READY, f"{many(len(tried), 'command')} started on the commit that"
                 " the plan begins with.")  # fmt: skip


def _speed(facts: Facts, plan: PlanFacts) -> Point:
    point = partial(Point, "checks-speed", "checks", "Checks are quick")
    known = {**{row.command: row.seconds for row in _rows(facts)}, **facts.measure.ran}
    wanted = {check: spec.slug for spec in plan.specs for check in spec.checks if check in known}
    late = [row.command for row in _rows(facts) if row.kind == "timeout"]
    if not wanted:
        unsaid = _not_measured(facts)
        return point(*unsaid) if unsaid else point(
            State.UNKNOWN, "The checks changed since they were measured.",
            facts.page("agents:readiness", anchor="measure"), "Measuring", measure_button(facts)
        )  # fmt: skip
    slowest = max(wanted, key=lambda check: known[check])
    said = f"The slowest of {len(wanted)} takes {say_seconds(known[slowest])}"
    slug = wanted[slowest]
    if late or known[slowest] > SLOW_SECONDS:
        stuck = f" and {len(late)} did not end in time" if late else ""
        return point(State.WARNING, f"{said}{stuck}; each gate and merge waits that long.",
                     facts.contract(slug, "id_checks"), f"Change the checks of {slug}",
                     measure_button(facts))  # fmt: skip
    return point(State.READY, f"{said}.")


def _proof(facts: Facts, plan: PlanFacts) -> Point:
    point = partial(Point, "checks-prove", "checks", "Checks prove something")
    if unsaid := _not_measured(facts):
        return point(*unsaid)
    kinds = {row.command: row.kind for row in _rows(facts)}
    due = [spec for spec in plan.specs if spec.slug not in plan.merged]
    green = [spec for spec in due if _is_green(spec, kinds)]
    hollow = [spec for spec in due if _hollow(spec, kinds)]
    button = measure_button(facts)
    if green:
        slug = green[0].slug
        are = "are" if len(green) > 1 else "is"
        return point(State.WARNING, f"The checks of {len(green)} of {many(len(due), 'module')}"
                     f" {are} green before any code ({named([s.slug for s in green], 3)}): they"
                     " prove nothing.", facts.contract(slug, "id_checks"),
                     f"Change the checks of {slug}", button)  # fmt: skip
    if hollow:
        slug = hollow[0].slug
        return point(State.WARNING, f"Checks of {len(hollow)} of {many(len(due), 'module')} collect"
                     f" no tests although these are given ({named([s.slug for s in hollow], 3)}).",
                     facts.contract(slug, "id_checks"), f"Change the checks of {slug}",
                     button)  # fmt: skip
    unknown = [spec for spec in due if not all(_has_run(check, kinds) for check in spec.checks)]
    if unknown:
        return point(State.UNKNOWN, f"Checks of {len(unknown)} of {many(len(due), 'module')} did"
                     f" not run to an end. {facts.measure.problem}".rstrip(),
                     facts.page("agents:readiness", anchor="measure"), "Measuring",
                     button)  # fmt: skip
    return point(State.READY, f"None of the checks of {many(len(due), 'module')} is green before"
                 " the code is written.")  # fmt: skip


def _is_green(spec: ModuleSpec, kinds: dict[str, str]) -> bool:
    # The red gate refuses a module as soon as one of its checks is green.
    return any(kinds.get(check) == "passed" for check in spec.checks)


def _has_run(check: str, kinds: dict[str, str]) -> bool:
    return kinds.get(check, "timeout") not in (*NO_START, "timeout")


def _hollow(spec: ModuleSpec, kinds: dict[str, str]) -> bool:
    # Tests that a planner is still to write cannot be collected yet, and nothing is wrong with it.
    return spec.tests_given and any(kinds.get(check) == "no_tests" for check in spec.checks)
