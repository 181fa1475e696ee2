from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from examples import prepare
from examples.prepare import Prepared
from tests.examples.stage import Stage

CHECKOUT = Path(prepare.__file__).parents[1]


@pytest.fixture(scope="session")
def example(tmp_path_factory) -> Callable[[str], Prepared]:
    home = tmp_path_factory.mktemp("home")
    os.environ.setdefault("TUTTI_CACHE", str(CHECKOUT / ".tutti" / "cache"))
    return lambda name: prepare.prepare(name, home)


@pytest.fixture
def boltons(example, tmp_path) -> Stage:
    return Stage.open(example("boltons"), tmp_path / "clone")
