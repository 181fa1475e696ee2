from __future__ import annotations

import time
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects import globs, graph, provides
from projects.graph import ModuleSpec, Need

TRACKED = [
    "pkg/__init__.py",
    "pkg/a.py",
    "pkg/b.py",
    "pkg/sub/c.py",
    "tests/test_a.py",
    "tests/test_b.py",
    "README.md",
]


def spec(slug: str, *owns: str, **more) -> ModuleSpec:
    needs = tuple(Need(*need.split(":")) for need in more.pop("needs", "").split())
    return ModuleSpec(
        slug, owns=owns or (f"new/{slug}.py",), checks=("pytest",), needs=needs,
        provides=(f"new.{slug.replace('/', '_')}",), **more,
    )  # fmt: skip


def said(*specs: ModuleSpec, tracked=TRACKED, checks=()) -> list[tuple[str | None, str]]:
    return [(p.module, p.field) for p in graph.validate(specs, tracked, checks)]


def message(*specs: ModuleSpec, tracked=TRACKED) -> str:
    problems = graph.validate(specs, tracked, ())
    assert len(problems) == 1, problems
    return str(problems[0])


# What is refused.


def test_good_plan_has_no_problems() -> None:
    a = spec("a", "pkg/a.py", tests=("tests/test_a.py",))
    b = spec("b", "pkg/b.py", tests=("tests/test_new_*.py",), needs="a:contract")
    assert said(a, b, checks=["pytest"]) == []


def test_empty_plan_and_empty_commands() -> None:
    assert said(checks=[" "]) == [(None, "modules"), (None, "checks")]
    blank = replace(spec("a"), checks=("pytest", " "))
    assert said(blank) == [("a", "checks")]


def test_module_must_have_checks_and_paths() -> None:
    assert said(ModuleSpec("a")) == [("a", "checks"), ("a", "owns")]


def test_unknown_module_self_need_and_unknown_kind() -> None:
    assert said(spec("a", needs="ghost:contract")) == [("a", "needs")]
    assert said(spec("a", needs="a:contract")) == [("a", "needs")]
    assert said(spec("a"), spec("b", needs="a:maybe")) == [("b", "needs")]
    assert said(spec("a", parent="ghost")) == [("a", "parent")]


def test_slugs() -> None:
    assert (("a", "slug")) in said(spec("a"), spec("a"))
    assert ("A!", "slug") in said(replace(spec("a"), slug="A!"))


def test_bad_provides() -> None:
    assert ("a", "provides") in said(replace(spec("a", "pkg/a.py"), provides=("f(",)))


@pytest.mark.parametrize("kind", ["contract", "implementation"])
def test_circle_is_named_and_a_lane_offered(kind: str) -> None:
    first = spec("a", needs=f"b:{kind}")
    specs = [first, spec("b", needs="c:contract"), spec("c", needs="a:contract")]
    found = graph.validate(specs, [], ())
    assert len(found) == 1
    assert "a → b → c → a" in found[0].message and "lane" in found[0].message
    assert set(found[0].offer) == {"a", "b", "c"}


def test_coupling_is_no_circle() -> None:
    assert said(spec("a", needs="b:coupled"), spec("b", needs="a:coupled")) == []


def test_lanes_that_would_wait_for_each_other_are_refused() -> None:
    specs = [
        spec("a", lane="one", needs="c:contract"),
        spec("b", lane="one"),
        spec("c", lane="two"),
        spec("d", lane="two", needs="b:contract"),
    ]
    found = graph.validate(specs, [], ())
    assert [p.field for p in found] == ["lane"]
    assert "one" in found[0].message and set(found[0].offer) == {"a", "b", "c", "d"}
    holders_first = [replace(one, priority=one.slug in "ad") for one in specs]
    with pytest.raises(ValueError, match="never ends"):
        graph.simulate(holders_first, None, 2)
    together = [replace(one, lane="one") for one in specs]
    assert said(*together) == []


def test_overlap_names_the_files_that_both_own() -> None:
    problem = graph.validate([spec("a", "pkg/**"), spec("b", "pkg/b.py")], TRACKED, ())[0]
    assert (problem.module, problem.field) == ("b", "owns")
    assert problem.files == ("pkg/b.py",) and "pkg/b.py" in problem.message
    assert problem.offer == ("a", "b")


