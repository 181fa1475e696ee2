from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects import planfile
from projects.planfile import PlanFile, PlanFileError

PLAN = """\
version: 1
project:
  name: Bookshop
  goal: Sell books
  checks:
    - run: pytest -q
      at: merge
  policies: {review: both, split: {depth: 2, modules: 6}}
modules:
  - slug: cart
    brief: |
      Two lines
        with an indent
    owns: [shop/cart.py]
    tests: [tests/test_cart.py]
    provides:
      - "shop.cart.Cart.add(self, book: str) -> None"
      - text: the cart survives a restart
    checks: [pytest tests/test_cart.py]
  - slug: till
    owns: [shop/till.py]
    tests: {paths: [tests/test_till.py], given: true}
    needs: [{module: cart, kind: contract}]
    checks: [pytest tests/test_till.py]
    lane: money
    priority: 3
    estimate_seconds: 40
"""


def problems_of(text: str) -> list[tuple[int, str]]:
    with pytest.raises(PlanFileError) as caught:
        planfile.load(text)
    return [(problem.line, problem.path) for problem in caught.value.problems]


def message_of(text: str) -> str:
    with pytest.raises(PlanFileError) as caught:
        planfile.load(text)
    return str(caught.value)


def test_plan_is_read() -> None:
    plan = planfile.load(PLAN)
    cart, till = plan.modules
    assert cart.brief == "Two lines\n  with an indent\n"
    assert cart.provides[1] == "text: the cart survives a restart"
    assert cart.tests.paths == ["tests/test_cart.py"] and not cart.tests.given
    assert till.tests.given and till.estimate_seconds == 40.0
    assert plan.project.policies.split.modules == 6 and plan.project.ceiling == 5


def test_round_trip_loses_nothing_and_reads_well() -> None:
    plan = planfile.load(PLAN)
    written = planfile.dump(plan)
    assert planfile.load(written) == plan
    assert "brief: |\n" in written and "  - text: the cart survives a restart" in written


def test_unknown_keys_are_named_with_their_lines() -> None:
    text = PLAN.replace("    lane: money", "    lain: money").replace("  goal:", "  gaol:")
    assert problems_of(text) == [(4, "project.gaol"), (25, "modules[1].lain")]


@pytest.mark.parametrize(
    ("text", "line", "path"),
    [
        ("version: 1\nmodules:\n- slug: a\n  checks:\n  - 3\n", 5, "modules[0].checks[0]"),
        ("version: 1\nmodules:\n- slug: a\n  tests: [1]\n", 4, "modules[0].tests.paths[0]"),
        ("version: 1\nproject: {ceiling: '5'}\n", 2, "project.ceiling"),
        ("version: 1\nmodules:\n- owns: []\n", 3, "modules[0].slug"),
        ("version: 2\n", 1, "version"),
        ("- a\n", 1, ""),
        ("", 1, ""),
        ("version: 1\nmodules:\n- slug: Big\n", 3, "modules[0].slug"),
        ("version: 1\nmodules:\n- slug: a\n  title: \"a\\nb\"\n", 4, "modules[0].title"),
        (f"version: 1\nmodules:\n- slug: a\n  title: {'x' * 201}\n", 4, "modules[0].title"),
        (f"version: 1\nmodules:\n- slug: {'/'.join(['x' * 30] * 3)}\n", 3, "modules[0].slug"),
        ("version: 1\nmodules:\n- slug: a\n  brief: \"a\\0b\"\n", 4, "modules[0].brief"),
        ("version: 1\nmodules:\n- slug: a\n  estimate_seconds: .nan\n", 4,
         "modules[0].estimate_seconds"),
    ],
)  # fmt: skip
def test_wrong_values_are_named_with_their_lines(text: str, line: int, path: str) -> None:
    assert problems_of(text) == [(line, path)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [\n", "line 2: not valid YAML"),
        ("a: 1\na: 2\n", "line 2: 'a' is written twice (first in line 1)"),
        ("a: &x [1]\nb: *x\n", "line 1: anchors (&x) are not read"),
        ("b: *x\n", "line 1: aliases (*x) are not read"),
        ("a: !!python/object:os.system x\n", "line 1: tags"),
        ("a: 1\n---\nb: 1\n", "line 2: the file holds a second document"),
        ("? [a]\n: 1\n", "line 1: a key must be a word"),
        ("a: " + "[" * 30 + "]" * 30, "line 1: nested deeper than 20"),
        ("a: " + "[" * 5000, "line 1: "),
        ("a: " + "9" * 5000, "line 1: a number with too many digits"),
        ("a: b\nc: \x07\n", "line 2: not valid YAML"),
        ("a: \ud800\n", "line 1: not valid YAML"),
        ("a: b\n\tc: d\n", "line 2: not valid YAML"),
    ],
)
def test_text_that_is_not_plain_yaml_is_refused(text: str, said: str) -> None:
    assert message_of(text).startswith(said)


def test_module_is_needed_once() -> None:
    needs = "[{module: cart, kind: contract}, {module: cart, kind: coupled}]"
    text = PLAN.replace("[{module: cart, kind: contract}]", needs)
    assert (
        message_of(text) == "line 23: modules[1].needs: cart is needed twice; keep one of the two"
    )


