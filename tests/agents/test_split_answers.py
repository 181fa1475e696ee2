"""What an agent's answer to split is held against: the plan around it, its depth, its lane."""

from __future__ import annotations

import pytest

from agents.services.answers import read_children
from projects.models import Module
from tests import factories

FILES = {"shop/cart.py": "", "shop/desk.py": "", "tests/test_shop.py": "", "bill.py": ""}


@pytest.fixture
def parent(db, tutti_home, tmp_path):
    project = factories.project("shop")
    factories.hub(project, factories.source_repository(tmp_path / "source", FILES))
    plan = factories.plan(project, policies={"split": {"depth": 1, "modules": 4}})
    factories.module(plan, "bill", contract={"owns": ["bill.py"]})
    return factories.module(plan, "shop", "building", contract={"owns": ["shop/"]})


def parts(**more):
    return {
        "modules": [
            {"slug": f"shop/{name}", "owns": [f"shop/{name}.py"], "checks": ["true"], **more}
            for name in ("cart", "desk")
        ]
    }


def problem_of(parent, asked):
    return read_children(Module.objects.get(pk=parent.pk), asked, parent.plan)[1]


def test_parts_inside_the_module_are_taken(parent):
    children, problem = read_children(parent, parts(), parent.plan)
    assert problem is None and [child["slug"] for child in children] == ["shop/cart", "shop/desk"]


def test_module_of_a_lane_does_not_split(parent):
    Module.objects.filter(pk=parent.pk).update(lane="money")
    assert "is in the lane money" in problem_of(parent, parts())


def test_need_outside_of_the_split_is_the_modules_own(parent):
    asked = parts(needs=[{"module": "bill", "kind": "contract"}])
    assert "bill is no part of this split" in problem_of(parent, asked)


def test_parts_that_own_the_same_files_are_named_with_them(parent):
    asked = parts()
    asked["modules"][1]["owns"] = ["shop/"]
    assert "both own shop/cart.py" in problem_of(parent, asked)
