"""The main job on real libraries, by command: what comes out is what upstream wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config import embedded
from examples.prepare import Prepared, prepare
from tests.faults.installation import Installation, replayed

pytestmark = pytest.mark.timeout(400)

HOME = Path(os.environ.get("TUTTI_EXAMPLES") or embedded.CHECKOUT / ".tutti")


@pytest.fixture(scope="module")
def tutti(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("whole") / "home")
    (made.home / "logs").mkdir(parents=True)
    made.env["TUTTI_SOURCE_ROOTS"] = str(HOME.resolve())
    made.env["TUTTI_RUN_THREADS"] = "12"
    made.open()
    yield made
    made.close()


def run(tutti: Installation, example: Prepared, slug: str, ceiling: int) -> dict[str, Any]:
    """Create, approve and run a project until its end; returns what --json wrote."""
    plan = tutti.home / f"{slug}.yaml"
    plan.write_text(replayed(example.plan_file.read_text(), scale=0.1))
    tutti.commands(
        ["project_create", slug, "--source", str(example.repo), "--owner", "owner",
         "--plan", str(plan),
         "--environment", str(example.environment)]
    )  # fmt: skip
    figures = tutti.home / f"{slug}.json"
    job = tutti.start(
        "project_run", slug, "--approve-as", "owner", "--wait", "--ceiling", str(ceiling),
        "--json", str(figures), log=slug,
    )  # fmt: skip
    tutti.finishes(slug, job, seconds=300)
    found: dict[str, Any] = json.loads(figures.read_text())
    return found


def owned_files(tutti: Installation, slug: str) -> list[str]:
    """Files on the integration branch that some module owns, parts of splits left out."""
    globs = tutti.rows(
        "SELECT c.owns FROM projects_contract c JOIN projects_module m ON m.contract_id = c.id "
        "JOIN projects_project p ON p.id = m.project_id WHERE p.slug = %s", slug
    )  # fmt: skip
    return sorted({path for (owns,) in globs for path in owns})


def assert_rebuilt(tutti: Installation, example: Prepared, slug: str, done: dict[str, Any]) -> None:
    """Every owned file is upstream's, and the checks at the end were green."""
    assert done["totals"]["merged"] == done["totals"]["modules"] > 0
    paths = owned_files(tutti, slug)
    assert paths
    for path in paths:
        assert tutti.show(slug, path) == (example.upstream / path).read_text(), path
    ends = [one for one in done["runs"] if one["kind"] == "finish"]
    assert [one["status"] for one in ends] == ["succeeded"]


def test_the_library_is_rebuilt_as_upstream_wrote_it(tutti):
    example = prepare("boltons", HOME)
    assert_rebuilt(tutti, example, "boltons", run(tutti, example, "boltons", 5))


def test_the_ceiling_changes_neither_the_tree_nor_the_tokens(tutti):
    example = prepare("itsdangerous", HOME)
    alone, together = (run(tutti, example, f"its-{n}", n) for n in (1, 5))
    assert_rebuilt(tutti, example, "its-5", together)
    trees = [
        tutti.git(f"its-{n}", "rev-parse", "refs/heads/tutti/integration^{tree}") for n in (1, 5)
    ]
    assert trees[0] == trees[1]
    assert alone["totals"]["tokens"] == together["totals"]["tokens"] > 0
