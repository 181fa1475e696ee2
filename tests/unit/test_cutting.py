"""A plan from packages and imports alone, and the outline that a model gets."""

from __future__ import annotations

import json

import pytest

from agents import testsetup
from agents.codebase import Codebase, is_code, is_test
from agents.cutting import cut
from agents.outline import LONGEST, outline
from projects import graph, planfile
from projects.coupling import ImportEdge

PYTEST = {"pyproject.toml": "[tool.pytest.ini_options]"}


def codebase(sizes, *imports, together=(), setup=PYTEST):
    """`imports` are "a.py b.py", with "typing" as a third word where it is for types alone."""
    edges = [one.split() for one in imports]
    return Codebase(
        sizes if isinstance(sizes, dict) else {path: _size(path) for path in sizes},
        tuple(ImportEdge(edge[0], edge[1], len(edge) > 2) for edge in edges),
        tuple(frozenset(one.split()) for one in together),
        setup,
    )


def _size(path):
    return 200 if path.endswith("__init__.py") else 5_000


def problems(code, plan):
    checks = [check.run for check in plan.project.checks]
    return graph.validate(planfile.module_specs(plan), code.sizes, checks)


def modules(code, **options):
    plan = cut(code, **options)
    assert problems(code, plan) == []
    return {module.slug: module for module in plan.modules}


def needs(module):
    return {need.module: need.kind for need in module.needs}


def test_each_file_of_a_small_package_is_a_module_with_its_tests_and_a_check():
    code = codebase(
        ["pkg/__init__.py", "pkg/a.py", "pkg/b.py", "tests/__init__.py", "tests/test_a.py",
         "tests/test_a_more.py", "tests/conftest.py", "README.md", "docs/conf.py"],
        "pkg/a.py pkg/b.py", "tests/test_a.py pkg/a.py",
    )  # fmt: skip
    found = modules(code)
    assert list(found) == ["a", "b"]
    a, b = found["a"], found["b"]
    assert (a.owns, b.owns) == (["pkg/a.py"], ["pkg/b.py"])
    assert a.tests.paths == ["tests/test_a.py", "tests/test_a_more.py"]
    assert b.tests.paths == ["tests/test_b.py"], "where its tests would be"
    assert needs(a) == {"b": "contract"}
    assert a.checks == [
        "python -m pytest -q -p no:cacheprovider tests/test_a.py tests/test_a_more.py"
    ]
    assert a.provides == ["pkg.a"]
    checks = [(check.run, check.at) for check in cut(code).project.checks]
    assert checks == [
        ('python -c "import pkg"', "merge"),
        ("python -m pytest -q -p no:cacheprovider tests", "end"),
    ]


def test_what_imports_each_other_in_a_circle_shares_a_lane():
    code = codebase(
        ["a.py", "b.py", "c.py", "d.py"], "a.py b.py", "b.py c.py", "c.py a.py", "d.py a.py"
    )
    found = modules(code)
    assert {slug: needs(module) for slug, module in found.items()} == {
        "a": {"b": "coupled"},
        "b": {"c": "coupled"},
        "c": {"a": "coupled"},
        "d": {"a": "contract"},
    }
    assert graph.lanes(planfile.module_specs(cut(code))).keys() == {"a", "b", "c"}


def test_types_alone_are_no_need_and_a_test_that_reaches_back_closes_no_circle():
    code = codebase(
        ["a.py", "b.py", "c.py", "test_b.py", "test_c.py"],
        "a.py b.py", "b.py a.py typing", "test_b.py b.py", "test_b.py a.py", "test_c.py c.py",
        "test_c.py a.py",
    )  # fmt: skip
    found = modules(code)
    assert needs(found["a"]) == {"b": "contract"}
    assert needs(found["b"]) == {}
    assert needs(found["c"]) == {"a": "contract"}, "its checks need it"


def test_what_always_changed_together_waits_for_the_merged_code():
    code = codebase(["a.py", "b.py"], "a.py b.py", together=["a.py b.py"] * 6)
    assert needs(modules(code)["a"]) == {"b": "implementation"}


def test_folders_stay_whole_unless_one_is_most_of_it():
    code = codebase(
        {"app/big/one.py": 30_000, "app/big/two.py": 30_000, "app/small/a.py": 4_000,
         "app/small/b.py": 4_000, "app/small/tests/test_a.py": 100, "web/page.ts": 9_000,
         "web/page.test.ts": 500, "web/[id].ts": 400},
        setup={**PYTEST, "package.json": json.dumps({"scripts": {"test": "vitest"}})},
    )  # fmt: skip
    found = modules(code)
    assert found["small"].owns == ["app/small/**"], "its own tests lie in it"
    assert {"one", "two"} <= set(found)
    assert found["one"].tests.paths == ["tests/test_one.py"], "not in what another owns"
    assert any("page.ts" in glob or glob == "web/**" for glob in found["web"].owns)


