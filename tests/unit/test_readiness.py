"""Every point of the readiness list in each of its states."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from agents.readiness import Link, State, measure_button, points, summary
from agents.readiness_agents import is_stronger, strength
from agents.readiness_values import (
    CheckFact,
    Facts,
    HostFact,
    MeasureFacts,
    PersonFact,
    PlanFacts,
    ProfileFact,
    QuotaFact,
    many,
    named,
)
from projects import graph
from projects.coupling import Strength, Suggestion
from projects.specs import ModuleSpec, Need, Problem

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
AGO = NOW - timedelta(seconds=10)
READY, WARNING, MISSING, UNKNOWN = State.READY, State.WARNING, State.MISSING, State.UNKNOWN


def spec(slug: str, **values) -> ModuleSpec:
    fields = {
        "owns": (f"{slug}.py",),
        "tests": (f"tests/{slug}/",),
        "checks": (f"pytest {slug}",),
        "provides": (f"{slug}.main(argument)",),
        "estimate_seconds": 60.0,
        **values,
    }
    return ModuleSpec(slug, **fields)


SPECS = (spec("cart"), spec("desk"), spec("bill"), spec("shop", lane="money"))


def plan(*specs: ModuleSpec, **values) -> PlanFacts:
    specs = specs or SPECS
    fields = {
        "goal": "Sell things to people.",
        "files": ("cart.py", "desk.py", "bill.py", "shop.py"),
        "checks": (("lint", "merge"), ("all", "end")),
        "policies": {
            "review": "orchestrator",
            "split": {"depth": 1, "modules": 4},
            "exceptions": {"allow": []},
        },
        "has_recordings": True,
        "report": graph.why_not_more_parallel(specs, 4),
        **values,
    }
    return PlanFacts(1, fields.pop("status", "draft"), specs=tuple(specs), **fields)


def rows(kind: str = "failed", seconds: float = 2.0) -> tuple[CheckFact, ...]:
    return tuple(CheckFact(f"pytest {one.slug}", kind, seconds) for one in SPECS)


ROLES = (
    ProfileFact("orchestrator", "command", "big-opus", provider="acme", breaker="closed"),
    ProfileFact("planner", "command", "big-opus", provider="acme", breaker="closed"),
    ProfileFact("executor", "command", "small-haiku", provider="acme", breaker="closed"),
)
HOST = HostFact("one", AGO, 8000, 90000, capacity=6, sandbox="bubblewrap")


def quota(measure="tokens", limit=1000, used=0, **values) -> QuotaFact:
    period = "now" if measure == "parallel" else "day"
    return QuotaFact(
        values.pop("scope", "project"), measure, period, Decimal(limit), Decimal(used), **values
    )


GOOD = Facts(
    slug="shop",
    now=NOW,
    plan=plan(),
    ceiling=4,
    measure=MeasureFacts("ended", rows(), is_current=True),
    profiles=ROLES,
    quotas=(quota(),),
    hosts=(HOST,),
    coupling=(),
    instructions={"site": "Parallelize when possible."},
    people=(PersonFact("alice", "owner"), PersonFact("mia", "maintainer")),
    source="/team",
    source_problem="",
    hub_head="a" * 40,
    hub_path="/hubs/1.git",
    backup_at=AGO,
)


def roles(role: str, **values) -> tuple[ProfileFact, ...]:
    return tuple(replace(one, **values) if one.role == role else one for one in ROLES)


def measure(kind: str = "failed", seconds: float = 2.0, **values) -> MeasureFacts:
    fields = {"status": "ended", "rows": rows(kind, seconds), "is_current": True, **values}
    return MeasureFacts(**fields)


def host(**values) -> tuple[HostFact, ...]:
    return (replace(HOST, **values),)


def couple(strength: Strength, *modules: str) -> Suggestion:
    return Suggestion(modules, "import_cycle", ("a imports b",), strength)


CHAIN = (spec("a"), spec("b", needs=(Need("a", "implementation"),)),
         spec("c", needs=(Need("b", "implementation"),)))  # fmt: skip
GIVEN = tuple(replace(one, tests_given=True) for one in SPECS)
CIRCLE = Problem("cart", "needs", "cart and desk need each other", offer=("cart", "desk"))
CLASH = Problem("cart", "owns", "desk owns it too", files=("both.py",))
OLD = NOW - timedelta(days=30)

#: Key, what is different from a project where all is well, the state, and words of the reason.
CASES = [
    ("goal", {}, READY, "has 4 words"),
    ("goal", {"plan": plan(goal="Sell.")}, WARNING, "1 word"),
    ("goal", {"plan": plan(goal="")}, MISSING, "Nobody wrote the goal"),
    ("goal", {"plan": None}, MISSING, "Nobody wrote the goal"),
    ("plan", {}, READY, "Plan 1 with 4 modules is valid so far"),
    ("plan", {"plan": plan(status="submitted")}, READY, "waits for a maintainer"),
    ("plan", {"plan": plan(status="approved")}, READY, "is approved"),
    ("plan", {"plan": None}, MISSING, "There is no plan yet"),
    ("plan", {"plan": PlanFacts(2, "draft")}, MISSING, "Plan 2 has no modules"),
    ("plan", {"plan": plan(problems=(CLASH,))}, MISSING, "has 1 problem"),
    ("plan", {"plan": plan(blocked_reason="red.")}, MISSING, "can't go on: red."),
    ("plan", {"plan": plan(status="rejected")}, MISSING, "is rejected"),
    ("order", {}, READY, "0 needs among 4 modules, in 1 layer"),
    ("order", {"plan": plan(problems=(CIRCLE,), report=None)}, MISSING, "need each other"),
    ("order", {"plan": plan(report=None)}, MISSING, "The order is missing"),
    ("width", {}, READY, "4 of 4 modules (100 %)"),
    ("width", {"plan": plan(*CHAIN)}, WARNING, "1 of 3 modules (33 %)"),
    ("width", {"plan": plan(report=None)}, UNKNOWN, "circle"),
    ("overlap", {}, READY, "4 globs of 4 modules"),
    ("overlap", {"plan": plan(problems=(CLASH,))}, MISSING, "1 file would have two owners"),
    ("coverage", {}, READY, "4 of 4 code files"),
    ("coverage", {"plan": plan(files=())}, READY, "no code yet"),
    ("coverage", {"plan": plan(files=("cart.py", "x.py", "y.py"))}, WARNING, "1 of 3 code files"),
    ("contracts", {}, READY, "Each of 4 modules"),
    ("contracts", {"plan": plan(briefless=("cart",))}, WARNING, "1 without a brief (cart)"),
    ("contracts", {"plan": plan(spec("a", provides=()))}, WARNING, "1 without an interface (a)"),
    ("contracts", {"plan": plan(spec("a", checks=()))}, MISSING, "1 without checks (a)"),
    ("interfaces", {}, READY, "4 of 4 declared lines"),
    ("interfaces", {"plan": plan(spec("a", provides=("text: x",)))}, WARNING, "0 of 1 declared"),
    ("interfaces", {"plan": plan(spec("a", provides=("!",)))}, WARNING, "0 of 1 declared"),
    ("interfaces", {"plan": plan(spec("a", provides=()))}, WARNING, "No module declares"),
    ("tests", {}, READY, "0 of 4 modules have their tests; the planner writes those of 4"),
    ("tests", {"plan": plan(*GIVEN)}, READY, "4 of 4 modules have their tests"),
    ("tests", {"plan": plan(spec("a", tests=()))}, WARNING, "1 of 1 module name no test paths"),
    ("tests", {"profiles": roles("planner", problem="no command.")}, MISSING, "none can"),
    ("coupling", {}, READY, "1 lane in the plan"),
    ("coupling", {"coupling": (couple("hint", "cart", "desk"),)}, READY, "nothing else"),
    ("coupling", {"coupling": (couple("apply", "cart", "desk"),)}, WARNING, "such as cart, desk"),
    ("coupling", {"coupling": (couple("propose", "cart", "desk"),)}, WARNING, "0 for certain"),
    ("coupling", {"coupling": (couple("apply", "cart", "desk"),),
                  "dismissed": frozenset({frozenset({"cart", "desk"})})}, READY, "1 lane"),
    ("coupling", {"coupling": None}, UNKNOWN, "Nobody has looked"),
    ("coupling", {"coupling_missing": "no Python."}, UNKNOWN, "missing: no Python."),
    ("project-checks", {}, READY, "1 at each merge, 1 when all is merged"),
    ("project-checks", {"plan": plan(checks=())}, MISSING, "0 project checks"),
    ("project-checks", {"plan": plan(checks=(("x", "end"),))}, WARNING, "0 at each merge"),
    ("project-checks", {"plan": plan(checks=(("x", "merge"),))}, WARNING, "0 when all is merged"),
    ("environment", {}, READY, "None is set"),
    ("environment", {"environment": "/venv"}, READY, "run in /venv"),
    ("environment", {"environment": "/v", "environment_exists": False}, MISSING, "/v is no"),
    ("environment", {"measure": measure("not_found")}, WARNING, "4 checks found no program"),
    ("checks-start", {}, READY, "4 commands started"),
    ("checks-start", {"measure": measure("not_found")}, MISSING, "4 of 4 modules cannot run"),
    ("checks-start", {"measure": measure(rows=rows()[:1], problem="Time was up.")}, UNKNOWN,
     "3 checks of the plan were not tried, such as pytest desk. Time was up."),
    ("checks-start", {"plan": plan(spec("cart", checks=("nose cart",)), *SPECS[1:])}, UNKNOWN,
     "1 check of the plan was not tried, such as nose cart."),
    ("checks-start", {"measure": MeasureFacts()}, UNKNOWN, "never measured"),
    ("checks-start", {"measure": measure(status="asked")}, UNKNOWN, "being measured"),
    ("checks-start", {"measure": measure(status="lost")}, UNKNOWN, "without a word"),
    ("checks-start", {"measure": measure(is_current=False)}, UNKNOWN, "another commit"),
    ("checks-start", {"measure": measure(rows=(), problem="no hub")}, UNKNOWN, "failed: no hub"),
    ("checks-speed", {}, READY, "The slowest of 4 takes 2 s"),
    ("checks-speed", {"measure": measure(seconds=61)}, WARNING, "takes 61 s"),
    ("checks-speed", {"measure": measure("timeout", 120)}, WARNING, "4 did not end in time"),
    ("checks-speed", {"measure": MeasureFacts()}, UNKNOWN, "never measured"),
    ("checks-speed", {"measure": MeasureFacts(ran={"pytest cart": 41})}, READY, "takes 41 s"),
    ("checks-speed", {"measure": measure(rows=(CheckFact("x", "failed", 1),))}, UNKNOWN, "changed"),
    ("checks-prove", {}, READY, "None of the checks of 4 modules"),
    ("checks-prove", {"measure": measure("passed")}, WARNING,
     "4 of 4 modules are green before any code (cart, desk, bill and 1 more): they prove nothing"),
    ("checks-prove", {"measure": measure("passed"),
                      "plan": plan(merged=frozenset({"cart", "desk", "bill"}))},
     WARNING, "1 of 1 module is green before any code (shop)"),
    ("checks-prove", {"measure": measure("no_tests")}, READY, "None of the checks"),
    ("checks-prove", {"measure": measure("no_tests"), "plan": plan(*GIVEN)}, WARNING,
     "4 of 4 modules collect no tests"),
    ("checks-prove", {"measure": measure(rows=rows()[:1], problem="Time was up.")}, UNKNOWN,
     "3 of 4 modules did not run to an end. Time was up."),
    ("checks-prove", {"measure": measure("not_found")}, UNKNOWN, "4 of 4 modules did not run"),
    ("checks-prove", {"measure": MeasureFacts()}, UNKNOWN, "never measured"),
    ("roles", {}, READY, "3 of 3: orchestrator command big-opus"),
    ("roles", {"profiles": roles("planner", problem="no command.")}, MISSING, "1 of 3 roles"),
    ("roles", {"profiles": roles("planner", is_chosen=False)}, WARNING, "Nobody chose planner"),
    ("roles", {"profiles": roles("executor", backend="replay"),
               "plan": plan(has_recordings=False)}, MISSING, "names no recordings"),
    ("tiers", {}, READY, "big-opus judges, small-haiku codes"),
    ("tiers", {"profiles": roles("executor", model="big-opus")}, WARNING, "big-opus plays both"),
    ("tiers", {"profiles": roles("orchestrator", model="mini")}, UNKNOWN, "neither"),
    ("tiers", {"profiles": roles("executor", model="pro"), "prices": {"pro": Decimal(9),
               "big-opus": Decimal(2)}}, WARNING, "is the lighter one"),
    ("tiers", {"profiles": roles("executor", model="")}, UNKNOWN, "No model is named for executor"),
    ("provider", {}, READY, "acme: 1 account open"),
    ("provider", {"profiles": tuple(replace(r, backend="replay") for r in ROLES)}, READY, "replay"),
    ("provider", {"profiles": roles("planner", provider="", breaker="")}, WARNING, "1 of 3 roles"),
    ("provider", {"profiles": roles("planner", breaker="throttled")}, WARNING, "is throttled"),
    ("provider", {"profiles": roles("planner", breaker="exhausted", wake_at=NOW)}, MISSING,
     "exhausted until 2026-11-25 12:00 UTC"),
    ("ceiling-machine", {}, READY, "The ceiling is 4; 1 machine can carry 6"),
    ("ceiling-machine", {"hosts": host(capacity=2, capacity_reason="Memory is short.")}, WARNING,
     "can carry 2, so the rest waits. Memory is short."),
    ("ceiling-machine", {"hosts": host(capacity=None)}, UNKNOWN, "not read yet"),
    ("ceiling-machine", {"hosts": ()}, UNKNOWN, "No machine was read"),
    ("ceiling-quota", {}, READY, "0 quotas bound runs at once"),
    ("ceiling-quota", {"quotas": (quota("parallel", 4),)}, READY, "1 quota on runs at once"),
    ("ceiling-quota", {"quotas": (quota("parallel", 3, scope="site"),)}, WARNING,
     "the site's quota allows 3 at once"),
    ("ceiling-quota", {"quotas": (quota("parallel", 3, provider="acme"),)}, WARNING,
     "the account acme allows 3"),
    ("ceiling-quota", {"site_ceiling": 2}, WARNING, "this site allows up to 2"),
    ("budget", {}, READY, "1 budget, none used to 80 %"),
    ("budget", {"quotas": ()}, WARNING, "0 quotas bound tokens"),
    ("budget", {"quotas": (), "profiles": tuple(replace(r, backend="replay") for r in ROLES)},
     READY, "0 tokens"),
    ("budget", {"quotas": (quota(used=800),)}, WARNING, "800 of 1000 tokens a day"),
    ("budget", {"quotas": (quota(used=1000),)}, MISSING, "1000 of 1000 tokens"),
    ("ceiling-plan", {}, READY, "With 4 at once the plan takes about 60 s"),
    ("ceiling-plan", {"ceiling": 2}, READY, "4 at once would take 60 s"),
    ("ceiling-plan", {"ceiling": 9}, WARNING, "a ceiling above 4 gains nothing"),
    ("ceiling-plan", {"plan": plan(report=None)}, UNKNOWN, "circle"),
    ("floors", {}, READY, "At least 8000 MB of memory"),
    ("floors", {"hosts": host(memory_available_mb=10)}, MISSING, "has 10 MB of memory"),
    ("floors", {"hosts": (HOST, *host(disk_free_mb=5))}, WARNING, "5 MB of disk"),
    ("floors", {"hosts": ()}, UNKNOWN, "in the last 2 minutes"),
    ("going", {}, READY, "New runs start"),
    ("going", {"is_paused": True}, WARNING, "0 new runs start"),
    ("deciders", {}, READY, "2 owners and maintainers: alice, mia"),
    ("deciders", {"people": (PersonFact("alice", "owner"),)}, WARNING, "1 person can approve"),
    ("approver", {}, READY, "2 people may approve; 2 of them have signed in"),
    ("approver", {"people": (PersonFact("a", "owner", False),)}, WARNING, "0 of them have ever"),
    ("approver", {"people": (PersonFact("bob", "member"),)}, MISSING, "0 people may approve"),
    ("inbox", {}, READY, "2 members get the inbox"),
    ("inbox", {"people": (PersonFact("a", "owner", False),)}, WARNING, "0 have ever"),
    ("inbox", {"people": (PersonFact("vera", "viewer"),)}, MISSING, "reach nobody"),
    ("instructions", {}, READY, "1 text in force (site)"),
    ("instructions", {"instructions": {"site": "Be nice."}}, WARNING, "none of which asks"),
    ("instructions", {"instructions": {"site": " "}}, MISSING, "are empty"),
    ("reminder", {}, READY, "the coupled ones of 1 module; none was sent yet"),
    ("reminder", {"sent": "Split the work into independent components where you can."}, READY,
     "as the newest one did"),
    ("reminder", {"sent": "Go."}, WARNING, "0 of 1"),
    ("policies", {}, READY, "Splits: up to 4 parts, 1 deep, unasked. Exceptions: always asked."),
    ("policies", {"plan": plan(policies={})}, MISSING, "3 of 3 are not decided"),
    ("policies", {"plan": plan(policies={"review": "both", "split": {"depth": 0},
                  "exceptions": {"allow": ["docs/"]}})}, READY, "Splits: always asked. Exceptions:"
     " 1 glob unasked"),
    ("policies", {"plan": plan(policies={"review": "both", "split": {"depth": 0},
                  "exceptions": {"allow": ["**"]}})}, WARNING, "unasked for **"),
    ("clock", {}, READY, "1 machine reported"),
    ("clock", {"clock_runs": False}, MISSING, "0 clocks run"),
    ("clock", {"hosts": ()}, MISSING, "no clock was started"),
    ("clock", {"hosts": host(seen_at=OLD)}, MISSING, "came at 2026-10-26 12:00:00 UTC"),
    ("workers", {}, READY, "0 runs wait"),
    ("workers", {"queued": 2, "queued_since": AGO}, READY, "2 runs wait for a worker, since"),
    ("workers", {"queued": 2, "queued_since": OLD}, MISSING, "no worker is alive"),
    ("sandbox", {}, READY, "1 of 1 machine confine"),
    ("sandbox", {"hosts": host(sandbox="unconfined")}, WARNING, "unconfined on 1 of 1 machine"),
    ("sandbox", {"hosts": host(sandbox="")}, UNKNOWN, "how it confines"),
    ("source", {}, READY, "/team answers"),
    ("source", {"source_problem": "There is no repository."}, WARNING, "Nothing can be published"),
    ("source", {"source_problem": None}, UNKNOWN, "was never asked"),
    ("hub", {}, READY, "is at aaaaaaaaaa"),
    ("hub", {"hub_head": ""}, MISSING, "There is no hub with a commit at /hubs/1.git"),
    ("backup", {}, READY, "a backup of 2026-11-25"),
    ("backup", {"backup_at": None, "published_at": AGO}, READY, "a publishing of"),
    ("backup", {"backup_at": OLD, "changed_at": AGO}, WARNING, "30 days old"),
    ("backup", {"backup_at": OLD, "changed_at": None}, READY, "of 2026-10-26"),
    ("backup", {"backup_at": None}, UNKNOWN, "Tutti sees 0 copies"),
]  # fmt: skip


def point_of(key: str, facts: Facts):
    return next(point for point in points(facts) if point.key == key)


@pytest.mark.parametrize(("key", "changes", "state", "words"), CASES)
def test_point_says_its_state_and_why(key, changes, state, words):
    point = point_of(key, replace(GOOD, **changes))
    assert point.state is state, point.why
    assert words in point.why
    assert state is READY or point.link or point.button


def test_all_is_ready_where_all_is_well():
    found = points(GOOD)
    assert [point for point in found if point.state is not READY] == []
    assert len(found) >= 18 and len({point.key for point in found}) == len(found)
    assert summary(found).sentence == f"{len(found)} of {len(found)} points are ready."
    assert summary(found).state is READY


def test_each_point_has_cases_of_more_than_one_state():
    seen: dict[str, set[State]] = {}
    for key, _, state, _ in CASES:
        seen.setdefault(key, set()).add(state)
    assert {point.key for point in points(GOOD)} == set(seen)
    assert [key for key, states in seen.items() if len(states) < 2] == []


def test_summary_counts_and_names_the_worst():
    found = points(replace(GOOD, hub_head="", is_paused=True, backup_at=None))
    counted = summary(found)
    assert (counted.missing, counted.warning, counted.unknown) == (1, 1, 1)
    assert counted.state is MISSING
    assert counted.sentence.endswith("1 missing, 1 to look at, 1 not known.")
    assert summary(points(replace(GOOD, is_paused=True))).state is WARNING
    assert summary(points(replace(GOOD, backup_at=None))).state is UNKNOWN


def test_links_lead_to_forms_only_while_a_draft_can_be_edited():
    broken = plan(briefless=("cart",), checks=())
    facts = replace(GOOD, plan=broken)
    assert point_of("contracts", facts).link == Link(
        "projects:contract-edit", ("shop", "cart"), "id_brief"
    )
    assert point_of("project-checks", facts).link == Link("projects:plan-edit", ("shop",), "checks")
    facts = replace(GOOD, plan=replace(broken, status="approved"))
    assert point_of("contracts", facts).link == Link("projects:plan", ("shop",), "module-cart")
    assert point_of("project-checks", facts).link == Link("projects:plan", ("shop",), "plan")


def test_ceiling_is_mended_by_a_button_for_owners():
    button = point_of("ceiling-plan", replace(GOOD, ceiling=9)).button
    assert (button.name, button.role) == ("projects:ceiling", "owner")
    assert button.values == {"ceiling": 4}


def test_quotas_are_mended_where_they_are_set():
    own = replace(quota("parallel", 2), pk=7)
    point = point_of("ceiling-quota", replace(GOOD, quotas=(own,)))
    assert point.link == Link("agents:quotas", ("shop",), "quota-7")
    assert point.button.values == {"ceiling": 2}
    nothing = point_of("ceiling-quota", replace(GOOD, quotas=(quota("parallel", 0),)))
    assert nothing.button is None
    site = replace(quota(used=1000), scope="site")
    assert point_of("budget", replace(GOOD, quotas=(site,))).link.anchor == "above"
    assert point_of("budget", replace(GOOD, quotas=())).link.anchor == "add-quota"


def test_measuring_is_offered_unless_it_goes_on():
    assert measure_button(replace(GOOD, measure=measure(status="measuring"))) is None
    assert measure_button(GOOD).text == "Measure again"
    assert measure_button(replace(GOOD, measure=MeasureFacts())).text == "Measure the checks"


@pytest.mark.parametrize(
    ("model", "expected"),
    [("", None), ("gemini-2", 2), ("gpt-mini", 1), ("recorded-strong", 3), ("big-pro", 3)],
)
def test_strength_is_read_from_words_of_the_name(model, expected):
    assert strength(model) == expected


def test_price_tells_more_than_a_name():
    prices = {"a-pro": Decimal(1), "b-mini": Decimal(5)}
    assert is_stronger("a-pro", "b-mini", prices) is False
    assert is_stronger("a-pro", "b-mini", {}) is True
    assert is_stronger("x", "y", {}) is None


def test_numbers_and_names_read_well():
    assert (many(1, "run"), many(0, "run"), many(2, "run")) == ("1 run", "0 runs", "2 runs")
    assert many(2, "person") == "2 people"
    assert named(["a", "b", "c"], 2) == "a, b and 1 more"
