"""Points of the readiness checklist about the plan: goal, graph, paths, contracts, coupling."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from agents.readiness_values import Facts, Link, PlanFacts, Point, State, many, named
from projects import globs, provides
from projects.specs import ModuleSpec

NARROW = 1.5
"""A plan that no number of agents makes this many times faster gains little by working in
parallel."""

CODE = (
    ".py", ".pyi", ".js", ".ts", ".tsx", ".jsx", ".go", ".rs", ".java", ".kt", ".c", ".h", ".cc",
    ".cpp", ".hpp", ".cs", ".rb", ".php", ".swift", ".scala", ".sh", ".sql",
)  # fmt: skip

_Point = Callable[..., Point]


def plan_points(facts: Facts) -> list[Point]:
    """Is the work cut into modules that can be built apart?"""
    return [
        _goal(facts),
        _plan(facts),
        *(_of_plan(facts, facts.plan) if facts.plan and facts.plan.specs else []),
    ]


def _of_plan(facts: Facts, plan: PlanFacts) -> list[Point]:
    return [
        _order(facts, plan),
        _width(facts, plan),
        _overlap(facts, plan),
        _coverage(facts, plan),
        _contracts(facts, plan),
        _interfaces(facts, plan),
        _tests(facts, plan),
        _coupling(facts),
    ]


def _goal(facts: Facts) -> Point:
    point = partial(Point, "goal", "plan", "The goal is written down")
    goal = (facts.plan.goal if facts.plan else "") or facts.goal
    words = len(goal.split())
    link = facts.for_all("id_goal") if facts.plan else facts.settings("id_goal")
    if not words:
        return point(State.MISSING, "Nobody wrote the goal, by which agents and reviews judge.",
                     link, "Write the goal")  # fmt: skip
    if words < 3:
        return point(State.WARNING, f"The goal has {many(words, 'word')}: too few to judge by.",
                     link, "Write more of it")  # fmt: skip
    return point(State.READY, f"The goal has {words} words.")


def _plan(facts: Facts) -> Point:
    point = partial(Point, "plan", "plan", "There is a plan, approved or valid so far")
    plan = facts.plan
    link = facts.page("projects:plan", anchor="plan")
    if plan is None or not plan.specs:
        said = "There is no plan yet." if plan is None else f"Plan {plan.number} has no modules."
        return point(State.MISSING, said, link, "Write the plan")
    modules = f"Plan {plan.number} with {many(len(plan.specs), 'module')}"
    if plan.blocked_reason:
        return point(State.MISSING, f"{modules} can't go on: {plan.blocked_reason}", link,
                     "See why")  # fmt: skip
    if plan.problems:
        where = facts.page("projects:plan", anchor="problems")
        return point(State.MISSING, f"{modules} has {many(len(plan.problems), 'problem')} that"
                     " keep it from approval.", where, "See the problems")  # fmt: skip
    said = {
        "draft": "is valid so far; it has to be submitted and approved",
        "submitted": "is valid and waits for a maintainer's approval",
        "approved": "is approved",
    }.get(plan.status, f"is {plan.status}")
    if plan.status == "rejected":
        return point(State.MISSING, f"{modules} is rejected.", link, "Start the next one")
    return point(State.READY, f"{modules} {said}.")


def _order(facts: Facts, plan: PlanFacts) -> Point:
    point = partial(Point, "order", "plan", "No modules wait for each other in a circle")
    circles = [problem for problem in plan.problems if problem.offer]
    if circles or plan.report is None:
        slug = next((p.module for p in circles if p.module), plan.specs[0].slug)
        said = circles[0].message if circles else "Needs go round in a circle, or name nobody."
        return point(State.MISSING, f"The order is missing: {said}",
                     facts.contract(slug, "needs"), "Change what they need")  # fmt: skip
    needs = sum(len(spec.needs) for spec in plan.specs)
    layers = len(plan.report.layers)
    return point(State.READY, f"{many(needs, 'need')} among {many(len(plan.specs), 'module')},"
                 f" in {many(layers, 'layer')}, without a circle.")  # fmt: skip


def _width(facts: Facts, plan: PlanFacts) -> Point:
    point = partial(Point, "width", "plan", "Much of it can run at the same time")
    link = facts.page("projects:plan", anchor="report-path")
    report = plan.report
    if report is None:
        return point(State.UNKNOWN, "It can be said once nothing waits in a circle.",
                     facts.page("projects:plan", anchor="plan"), "See the plan")  # fmt: skip
    count, first = len(plan.specs), len(report.layers[0])
    best = min(report.wall_clock.values())
    gain = report.wall_clock[1] / best if best else 1.0
    said = (
        f"{first} of {count} modules ({first * 100 // count} %) can start at once; the critical"
        f" path has {many(len(report.critical_path), 'module')}, and no ceiling makes the plan"
        f" faster than {gain:.1f} times one agent."
    )
    if count > 1 and gain < NARROW:
        return point(State.WARNING, said, link, "See what holds it up")
    return point(State.READY, said)


def _overlap(facts: Facts, plan: PlanFacts) -> Point:
    point = partial(Point, "overlap", "plan", "No two modules own the same files")
    clashes = [p for p in plan.problems if p.field in ("owns", "tests") and p.files and p.module]
    if clashes:
        slug = str(clashes[0].module)
        files = {path for problem in clashes for path in problem.files}
        return point(State.MISSING, f"{many(len(files), 'file')} would have two owners, such as"
                     f" {min(files)}.", facts.contract(slug, "id_owns"),
                     f"Change what {slug} owns")  # fmt: skip
    owned = sum(len(spec.owns) for spec in plan.specs)
    return point(State.READY, f"{many(owned, 'glob')} of {many(len(plan.specs), 'module')} meet in"
                 " no file outside a lane.")  # fmt: skip


def _coverage(facts: Facts, plan: PlanFacts) -> Point:
    point = partial(Point, "coverage", "plan", "The code has owners")
    owned, loose = coverage(plan)
    total = owned + len(loose)
    if not total:
        return point(State.READY, "There is no code yet that could lack an owner.")
    said = f"{owned} of {total} code files have an owner"
    if len(loose) > owned:
        return point(State.WARNING, f"{said}; nobody may change {named(loose, 3)}.",
                     facts.contract(plan.specs[0].slug, "id_owns"),
                     "Give them to a module")  # fmt: skip
    rest = f"; {len(loose)} stay as they are" if loose else ""
    return point(State.READY, f"{said}{rest}.")


def coverage(plan: PlanFacts) -> tuple[int, list[str]]:
    """How many tracked code files some module owns or tests with, and which none does."""
    usable = [
        glob
        for spec in plan.specs
        for glob in (*spec.owns, *spec.tests)
        if not glob.startswith("!") and not globs.fault(glob)
    ]
    # Exclusions are left out: a file that one module leaves out is mostly another's.
    files = globs.Files(path for path in plan.files if path.endswith(CODE))
    taken = set(files.matched(tuple(dict.fromkeys(usable)))) if usable else set()
    return len(taken), [path for path in files.paths if path not in taken]


def _contracts(facts: Facts, plan: PlanFacts) -> Point:
    point = partial(Point, "contracts", "plan", "Contracts are whole")
    lacking = {
        "a brief": [*plan.briefless],
        "an interface": [spec.slug for spec in plan.specs if not spec.provides],
        "checks": [spec.slug for spec in plan.specs if not any(c.strip() for c in spec.checks)],
    }
    said = [f"{len(slugs)} without {what} ({named(slugs, 3)})" for what, slugs in lacking.items()
            if slugs]  # fmt: skip
    count = len(plan.specs)
    if not said:
        return point(State.READY, f"Each of {many(count, 'module')} has brief, interface and"
                     " checks.")  # fmt: skip
    field = {"a brief": "id_brief", "an interface": "id_provides", "checks": "id_checks"}
    worst = "checks" if lacking["checks"] else next(what for what in lacking if lacking[what])
    slug = lacking[worst][0]
    state = State.MISSING if lacking["checks"] else State.WARNING
    return point(state, f"Of {many(count, 'module')} {'; '.join(said)}.",
                 facts.contract(slug, field[worst]), f"Complete {slug}")  # fmt: skip


def _interfaces(facts: Facts, plan: PlanFacts) -> Point:
    point = partial(Point, "interfaces", "plan", "A machine can check the interfaces")
    clauses = [(spec.slug, is_checkable(line)) for spec in plan.specs for line in spec.provides]
    if not clauses:
        return point(State.WARNING, "No module declares an interface, so none is held to it.",
                     facts.contract(plan.specs[0].slug, "id_provides"),
                     "Declare interfaces")  # fmt: skip
    loose = list(dict.fromkeys(slug for slug, checkable in clauses if not checkable))
    good = sum(checkable for _, checkable in clauses)
    said = f"{good} of {many(len(clauses), 'declared line')} can be compared with the code"
    if loose:
        return point(State.WARNING, f"{said}; only reviews check the text of {named(loose)}.",
                     facts.contract(loose[0], "id_provides"),
                     f"Say it as signatures in {loose[0]}")  # fmt: skip
    return point(State.READY, f"{said}.")


def is_checkable(clause: str) -> bool:
    """Whether a line of an interface names an object of Python."""
    try:
        return not provides.parse(clause).is_text
    except provides.ProvideError:
        return False


def _tests(facts: Facts, plan: PlanFacts) -> Point:
    point = partial(Point, "tests", "plan", "Tests are there, or a planner writes them first")
    nowhere = [spec.slug for spec in plan.specs if not spec.tests]
    if nowhere:
        return point(State.WARNING, f"{len(nowhere)} of {many(len(plan.specs), 'module')} name no"
                     f" test paths ({named(nowhere, 3)}): their planner may write nothing.",
                     facts.contract(nowhere[0], "id_tests"),
                     f"Name the tests of {nowhere[0]}")  # fmt: skip
    given = [spec for spec in plan.specs if spec.tests_given]
    wanted = len(plan.specs) - len(given)
    planner = next((one for one in facts.profiles if one.role == "planner"), None)
    if wanted and (planner is None or planner.problem):
        return point(State.MISSING, f"A planner has to write the tests of {many(wanted, 'module')},"
                     " and none can.", facts.page("agents:profiles", anchor="profile-planner"),
                     "Choose the planner")  # fmt: skip
    return point(State.READY, f"{len(given)} of {many(len(plan.specs), 'module')} have their tests;"
                 f" the planner writes those of {wanted}.")  # fmt: skip


def _coupling(facts: Facts) -> Point:
    point = partial(Point, "coupling", "plan", "What is coupled is recognised and kept apart")
    link = facts.page("projects:plan", anchor="look-for-coupling")
    if facts.coupling is None:
        return point(State.UNKNOWN, "Nobody has looked for coupling in this version of the plan.",
                     link, "Look for coupling")  # fmt: skip
    open_ones = [
        one
        for one in facts.coupling
        if one.strength != "hint"
        and len(one.modules) > 1
        and frozenset(one.modules) not in facts.dismissed
    ]
    if open_ones:
        certain = sum(one.strength == "apply" for one in open_ones)
        first = ", ".join(open_ones[0].modules)
        return point(State.WARNING, f"{many(len(open_ones), 'group')} of modules look coupled and"
                     f" share no lane ({certain} for certain), such as {first}.", link,
                     "Decide on them")  # fmt: skip
    if facts.coupling_missing:
        return point(State.UNKNOWN, f"A part of the evidence is missing: {facts.coupling_missing}",
                     link, "Look again")  # fmt: skip
    lanes = _lanes(facts.plan.specs if facts.plan else ())
    return point(State.READY, f"{many(lanes, 'lane')} in the plan; the imports and the history"
                 " show nothing else that is coupled.")  # fmt: skip


def _lanes(specs: tuple[ModuleSpec, ...]) -> int:
    return len({spec.lane for spec in specs if spec.lane})


__all__ = ["Link", "coverage", "is_checkable", "plan_points"]