def test_many_files_become_few_modules_without_new_circles():
    names = [f"pkg/m{n:03}.py" for n in range(60)]
    chain = [f"{a} {b}" for a, b in zip(names[1:], names, strict=False)]
    code = codebase(names, *chain)
    found = modules(code, most=7)
    assert len(found) == 7
    assert sum(len(module.owns) for module in found.values()) == 60
    assert not graph.lanes(planfile.module_specs(cut(code, 7)))
    thousands = codebase([f"pkg/d{n % 50}/m{n:04}.py" for n in range(5_000)])
    assert len(modules(thousands)) <= 12


def test_tiny_files_join_what_imports_them():
    code = codebase({"a.py": 9_000, "types.py": 300, "lonely.py": 200}, "a.py types.py")
    found = modules(code)
    assert found["a"].owns == ["a.py", "types.py"]
    assert found["lonely"].owns == ["lonely.py"]


@pytest.mark.parametrize("sizes, setup, check", [
    (["m.py", "tests/test_m.py"], {}, "python -m unittest -q tests.test_m"),
    (["src/p/__init__.py", "src/p/m.py"], PYTEST,
     "python -m pytest -q -p no:cacheprovider -o pythonpath=src tests/test_m.py"),
    (["cmd/main.go"], {"go.mod": "module x"}, "go test ./cmd/..."),
    (["src/lib.rs"], {"Cargo.toml": ""}, "cargo test"),
    (["lib/a.ts"], {"package.json": json.dumps({"scripts": {"test": "vitest"}})},
     "npm test --silent"),
])  # fmt: skip
def test_checks_are_guessed_from_the_set_up(sizes, setup, check):
    code = codebase([*sizes, *setup], setup=setup)
    assert [module.checks for module in modules(code).values()] == [[check]]


def test_what_can_not_be_guessed_is_left_to_people():
    code = codebase(["a.rb"], setup={})
    plan = cut(code)
    assert [problem.field for problem in problems(code, plan)] == ["checks"]
    assert testsetup.checks([], ["a.js"], codebase(["a.js"], setup={"package.json": "["})) == []


def test_without_code_there_is_no_plan():
    assert cut(codebase(["README.md", "docs/conf.py", "setup.py"])).modules == []
    assert cut(codebase([])) == planfile.PlanFile()


@pytest.mark.parametrize("path, code, test", [
    ("pkg/a.py", True, False),
    ("tests/base.py", False, True),
    ("pkg/test_a.py", False, True),
    ("web/a.spec.tsx", False, True),
    ("docs/conf.py", False, False),
    (".github/a.py", False, False),
    ("data.json", False, False),
])  # fmt: skip
def test_files_are_known_by_their_names(path, code, test):
    assert (is_code(path), is_test(path)) == (code, test)


def test_the_outline_tells_sizes_imports_circles_history_and_tests():
    code = codebase(
        {"pkg/a.py": 12_000, "pkg/b.py": 4_000, "tests/test_a.py": 900, "pyproject.toml": 90},
        "pkg/a.py pkg/b.py", "pkg/b.py pkg/a.py", "tests/test_a.py pkg/a.py",
        together=["pkg/a.py pkg/b.py"] * 3,
    )  # fmt: skip
    text = outline(code)
    assert "pkg/ 2 files, 16 kB" in text
    assert "pkg/a.py 12 kB; imports pkg/b.py; imported by 1; tested by tests/test_a.py" in text
    assert "## Circles of imports\npkg/a.py, pkg/b.py" in text
    assert "pkg/a.py and pkg/b.py: 3 commits" in text
    assert "python -m pytest -q -p no:cacheprovider tests (at: end)" in text
    assert "a: owns pkg/a.py; needs b (coupled)" in text


def test_the_outline_of_a_huge_repository_stays_short():
    names = [f"pkg/d{n % 70}/{'long' * 10}{n:05}.py" for n in range(4_000)]
    text = outline(codebase(names, *(f"{a} {names[0]}" for a in names[1:])))
    assert len(text) < LONGEST + 100
    assert "more" in text


def test_no_module_names_more_than_a_plan_takes():
    names = [f"pkg/m{n:05}.py" for n in range(1_400)]
    tests = {f"tests/test_t{n}.py pkg/m00000.py" for n in range(300)}
    paths = dict.fromkeys([*names, *(edge.split()[0] for edge in tests)], 100)
    found = cut(codebase(paths, *sorted(tests)), 2).modules
    assert {len(module.owns) for module in found} == {500}
    assert max(len(module.tests.paths) for module in found) == 200
    assert all("see to the others" in module.brief for module in found)


def test_tests_of_others_below_a_folder_are_not_owned():
    code = codebase(
        {"app/x/a.py": 9_000, "app/x/b.py": 9_000, "app/x/tests/test_zebra.py": 100,
         "app/x/__init__.py": 10, "app/y/c.py": 9_000, "app/y/d.py": 9_000, "lib/e.py": 9_000},
    )  # fmt: skip
    found = modules(code)
    by_glob = {glob for module in found.values() for glob in module.owns}
    assert {"app/x/**", "!app/x/tests/**", "app/y/**"} <= by_glob
