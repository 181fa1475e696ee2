from __future__ import annotations

import ast

import pytest

from examples import library, prepare
from examples.tree import git
from tests.examples.stage import Stage

WHOLE_SUITE = {"boltons": "423 passed", "itsdangerous": "297 passed", "marshmallow": "1118 passed"}


@pytest.fixture(params=prepare.NAMES)
def stage(request, example, tmp_path) -> Stage:
    return Stage.open(example(request.param), tmp_path / "clone")


def test_base_recordings_bring_the_library_back(stage):
    everything = [scene.name for scene in (stage.prepared.recordings / "scenes").glob("*")]
    for module in stage.library.modules:
        for kind in ("tests", "build"):
            for path in stage.turns(module["slug"], kind, everything):
                stage.play(path)

    owned = [*stage.library.owned, *stage.library.all_tests]
    assert [path for path in owned if not stage.same(path)] == []
    whole = next(c["run"] for c in stage.library.plan["project"]["checks"] if c["at"] == "end")
    assert WHOLE_SUITE[stage.library.name] in stage.run(whole).stdout


def test_project_checks_at_a_merge_are_green_on_the_base(stage):
    for check in stage.library.plan["project"]["checks"]:
        if check["at"] == "merge":
            done = stage.run(check["run"])
            assert done.returncode == 0, done.stdout


def test_tests_of_every_module_are_red_without_code(stage):
    for path in stage.library.all_tests:
        stage.take(path)
    whole = next(c["run"] for c in stage.library.plan["project"]["checks"] if c["at"] == "end")
    failing = stage.failing_files(whole)

    for module in stage.library.modules:
        for check in module["checks"]:
            files = [path for path in library.tests(module) if path in check]
            assert failing & set(files), f"{check} is green before any code"


def test_paths_of_the_plan_exist_and_belong_to_one_module(stage):
    owned = stage.library.owned
    assert len(owned) == len(set(owned))
    assert all((stage.clone / path).is_file() for path in owned)
    for module in stage.library.modules:
        for path in library.tests(module):
            assert (stage.prepared.upstream / path).is_file()
            assert (stage.clone / path).exists() == library.is_given(module)


def test_interfaces_are_those_of_the_true_source(stage):
    root = stage.library.source.import_root
    for module in stage.library.modules:
        for line in module["provides"]:
            dotted, _, signature = line.partition("(")
            true = _find(stage.prepared.upstream / root, dotted)
            stub = _find(stage.clone / root, dotted)
            assert true is not None and stub is not None, f"{line} does not exist"
            if signature:
                declared = ast.parse(f"def f({signature}: pass").body[0]
                assert _arguments(true) == _arguments(declared) == _arguments(stub), line


def test_a_dependency_names_a_module(stage):
    slugs = {module["slug"] for module in stage.library.modules}
    needs = [need for module in stage.library.modules for need in module.get("needs", [])]
    assert {need["module"] for need in needs} <= slugs
    assert {need["kind"] for need in needs} <= {"contract", "implementation", "coupled"}


def test_preparing_again_changes_nothing(stage):
    head = git(stage.prepared.repo, "rev-parse", "HEAD")
    stamp = (stage.prepared.path / "prepared.json").stat().st_mtime_ns
    again = prepare.prepare(stage.library.name, stage.prepared.path.parents[1])
    assert again == stage.prepared
    assert (again.path / "prepared.json").stat().st_mtime_ns == stamp
    assert git(again.repo, "rev-parse", "HEAD") == head


def _find(root, dotted):
    parts = dotted.split(".")
    file = next(
        root.joinpath(*parts[:n]).with_suffix(".py")
        for n in range(len(parts), 0, -1)
        if root.joinpath(*parts[:n]).with_suffix(".py").is_file()
    )
    names = parts[len(file.relative_to(root).parts) :]
    node = ast.parse(file.read_text())
    for name in names:
        node = next((n for n in _statements(node) if name in _names(n)), None)
        if node is None:
            return None
    return node


def _statements(node):
    for statement in node.body:
        yield statement
        # Names that only a type checker sees stand under a condition.
        if isinstance(statement, ast.If):
            yield from _statements(statement)


def _names(node):
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign):
        return [node.target.id]
    return [getattr(node, "name", None)]


def _arguments(node):
    for part in ast.walk(node.args):
        if isinstance(part, ast.arg):
            part.annotation = None
    return ast.unparse(node.args)
