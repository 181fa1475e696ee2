from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from agents.services.recovery import check_invariants
from reviews.audit import verify
from tests.acceptance.stage import Stage

Team = Callable[..., Stage]


@pytest.fixture
def team(transactional_db: None, tutti_home: Any, tmp_path: Any) -> Iterator[Team]:
    """Make a project of small modules; at the end of the test nothing forbidden may be found."""
    owner = User.objects.create(username="alice", email="alice@example.org")
    made: list[Stage] = []

    def make(*modules: dict[str, Any], files: dict[str, str] | None = None, **head: Any) -> Stage:
        slug = f"team-{len(made) + 1}"
        made.append(Stage(tmp_path / slug, owner, list(modules), head, files or {}, slug))
        return made[-1]

    yield make
    assert check_invariants() == []
    for stage in made:
        assert verify(stage.project) == ""