@pytest.mark.parametrize("how", ["b:coupled", "b:implementation", "c:implementation"])
def test_overlap_is_fine_when_they_cannot_run_together(how: str) -> None:
    specs = [spec("a", "pkg/**", needs=how), spec("b", "pkg/b.py"),
             spec("c", "README.md", needs="b:contract")]  # fmt: skip
    assert said(*specs) == []


def test_overlap_in_files_to_come() -> None:
    tracked = ["pkg/x/one.py"]
    later = spec("b", "pkg/x/*.py", "!pkg/x/one.py")
    assert said(spec("a", "pkg/**"), later, tracked=tracked) == [("b", "owns")]
    same = replace(spec("a", "pkg/new.py"), provides=("pkg.new",))
    assert said(same, replace(same, slug="b"), tracked=tracked) == [("b", "owns")]
    apart = [spec("a", "pkg/**", "!pkg/x/**"), spec("b", "pkg/x/*.py")]
    assert said(*apart, tracked=["pkg/y.py", "pkg/x/one.py"]) == []


def test_owning_another_ones_tests() -> None:
    a, b = spec("a", "tests/**"), spec("b", "pkg/b.py", tests=("tests/test_b.py",))
    assert said(a, b) == [("a", "owns")]
    to_come = spec("b", "pkg/b.py", tests=("tests/new/test_b.py",))
    assert said(a, to_come) == [("a", "owns")]


def test_own_tests_inside_own_paths_are_fine() -> None:
    assert said(spec("a", "pkg/**", tests=("pkg/sub/*.py",))) == []


def test_two_modules_writing_the_same_tests() -> None:
    a = spec("a", "pkg/a.py", tests=("tests/*.py",))
    b = spec("b", "pkg/b.py", tests=("tests/test_b.py",))
    assert said(a, b) == [("b", "tests")]
    assert said(replace(a, tests_given=True), replace(b, tests_given=True)) == []
    assert said(a, replace(b, needs=(Need("a", "implementation"),))) == []


def test_glob_that_matches_nothing() -> None:
    assert "matches no tracked file" in message(spec("a", "src/*.py"))
    assert "provides" in message(replace(spec("a", "pkg/new.py"), provides=()))
    assert said(replace(spec("a", "pkg/new.py"), provides=("pkg.new.f(x)",))) == []
    assert said(replace(spec("a", "web/app.js"), provides=("text: web/app.js is the app",))) == []
    assert said(replace(spec("a", "pkg/new.py"), provides=("not a path!",))) != []


def test_given_tests_must_exist() -> None:
    missing = spec("a", "pkg/a.py", tests=("tests/nope.py",), tests_given=True)
    assert said(missing) == [("a", "tests")]
    assert said(replace(missing, tests=("tests/test_a.py",))) == []


@pytest.mark.parametrize(
    ("glob", "why"),
    [
        ("/etc/passwd", "outside"), ("~/x", "outside"), ("C:\\x", "outside"),
        ("../x", "outside"), ("pkg/../../x", "outside"), ("pkg/.git/config", ".git"),
        (".GIT/hooks/**", ".git"), ("./pkg/a.py", "'.' segment"), ("[abc", "not a valid glob"),
        ("[z-a]", "not a valid glob"), ("pkg\\", "not a valid glob"), ("", "empty"),
        ("#x", "comment"), (" pkg/a.py", "spaces"), ("x" * 301, "300"), ("*" * 13, "stars"),
        ("a\x00b", "control"), ("!", "empty"),
    ],
)  # fmt: skip
def test_bad_globs(glob: str, why: str) -> None:
    found = graph.validate([spec("a", "pkg/a.py", glob)], TRACKED, ())
    assert [(p.module, p.field) for p in found] == [("a", "owns")] and why in found[0].message


def test_leading_slash_anchors_at_the_root() -> None:
    assert said(spec("a", "/README.md")) == []


def test_problems_are_capped() -> None:
    specs = [spec(f"m{n}", "**") for n in range(100)]
    assert len(graph.validate(specs, TRACKED, ())) == 200


