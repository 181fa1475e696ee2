from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.capacity import (
    HostRoom,
    Limit,
    ceiling_now,
    machine_limits,
    paused_limit,
    project_limit,
)


def room(**more) -> HostRoom:
    return HostRoom(**{"name": "one", "capacity": 4, "disk_free_mb": 9000.0, **more})


def limits(*hosts: HostRoom, active: int = 0, working: int = 0) -> list[Limit]:
    return machine_limits(hosts, active=active, working=working, disk_floor_mb=2000)


def test_the_smallest_binds_and_of_equals_the_first() -> None:
    high, low, other = (Limit(name, slots, ".") for name, slots in [("a", 5), ("b", 2), ("c", 2)])
    assert ceiling_now([high, low, other]) is low
    assert ceiling_now([high, other, low]) is other


def test_the_project_s_own_limit() -> None:
    assert project_limit(5).sentence == "The project's ceiling allows 5 runs at once."
    assert project_limit(1).sentence == "The project's ceiling allows 1 run at once."
    assert (project_limit(0).slots, paused_limit().slots) == (0, 0)


def test_no_host_at_all_binds_nothing() -> None:
    assert limits() == []
    assert limits(room(capacity=None)) == []


def test_hosts_that_gave_no_sign_start_nothing() -> None:
    (found,) = limits(room(is_fresh=False), active=2)
    assert (found.binds, found.slots) == ("machine", 2) and "start a worker" in found.sentence


def test_a_draining_host_takes_nothing_new() -> None:
    (found,) = limits(room(is_draining=True), active=1)
    assert found.slots == 1 and "(one) is being drained" in found.sentence
    (both,) = limits(room(is_draining=True), room(name="two", capacity=3), working=1)
    assert both.slots == 2 and "Memory of two carries 3 agents" in both.sentence


def test_what_hosts_carry_is_shared_by_all_projects() -> None:
    (found,) = limits(room(), room(capacity=1, reason="Only 300 MB are free."),
                      active=2, working=4)  # fmt: skip
    assert found.slots == 3
    assert found.sentence == (
        "Memory of 2 machines carries 5 agents at once, 4 at work. Only 300 MB are free."
    )
    (full,) = limits(room(capacity=1), active=2, working=6)
    assert full.slots == 2 and "1 agent at once" in full.sentence


def test_disk_under_its_floor() -> None:
    _, disk = limits(room(disk_free_mb=100), active=1)
    assert (disk.slots, disk.binds) == (1, "disk") and "Free some space" in disk.sentence


hosts = st.builds(
    HostRoom, st.just("h"), st.none() | st.integers(0, 30), st.just(""),
    st.floats(0, 1e5), st.booleans(), st.booleans(),
)  # fmt: skip


@given(st.lists(hosts, max_size=4), st.integers(-1, 40), st.integers(0, 40), st.integers(0, 40))
def test_a_ceiling_keeps_every_limit(found, ceiling, active, others) -> None:
    bounds = [project_limit(ceiling), *limits(*found, active=active, working=active + others)]
    binding = ceiling_now(bounds)
    assert 0 <= binding.slots <= max(0, ceiling)
    assert all(binding.slots <= bound.slots for bound in bounds)
    assert all(bound.sentence.endswith(".") or "sign" in bound.sentence for bound in bounds)
    usable = [host for host in found if host.is_fresh and not host.is_draining]
    if usable and all(host.capacity is not None for host in usable):
        new = max(0, binding.slots - active)
        assert new == 0 or active + others + new <= sum(host.capacity for host in usable)
