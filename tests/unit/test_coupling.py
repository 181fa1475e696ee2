from __future__ import annotations

from itertools import pairwise

from projects.coupling import ImportEdge, Suggestion, Thresholds, is_hot_name, suggest
from projects.specs import ModuleSpec, Need


def spec(slug: str, *owns: str, **more) -> ModuleSpec:
    return ModuleSpec(slug, owns=owns or (f"pkg/{slug}.py",), tests=(f"tests/{slug}.py",), **more)


A, B, C = spec("a"), spec("b"), spec("c")


def edge(importer: str, imported: str, typing_only: bool = False) -> ImportEdge:
    return ImportEdge(importer, imported, typing_only, 7)


def kinds(found: list[Suggestion]) -> list[tuple[tuple[str, ...], str, str]]:
    return [(one.modules, one.reason, one.strength) for one in found]


def test_disjoint_modules_give_nothing() -> None:
    one_way = [edge("pkg/a.py", "pkg/b.py"), edge("tests/a.py", "pkg/c.py")]
    assert suggest([A, B, C], one_way, [frozenset({"pkg/a.py"})], tracked=["pkg/a.py"]) == []


def test_overlap_may_be_applied_and_names_the_file() -> None:
    found = suggest([A, spec("b", "pkg/*.py")], [], [], tracked=["pkg/a.py"])
    assert kinds(found) == [(("a", "b"), "overlap", "apply")]
    assert found[0].evidence == ("both own pkg/a.py",)


def test_part_may_own_what_its_parent_owns() -> None:
    parts = [spec("a", "pkg/**"), spec("a/x", "pkg/x.py", parent="a")]
    assert suggest(parts, [], [], tracked=["pkg/x.py"]) == []


def test_runtime_circle_may_be_applied() -> None:
    circle = [edge("pkg/a.py", "pkg/b.py"), edge("pkg/b.py", "pkg/a.py")]
    found = suggest([A, B], circle, [])
    assert kinds(found) == [(("a", "b"), "import_cycle", "apply")]
    assert found[0].evidence[0] == "pkg/a.py:7 imports pkg/b.py"


def test_circle_over_three_is_one_suggestion() -> None:
    names = ["a", "b", "c", "a"]
    circle = [edge(f"pkg/{x}.py", f"pkg/{y}.py") for x, y in pairwise(names)]
    assert kinds(suggest([A, B, C], circle, [])) == [(("a", "b", "c"), "import_cycle", "apply")]


def test_circle_that_only_tests_close_is_proposed() -> None:
    circle = [edge("tests/a.py", "pkg/b.py"), edge("pkg/b.py", "pkg/a.py")]
    assert kinds(suggest([A, B], circle, [])) == [(("a", "b"), "import_cycle", "propose")]


def test_circle_for_types_is_a_hint() -> None:
    circle = [edge("pkg/a.py", "pkg/b.py", True), ImportEdge("pkg/b.py", "pkg/a.py")]
    found = suggest([A, B], circle, [])
    assert kinds(found) == [(("a", "b"), "typing_cycle", "hint")]
    assert found[0].evidence == (
        "pkg/a.py:7 imports pkg/b.py for types",
        "pkg/b.py imports pkg/a.py",
    )


def test_cochange_needs_support_and_confidence() -> None:
    both, alone = frozenset({"pkg/a.py", "tests/b.py"}), frozenset({"pkg/a.py"})
    other = frozenset({"pkg/b.py"})
    assert suggest([A, B], [], [both] * 4) == []
    found = suggest([A, B], [], [both] * 5 + [alone] * 50)
    assert kinds(found) == [(("a", "b"), "cochange", "propose")]
    assert found[0].evidence == (
        "5 of 5 commits of the rarer one touched both",
        "pkg/a.py and tests/b.py changed together 5 times",
    )
    assert suggest([A, B], [], [both] * 5 + [alone] * 20 + [other] * 20) == []


def test_sweeping_commits_say_nothing() -> None:
    sweep = frozenset({"pkg/a.py", "pkg/b.py", *(f"x{n}" for n in range(29))})
    assert suggest([A, B], [], [sweep] * 9) == []
    assert suggest([A, B], [], [sweep] * 9, Thresholds(files_per_commit=31)) != []


def test_what_shares_a_lane_is_settled() -> None:
    coupled = spec("a", needs=(Need("b", "coupled"),))
    both = frozenset({"pkg/a.py", "pkg/b.py"})
    assert suggest([coupled, B], [], [both] * 9) == []


def test_hot_file_is_a_hint() -> None:
    log = spec("log", "CHANGELOG.md")
    commits = [frozenset({"CHANGELOG.md", f"pkg/{name}.py"}) for name in "abc"]
    found = suggest([A, B, C, log], [], commits)
    assert kinds(found) == [(("log",), "hot_file", "hint")]
    assert "3 other modules" in found[0].evidence[0]
    assert suggest([A, B, log], [], commits[:2]) == []


def test_names_of_hot_files() -> None:
    hot = ["CHANGELOG.md", "pkg/__init__.py", "uv.lock", "pyproject.toml", "docs/history.rst"]
    assert all(map(is_hot_name, hot)) and not is_hot_name("pkg/a.py")


def test_long_evidence_is_cut_and_bad_globs_are_left_out() -> None:
    tracked = [f"pkg/f{n:02}.py" for n in range(15)]
    found = suggest([spec("a", "pkg/", "[z-a]"), spec("b", "pkg/**")], [], [], tracked=tracked)
    assert len(found[0].evidence) == 11 and found[0].evidence[-1] == "and 5 more"


def test_strongest_comes_first() -> None:
    both = frozenset({"pkg/a.py", "pkg/b.py"})
    found = suggest([spec("a", "pkg/*.py"), B, C], [edge("pkg/c.py", "pkg/b.py")], [both] * 9,
                    tracked=["pkg/b.py"])  # fmt: skip
    assert [one.strength for one in found] == sorted(o.strength for o in found)
