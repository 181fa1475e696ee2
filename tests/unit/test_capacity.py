from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.capacity import Ceiling, ceiling_now


def now(**more) -> Ceiling:
    readings = {
        "project_ceiling": 5,
        "memory_available_mb": 8000.0,
        "memory_floor_mb": 500.0,
        "disk_free_mb": 9000.0,
        "disk_floor_mb": 2000.0,
        **more,
    }
    return ceiling_now(**readings)


def test_project_binds_when_the_machine_has_room() -> None:
    assert now() == Ceiling(5, "project", "The project's ceiling allows 5 runs at once.")
    assert now(project_ceiling=1).sentence == "The project's ceiling allows 1 run at once."
    assert now(memory_available_mb=None, disk_free_mb=None).slots == 5


def test_ceiling_of_zero_starts_nothing() -> None:
    assert now(project_ceiling=0, active_runs=3) == Ceiling(
        0, "project", "The project's ceiling is 0: raise it to let runs start."
    )


def test_memory_under_its_floor_keeps_what_runs() -> None:
    found = now(memory_available_mb=400, active_runs=2)
    assert (found.slots, found.binds) == (2, "memory")
    assert found.sentence == (
        "400 MB of memory are free and 500 MB stay reserved: no further run starts."
    )


def test_memory_for_each_run() -> None:
    found = now(memory_available_mb=1600, per_run_mb=1000, active_runs=2)
    assert (found.slots, found.binds) == (3, "memory") and "room for 1 run more" in found.sentence


def test_disk_under_its_floor() -> None:
    found = now(disk_free_mb=100, active_runs=1)
    assert (found.slots, found.binds) == (1, "disk") and "Free some space" in found.sentence


@pytest.mark.parametrize(("name", "binds"), [("site_left", "site"), ("provider_left", "provider")])
def test_quotas_of_others(name: str, binds: str) -> None:
    some = now(active_runs=1, **{name: 2})
    assert (some.slots, some.binds) == (3, binds) and "2 runs more" in some.sentence
    none = now(active_runs=1, **{name: 0})
    assert none.slots == 1 and "the next starts when one ends" in none.sentence
    assert now(active_runs=1, **{name: -4}).slots == 1


@given(
    st.integers(-1, 50), st.floats(0, 1e5) | st.none(), st.floats(0, 1e5) | st.none(),
    st.integers(0, 50), st.integers(-3, 50) | st.none(), st.floats(0, 5000),
)  # fmt: skip
def test_ceiling_keeps_every_limit(ceiling, memory, disk, active, left, per_run) -> None:
    found = now(
        project_ceiling=ceiling, memory_available_mb=memory, disk_free_mb=disk,
        active_runs=active, site_left=left, per_run_mb=per_run,
    )  # fmt: skip
    assert 0 <= found.slots <= max(0, ceiling)
    new = max(0, found.slots - active)
    assert left is None or new <= max(0, left)
    assert disk is None or disk >= 2000 or new == 0
    assert memory is None or memory >= 500 or new == 0
    assert memory is None or new == 0 or 500 + new * per_run <= memory + 1e-6
    assert found.sentence.endswith(".")