def test_thousand_modules_are_judged_in_two_seconds() -> None:
    tracked = [f"pkg/m{n}.py" for n in range(1000)] + [f"docs/{n}.md" for n in range(9000)]
    specs = [
        spec(f"m{n}", f"pkg/m{n}.py", tests=(f"tests/m{n}/*.py",),
             needs=" ".join(f"m{k}:contract" for k in {n // 2, n // 3} if k != n))
        for n in range(1000)
    ]  # fmt: skip
    began = time.process_time()
    assert said(*specs, tracked=tracked) == []
    assert time.process_time() - began < 2


@given(
    st.sampled_from(
        [
            "a/",
            "a/**",
            "a/*.py",
            "b.py",
            "/b.py",
            "**",
            "*",
            "/a/",
            "a/b.py",
            "c/",
            "*.py",
            "**/d.py",
            "a/c",
            "a//b",
            "a/**/d.py",
            "?.py",
            "[ab].py",
        ]
    )
)
def test_index_finds_what_pathspec_finds(glob: str) -> None:  # fmt: skip
    files = globs.Files(["a/b.py", "a/c/d.py", "b.py", "README.md", "x/a/b.py", "x/c/q"])
    slow = tuple(path for path in files.paths if globs.matches((glob,), path))
    assert files.matched((glob,)) == slow
    kept = tuple(path for path in slow if path != "a/b.py")
    assert files.matched((glob, "!a/b.py")) == kept


def test_provides_are_read() -> None:
    assert provides.parse("text: any words").is_text
    assert provides.parse("async pkg.a.f(x, *, y=1) -> int").word == "async"
    for bad in ("f(", "f)", "f(x): pass; import os; x=(", "a b", "f -> int", "x" * 3000):
        with pytest.raises(provides.ProvideError):
            provides.parse(bad)
    assert provides.file_of("pkg.a.f", ["src/pkg/a.py"]) == ("src/pkg/a.py", "f")
    assert provides.file_of("pkg.a.f", {"pkg/b.py"}) is None


# Order.


def test_lanes_join_coupled_modules_and_named_ones() -> None:
    specs = [spec("a", needs="b:coupled"), spec("b"), spec("c", lane="x"), spec("d"),
             spec("e", lane="x", needs="f:coupled"), spec("f")]  # fmt: skip
    assert graph.lanes(specs) == {
        "a": "coupled:a", "b": "coupled:a", "c": "x", "e": "x", "f": "x",
    }  # fmt: skip
    first, second = graph.lane_list(specs)
    assert first.reasons == ("a and b are declared coupled",)
    assert second.reasons == ("e and f are declared coupled", "c, e name the lane 'x'")


def test_counters_by_kind() -> None:
    specs = [spec("a"), spec("b"), spec("c", needs="a:implementation b:contract"),
             spec("d", needs="a:contract a:implementation")]  # fmt: skip
    found = graph.counters(specs)
    assert found["c"] == graph.Counters(frozenset({"a"}), frozenset({"b"}))
    assert found["d"] == graph.Counters(frozenset({"a"}), frozenset())


def test_contract_inside_a_lane_counts_as_implementation() -> None:
    specs = [spec("a", lane="x"), spec("b", lane="x", needs="a:contract")]
    assert graph.counters(specs)["b"].needs_to_start == {"a"}


def test_need_of_the_own_lane_through_others_counts_too() -> None:
    specs = [spec("a", lane="x", needs="m:contract"), spec("b", lane="x"),
             spec("m", needs="b:implementation")]  # fmt: skip
    assert said(*specs) == []
    assert graph.counters(specs)["a"] == graph.Counters(frozenset({"b"}), frozenset({"m"}))
    assert graph.simulate(specs, dict.fromkeys("abm", 1.0), 5) == 2.0


def test_may_run_together() -> None:
    specs = [spec("a"), spec("b", needs="a:contract"), spec("c", needs="b:implementation"),
             spec("d", needs="e:coupled"), spec("e"), spec("a/part")]  # fmt: skip
    assert graph.may_run_together(specs, "a", "b")
    assert not graph.may_run_together(specs, "c", "a")
    assert not graph.may_run_together(specs, "d", "e")
    assert not graph.may_run_together(specs, "a", "a/part")
    assert not graph.may_run_together(specs, "a", "a")


def test_path_lengths_count_the_rest_of_the_lane() -> None:
    specs = [spec("a"), spec("b", needs="a:implementation"), spec("c", needs="a:contract"),
             spec("d", needs="c:implementation"), spec("x", lane="l"), spec("y", lane="l"),
             spec("z", lane="l", needs="x:contract")]  # fmt: skip
    seconds = {"a": 1, "b": 10, "c": 100, "d": 1000, "x": 1, "y": 10, "z": 100}
    found = graph.path_lengths(specs, seconds)
    assert found["a"] == 1001  # c works meanwhile; d follows it
    assert found["x"] == 111 and found["y"] == 111 and found["z"] == 110


def test_layers_and_critical_path() -> None:
    specs = [spec("a"), spec("b", needs="a:contract"), spec("c", needs="b:implementation"),
             spec("d")]  # fmt: skip
    assert graph.layers(specs) == [["a", "b", "d"], ["c"]]
    seconds = {"a": 5.0, "b": 1.0, "c": 1.0, "d": 2.0}
    assert graph.critical_path(specs, seconds) == (["a", "b", "c"], 6.0)
    assert graph.critical_path([]) == ([], 0.0) and graph.layers([]) == []


def test_seconds_fall_back_to_the_median() -> None:
    specs = [spec("a", estimate_seconds=10), spec("b", estimate_seconds=30), spec("c")]
    assert graph.seconds_of(specs) == {"a": 10, "b": 30, "c": 20}
    assert graph.seconds_of(specs, {"a": 50})["a"] == 50
    assert graph.seconds_of([spec("a")]) == {"a": 60}


def test_people_come_first_in_simulation() -> None:
    specs = [spec("a"), spec("b", priority=1), spec("c", needs="b:implementation")]
    assert graph.simulate(specs, {"a": 10, "b": 1, "c": 10}, 1) == 21
    assert graph.simulate(specs, {"a": 10, "b": 1, "c": 10}, 2) == 11


def test_report_says_why() -> None:
    specs = [spec("a", estimate_seconds=90), spec("b", needs="a:implementation"),
             spec("c", needs="d:coupled"), spec("d")]  # fmt: skip
    report = graph.why_not_more_parallel(specs, 2)
    assert report.critical_path == ("a", "b") and report.critical_seconds == 180
    assert list(report.wall_clock) == list(range(1, 21)) and report.wall_clock[1] == 360
    assert report.sentences[0] == "3 of 4 modules can start at once."
    text = " ".join(report.sentences)
    assert "a → b takes 3 min" in text and "c and d are declared coupled" in text
    assert "More than 2 at once would not make it faster." in text
    wide = graph.why_not_more_parallel([spec(n) for n in "abc"], 1)
    assert "3 at once would take about 60 s" in wide.sentences[-1]
    assert graph.why_not_more_parallel([]).sentences == ("The plan has no modules yet.",)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.234, "1.23 s"), (45, "45 s"), (600, "10 min"), (7200, "2 h"), (11100, "3 h 5 min")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert graph.say_seconds(seconds) == text


def test_circle_does_not_hang_the_figures() -> None:
    specs = [spec("a", needs="b:implementation"), spec("b", needs="a:implementation")]
    assert graph.critical_path(specs)[1] > 0
    assert graph.path_lengths(specs) and graph.layers(specs)
    with pytest.raises(ValueError, match="never ends"):
        graph.simulate(specs, None, 3)


kinds = st.sampled_from(["contract", "implementation"])


@st.composite
def dags(draw):
    count = draw(st.integers(1, 9))
    lanes = draw(st.lists(st.sampled_from(["", "", "x", "y"]), min_size=count, max_size=count))
    specs = []
    for n in range(count):
        needed = draw(st.sets(st.integers(0, n - 1), max_size=3)) if n else set()
        needs = tuple(Need(f"m{k}", draw(kinds)) for k in sorted(needed))
        specs.append(replace(spec(f"m{n}", lane=lanes[n]), needs=needs))
    return specs, {s.slug: float(draw(st.integers(1, 20))) for s in specs}


@given(dags(), st.integers(1, 6))
def test_no_simulation_beats_the_bounds(plan, ceiling: int) -> None:
    specs, seconds = plan
    if graph.validate(specs, [], ()):
        return
    order = graph.Order(specs)
    wall = graph.simulate(specs, seconds, ceiling)
    work = sum(seconds.values())
    longest_lane = max(
        (sum(seconds[s] for s in order.names(bits)) for bits in order.lane_bits.values()), default=0
    )
    critical = graph.critical_path(specs, seconds)[1]
    assert wall >= max(work / ceiling, critical, longest_lane) - 1e-9
    assert wall <= work + 1e-9
    assert graph.simulate(specs, seconds, 1) == pytest.approx(work)
    assert max(graph.path_lengths(specs, seconds).values()) <= work + 1e-9


@given(dags())
def test_plan_without_lanes_meets_the_list_scheduling_guarantee(plan) -> None:
    specs, seconds = plan
    specs = [replace(s, lane="") for s in specs]
    work, critical = sum(seconds.values()), graph.critical_path(specs, seconds)[1]
    for ceiling in (1, 2, 3, 20):
        wall = graph.simulate(specs, seconds, ceiling)
        assert wall <= work / ceiling + critical + 1e-9


@given(dags())
def test_valid_plans_always_end(plan) -> None:
    specs, seconds = plan
    if not graph.validate(specs, [], ()):
        for ceiling in (1, 2, 5):
            graph.simulate(specs, seconds, ceiling)
            turned = [replace(s, priority=-n) for n, s in enumerate(specs[::-1])][::-1]
            graph.simulate(turned, seconds, ceiling)


# Splits.


@dataclass
class Policy:
    depth: int = 1
    modules: int = 4


PARENT = spec("p", "pkg/**", tests=("tests/test_*.py",))


def part(name: str, *owns: str, **more) -> ModuleSpec:
    return spec(f"p/{name}", *owns, **more)


def split(*children: ModuleSpec, policy=None, depth: int = 1, **more) -> graph.SplitVerdict:
    return graph.check_split(
        PARENT, children, policy or Policy(), depth, tracked=TRACKED, others=[PARENT, spec("q")],
        **more,
    )  # fmt: skip


def test_split_within_policy_goes_on() -> None:
    verdict = split(
        part("a", "pkg/a.py", tests=("tests/test_a.py",)),
        part("b", "pkg/b.py", "pkg/new/*.py", needs="p/a:contract q:implementation"),
    )
    assert verdict == graph.SplitVerdict((), None)


def test_split_beyond_policy_waits_for_a_person() -> None:
    parts = [part("a", "pkg/a.py"), part("b", "pkg/b.py")]
    assert "2 deep" in (split(*parts, depth=2).needs_person or "")
    assert "2 modules" in (split(*parts, policy=Policy(modules=1)).needs_person or "")
    assert split(*parts, policy={"depth": 1, "modules": 2}).needs_person is None
    assert "allows 0" in (split(*parts, policy={"depth": 1}).needs_person or "")


@pytest.mark.parametrize(
    ("children", "field"),
    [
        ([part("a", "pkg/a.py")], "modules"),
        ([part("a", "pkg/a.py"), part("b", "README.md")], "owns"),
        ([part("a", "pkg/a.py"), part("b", "pkg/a.py")], "owns"),
        ([part("a", "pkg/a.py"), part("a", "pkg/b.py")], "slug"),
        ([part("a", "pkg/a.py"), spec("b", "pkg/b.py")], "slug"),
        ([part("a", "pkg/a.py"), part("b", "pkg/b.py", tests=("docs/x.py",))], "tests"),
        ([part("a", "pkg/a.py"), part("b", "pkg/b.py", needs="p:contract")], "needs"),
        ([part("a", "pkg/a.py"), part("b", "pkg/b.py", needs="ghost:contract")], "needs"),
    ],
)
def test_bad_splits(children: list[ModuleSpec], field: str) -> None:
    assert field in {problem.field for problem in split(*children).problems}


def test_split_inside_a_lane_is_refused() -> None:
    parts = [part("a", "pkg/a.py"), part("b", "pkg/b.py")]
    assert [p.field for p in split(*parts, lane="x").problems] == ["lane"]