def test_no_two_modules_have_one_name() -> None:
    text = PLAN.replace("slug: till", "slug: cart")
    assert text != PLAN
    said = "modules: modules[0] and modules[1] are both named cart; rename one of the two"
    assert message_of(text).endswith(said)


def test_huge_file_is_refused_unread() -> None:
    assert "at most 1000000" in message_of("#" * 1_000_001)


def test_words_of_old_yaml_are_text() -> None:
    plan = planfile.load("version: 1\nproject: {name: on, goal: no}\n")
    assert (plan.project.name, plan.project.goal) == ("on", "no")
    assert problems_of("version: 1\non: 1\n") == [(2, "on")]


def test_unquoted_signature_says_what_to_do() -> None:
    text = "version: 1\nmodules:\n- slug: a\n  provides:\n  - m.f(a: int) -> int\n"
    assert "line 5: modules[0].provides[0]: must be text; put it in quotes" in message_of(text)


texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40
).filter(lambda text: all(c >= " " or c in "\n\t" for c in text))
lines = texts.map(lambda text: text.replace("\n", " "))
words = texts.filter(bool)
slugs = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,9}(/[a-z0-9][a-z0-9_-]{0,9})?", fullmatch=True)
modules = st.fixed_dictionaries(
    {"slug": slugs},
    optional={
        "title": lines,
        "brief": texts,
        "owns": st.lists(words, max_size=2),
        "tests": st.fixed_dictionaries(
            {}, optional={"paths": st.lists(words, max_size=2), "given": st.booleans()}
        ),
        "provides": st.lists(words | words.map(lambda t: f"text: {t}"), max_size=2),
        "needs": st.lists(
            st.fixed_dictionaries(
                {"module": slugs, "kind": st.sampled_from(["contract", "coupled"])}
            ),
            max_size=2,
            unique_by=lambda need: need["module"],
        ),
        "checks": st.lists(words, max_size=2),
        "priority": st.integers(-1000, 1000),
        "estimate_seconds": st.none() | st.floats(0.001, 1e6),
    },
)
plans = st.builds(
    lambda name, goal, ceiling, found: PlanFile.model_validate(
        {"project": {"name": name, "goal": goal, "ceiling": ceiling}, "modules": found}
    ),
    lines,
    texts,
    st.integers(1, 20),
    st.lists(modules, max_size=3, unique_by=lambda module: module["slug"]),
)


@given(plans)
def test_any_plan_comes_back_from_its_file(plan: PlanFile) -> None:
    assert planfile.load(planfile.dump(plan)) == plan


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        planfile.load(text)
    except PlanFileError as error:
        assert error.problems and all(problem.line >= 1 for problem in error.problems)


def test_digest_holds_plan_policies_and_commit() -> None:
    plan = planfile.load(PLAN)
    rules = planfile.Policies()
    first = planfile.digest(plan, policies=rules, source_commit="c1")
    assert len(first) == 64
    assert first == planfile.digest(plan, policies=rules.model_dump(), source_commit="c1")
    assert first != planfile.digest(plan, policies=rules, source_commit="c2")
    assert first != planfile.digest(plan, policies={"review": "person"}, source_commit="c1")
    changed = planfile.load(PLAN.replace("priority: 3", "priority: 4"))
    assert first != planfile.digest(changed, policies=rules, source_commit="c1")


def test_digest_ignores_the_order_of_modules() -> None:
    plan = planfile.load(PLAN)
    turned = plan.model_copy(update={"modules": plan.modules[::-1]})
    digests = {planfile.digest(p, policies={}, source_commit="c") for p in (plan, turned)}
    assert len(digests) == 1


def test_difference_names_module_and_field() -> None:
    old = planfile.load(PLAN)
    new = planfile.load(
        PLAN.replace("ceiling", "x").replace("priority: 3", "priority: 4")
        .replace("review: both", "review: person").replace("slug: cart", "slug: basket")
        .replace("module: cart", "module: basket")
    )  # fmt: skip
    found = {(change.module, change.field): (change.old, change.new)
             for change in planfile.difference(old, new)}  # fmt: skip
    assert found[None, "policies.review"] == ("both", "person")
    assert found["till", "priority"] == (3, 4)
    assert found["basket", "module"][0] is None and found["cart", "module"][1] is None
    assert ("till", "needs") in found and len(found) == 5


def test_difference_to_nothing_and_to_itself() -> None:
    plan = planfile.load(PLAN)
    assert planfile.difference(plan, plan) == []
    added = [c.module for c in planfile.difference(None, plan) if c.field == "module"]
    assert added == ["cart", "till"]


def test_specs_keep_what_planning_needs() -> None:
    child = planfile.load("version: 1\nmodules: [{slug: cart/ui, owns: [a]}]\n")
    assert planfile.module_specs(child)[0].parent == "cart"
    till = planfile.module_specs(planfile.load(PLAN))[1]
    assert till.tests_given and till.needs[0].kind == "contract" and till.lane == "money"


def test_published_schema_is_current() -> None:
    published = Path(__file__).parents[2] / "docs" / "tutti.schema.json"
    assert published.read_text(encoding="utf-8") == planfile.schema(), (
        "run: python -m projects.planfile > docs/tutti.schema.json"
    )
