from __future__ import annotations

import pytest

from agents import sandbox
from examples import prepare
from projects import planfile
from reviews.interface import check_imports, check_interface
from tests.examples.stage import Stage


@pytest.fixture(params=prepare.NAMES)
def stage(request, example, tmp_path) -> Stage:
    return Stage.open(example(request.param), tmp_path / "clone")


def test_the_plan_is_valid(stage):
    plan = planfile.load(stage.prepared.plan_file.read_text())
    assert [module.slug for module in plan.modules] == [m["slug"] for m in stage.library.modules]


def test_the_true_source_breaks_no_contract(stage):
    modules, tree = stage.library.modules, stage.prepared.upstream
    provided = [line for module in modules for line in module["provides"]]
    assert check_interface(provided, tree, sandbox.Runner()) == []

    promises = {module["slug"]: (module["owns"], module["provides"]) for module in modules}
    for module in modules:
        if module.get("needs"):
            others = {slug: told for slug, told in promises.items() if slug != module["slug"]}
            assert check_imports(module["owns"], others, tree, sandbox.Runner()) == []


@pytest.mark.parametrize(
    ("scene", "slug", "messages"),
    [
        ("not_done", "strutils", 1),
        ("merge_red", "strutils", 0),
        ("orchestrator_fixes", "queueutils", 0),
        ("rebuild", "timeutils", 0),
    ],
)
def test_what_the_gate_sees_of_a_scene(boltons, scene, slug, messages):
    boltons.scene(scene, f"{slug}.build.1")
    clauses = boltons.library.module(slug)["provides"]
    found = check_interface(clauses, boltons.clone, sandbox.Runner())
    assert len(found) == messages
    assert all("bytes2human" in remark.clause + remark.message for remark in found)
