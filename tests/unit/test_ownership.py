from __future__ import annotations

import time

import pytest

from projects.commits import Change
from reviews import ownership


def change(path, status="M", new_blob="b" * 40, old_mode="100644", new_mode="100644"):
    return Change(path, status, old_mode, new_mode, "a" * 40, new_blob)


OWNED, TESTS = ["src/**", "!src/shared.py", "README.md"], ["tests/test_a.py"]


def test_only_owned_and_test_paths_are_inside():
    changes = [change(p) for p in ("src/a/b.py", "src/shared.py", "tests/test_a.py", "x.py")]
    assert ownership.outside(changes, OWNED, TESTS) == ["src/shared.py", "x.py"]
    assert ownership.outside(changes, OWNED) == ["src/shared.py", "tests/test_a.py", "x.py"]


def test_a_planner_may_change_tests_only():
    changes = [change("tests/test_a.py"), change("src/a.py")]
    assert ownership.check_tests_only(changes, TESTS) == ["src/a.py"]
    assert ownership.touched(changes, TESTS) == ["tests/test_a.py"]


def test_a_deleted_path_counts_as_changed():
    assert ownership.outside([change("x.py", "D", None, new_mode=None)], OWNED) == ["x.py"]


def test_a_locked_test_may_change_neither_content_nor_kind():
    hashes = {"t.py": "b" * 40}
    assert ownership.locked([change("t.py")], hashes) == []
    assert ownership.locked([change("t.py", new_blob="c" * 40)], hashes) == ["t.py"]
    assert ownership.locked([change("t.py", "D", None, new_mode=None)], hashes) == ["t.py"]
    assert ownership.locked([change("t.py", "T", new_mode="120000")], hashes) == ["t.py"]
    assert ownership.locked([change("other.py", new_blob="c" * 40)], hashes) == []


def test_links_must_stay_in_the_owned_paths():
    links = {"src/a": "b.py", "src/c": "../secret", "src/d": "../../../src/x"}
    assert ownership.links_outside(links, OWNED) == ["src/c"]


def test_overlap_and_unmatched_name_files_and_globs():
    files = ["src/a.py", "src/b.py", "docs/x.md"]
    assert ownership.overlap(["src/**"], ["**/b.py", "docs/"], files) == ["src/b.py"]
    assert ownership.unmatched(["src/**", "lib/**", "!src/a.py"], files) == ["lib/**"]


@pytest.mark.parametrize(
    "glob",
    ["", "  ", "# note", "../x", "a/../../b", "~/x", ".git/config", "x/.GIT/**", "a" * 301,
     "*" * 13, "*a*a*a*a", "**/a/**/b/**/c/**", "src/[a", "a\0b", "a\nb", "C:\\x"],
)  # fmt: skip
def test_a_bad_glob_is_named_in_a_sentence(glob):
    with pytest.raises(ValueError, match=r"glob.*\."):
        ownership.compile_globs([glob])


def test_too_many_globs_are_refused():
    with pytest.raises(ValueError, match="at most 200"):
        ownership.compile_globs([f"f{n}" for n in range(201)])


@pytest.mark.parametrize("glob", ["*a*a*a", "**/*a*a*a", "**/*a*a/**/*a*a/*a*a"])
def test_the_slowest_legal_globs_are_quick(glob):
    spec = ownership.compile_globs([glob])
    began = time.process_time()
    spec.match_file("a" * 200 + "b")
    spec.match_file("aaaaa/" * 40 + "b")
    assert time.process_time() - began < 2
