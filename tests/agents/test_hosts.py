from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from agents import checkslots, meters, scheduler
from agents.models import Host, HostReading, Run
from agents.services import fleet, hosts, runs
from projects.models import Module, SiteEvent
from projects.services.errors import Refused
from tests import factories

NAME = "here"


@pytest.fixture(autouse=True)
def here(tutti_home, settings):
    settings.TUTTI_HOST = NAME
    settings.TUTTI_AGENTS_PER_HOST = 6
    settings.TUTTI_CHECKS_PER_HOST = 3


@pytest.fixture
def busy(db):
    """Three agents at work here, the last module's the youngest."""
    plan = factories.plan(factories.project("busy"))
    now = timezone.now()
    return [
        factories.run(
            factories.module(plan, f"m{age}", Module.Status.BUILDING), host=NAME,
            started_at=now - timedelta(seconds=age), heartbeat_at=now,
        )
        for age in (30, 20, 10)
    ]  # fmt: skip


def budget(settings, megabytes, *, used=0):
    """Let the machine look as small as this, with so much of it in use by an agent."""
    settings.TUTTI_MEMORY_MB = megabytes
    settings.TUTTI_MEMORY_FLOOR_MB = 200
    settings.TUTTI_AGENT_MEMORY_MB = 100


def test_a_reading_is_kept_with_what_the_host_carries(db):
    host = hosts.host_read()
    assert host is not None
    host.refresh_from_db()
    assert host.memory_mb > host.memory_available_mb > 0 and host.disk_free_mb > 0
    assert (host.capacity, host.check_slots, host.doubt) == (6, 3, "")
    assert "stay reserved" in host.capacity_reason
    (point,) = HostReading.objects.all()
    assert point.reason == host.capacity_reason
    (event,) = SiteEvent.objects.filter(kind="host.capacity")
    assert (event.topic, event.data["before"], event.data["after"]) == (f"host/{NAME}", None, 6)


def test_what_another_process_just_read_is_not_read_again(db):
    assert hosts.host_read() is not None
    assert hosts.host_read() is None
    assert hosts.host_read(is_due=True) is not None
    assert HostReading.objects.count() == 1


def test_of_eight_processes_one_reads(transactional_db):
    def read(_):
        try:
            return hosts.host_read()
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(8)))
    assert len([one for one in found if one is not None]) == 1


def test_old_points_of_its_history_go(db):
    host = hosts.host_read()
    assert host is not None
    old = timezone.now() - timedelta(days=8)
    HostReading.objects.bulk_create(
        HostReading(host=host, at=old, memory_mb=1, memory_available_mb=1) for _ in range(50)
    )
    for _ in range(50):
        hosts._history(host, "again")
    assert not HostReading.objects.filter(at__lt=timezone.now() - timedelta(days=7)).exists()


def test_what_a_profile_needs_is_nine_tenths_of_its_newest_runs(db):
    plan = factories.plan(factories.project("needs"))
    for number in range(40):
        factories.run(
            factories.module(plan, f"m{number}"), status="succeeded", model="fast",
            memory_peak_mb=9000 if number < 10 else number,
        )  # fmt: skip
    factories.run(factories.module(plan, "strong"), status="succeeded", model="strong",
                  memory_peak_mb=300)  # fmt: skip
    assert hosts.profile_needs() == {
        ("replay", "fast"): (36, "nine of ten of 30 runs of fast took no more"),
        ("replay", "strong"): (300, "nine of ten of 1 run of strong took no more"),
    }
    assert hosts.demand_now(NAME, []).need_mb == 300


def test_agents_that_did_not_grow_yet_count_with_what_they_will_take(busy, settings):
    settings.TUTTI_AGENT_MEMORY_MB = 400
    found = hosts.demand_now(NAME, [meters.Use(busy[0].pk, "agent", 150.0)])
    assert (found.alive, found.need_mb, found.growth_mb) == (3, 400, 1050)
    assert found.basis == "a first guess"


def test_hard_pressure_takes_the_youngest_back_and_one_at_a_time(busy, settings):
    budget(settings, 300)
    with meters.metering(busy[0].pk, meters.AGENT) as meter:
        meter.see(250 * meters.MB)
        host = hosts.host_read(is_due=True)
        hosts.host_read(is_due=True)
    assert (host.capacity, host.check_slots, host.source) == (2, 1, "budget")
    assert checkslots.slots_now() == 1
    found = [Run.objects.get(pk=run.pk) for run in busy]
    assert [run.status for run in found] == ["running", "running", "stopping"]
    assert found[2].reason_kind == "memory"
    module = found[2].module
    assert (module.paused_at, module.failures) == (None, 0)


def test_the_only_run_at_work_is_never_taken_back(busy, settings):
    for run in busy[1:]:
        runs.run_end(run, "succeeded")
    assert hosts.relieve(NAME, 10) is None
    assert Run.objects.get(pk=busy[0].pk).status == "running"


def test_a_run_that_ended_meanwhile_is_left_alone(busy):
    runs.run_end(busy[2], "succeeded")
    assert not runs.run_yield(busy[2], "No memory.")
    assert Run.objects.get(pk=busy[2].pk).status == "succeeded"


def test_a_host_that_drains_takes_nothing_new(busy):
    alice = factories.user("alice")
    hosts.host_read()
    queued = factories.run(
        factories.module(busy[0].plan, "next", Module.Status.BUILDING), status="queued",
        started_at=None,
    )  # fmt: skip
    hosts.host_drain(NAME, alice)
    hosts.host_drain(NAME, alice)
    assert runs.run_claim(queued.pk, queued.fence) is None
    ceiling = scheduler.ceiling_of(busy[0].project)
    assert ceiling.binds == "machine" and "is being drained" in ceiling.sentence
    hosts.host_undrain(NAME, alice)
    assert runs.run_claim(queued.pk, queued.fence) is not None
    said = SiteEvent.objects.filter(kind__in=["host.drained", "host.undrained"])
    assert [event.actor for event in said] == ["person:alice"] * 2
    with pytest.raises(Refused, match="no host nowhere"):
        hosts.host_drain("nowhere", alice)


def test_a_full_host_leaves_an_agent_to_others_but_not_a_merge(busy):
    Host.objects.create(name=NAME, capacity=3, seen_at=timezone.now())
    plan = busy[0].plan
    agent = factories.run(factories.module(plan, "a"), status="queued", started_at=None)
    merge = factories.run(factories.module(plan, "b"), "merge", "queued", holds_slot=False,
                          needs_slot=False, started_at=None)  # fmt: skip
    assert runs.run_claim(agent.pk, agent.fence) is None
    assert runs.run_claim(merge.pk, merge.fence) is not None


def test_a_host_that_gave_no_sign_is_not_counted_on(busy):
    Host.objects.create(name=NAME, capacity=9, seen_at=timezone.now() - timedelta(minutes=5))
    (limit,) = fleet.limits_of(busy[0].project)
    assert (limit.binds, "No machine gave a sign" in limit.sentence) == ("machine", True)


def test_the_meter_of_a_killed_worker_goes(busy, settings):
    folder = settings.TUTTI_HOME / "run" / "trees"
    folder.mkdir(parents=True)
    (folder / "999999999-7-agent").write_text("         100")
    with meters.metering(5, meters.CHECK) as meter:
        meter.see(70 * meters.MB)
        assert meters.uses() == [meters.Use(5, "check", 70.0)]
        meter.see(20 * meters.MB)
        meter.end(1.5)
    assert (meter.peak_mb, meter.cpu_seconds, meters.uses()) == (70, 1.5, [])
    assert list(folder.iterdir()) == []
