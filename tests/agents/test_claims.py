from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.utils import timezone

from agents import scheduler
from agents.models import Host, Run
from agents.services import runs
from agents.services.recovery import check_invariants
from projects import live
from projects.models import Module, Plan, Project

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


@pytest.fixture
def project(transactional_db):
    project = Project.objects.create(slug="p", name="P", source="/nowhere", ceiling=5)
    plan = Plan.objects.create(project=project, number=1, status="approved", digest="d",
                               approved_digest="d")  # fmt: skip
    for number in range(32):
        Module.objects.create(
            project=project, plan=plan, slug=f"m{number}", status=Module.Status.BUILDING
        )
    return project


def claim(project, module, level, most):
    """One claimer: takes a slot in a transaction of its own, at an isolation level."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
            with live.change(project) as change:
                run = runs.run_queue(
                    change, kind="build", module=module, plan=module.plan, needs_slot=True
                )
        most.append(Project.objects.values_list("active_runs", flat=True).get(pk=project.pk))
        return run is not None
    except OperationalError:
        return False  # A serialization failure is a refusal: the next tick tries again.
    finally:
        connection.close()


@pytest.mark.parametrize("level", LEVELS)
def test_sixteen_claimers_never_hold_more_than_the_ceiling(project, level):
    modules = list(Module.objects.select_related("plan").order_by("pk"))
    most: list[int] = []
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda module: claim(project, module, level, most), modules))
    # Whoever lost a race tries again, until nobody gets in any more.
    for module in modules:
        if not Run.objects.filter(module=module).exists():
            claim(project, module, level, most)
    project.refresh_from_db()
    assert max(most) <= 5
    assert project.active_runs == 5
    assert Run.objects.filter(holds_slot=True).count() == 5


def many_projects(count):
    """As many projects, each with one module that is ready to start."""
    found = []
    for number in range(count):
        project = Project.objects.create(slug=f"q{number}", name="Q", source="/nowhere")
        plan = Plan.objects.create(project=project, number=1, status="approved", digest="d",
                                   approved_digest="d")  # fmt: skip
        found.append(
            Module.objects.create(
                project=project, plan=plan, slug="m", status=Module.Status.BUILDING
            )
        )
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_sixteen_projects_never_start_more_than_the_hosts_carry(transactional_db, level):
    for name, capacity, draining in (("one", 2, False), ("two", 3, False), ("three", 9, True)):
        Host.objects.create(name=name, capacity=capacity, draining=draining, seen_at=timezone.now())
    modules = many_projects(16)
    most: list[int] = []
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda module: claim(module.project, module, level, most), modules))
    at_once = Run.objects.filter(holds_slot=True).count()
    for module in modules:
        if not Run.objects.filter(module=module).exists():
            claim(module.project, module, level, most)
    assert at_once <= 5
    assert Run.objects.filter(holds_slot=True).count() == 5
    ended = Run.objects.filter(holds_slot=True).first()
    runs.run_end(claimed(ended), "succeeded")
    waiting = next(m for m in modules if not Run.objects.filter(module=m).exists())
    assert claim(waiting.project, waiting, level, most)


def test_a_host_without_disk_leaves_agents_to_the_others(transactional_db, settings):
    for name, free in (("full", 10), ("roomy", 90_000)):
        Host.objects.create(name=name, capacity=5, disk_free_mb=free, seen_at=timezone.now())
    settings.TUTTI_DISK_FLOOR_MB = 1_000
    (module,) = many_projects(1)
    assert claim(module.project, module, "READ COMMITTED", [])
    run = Run.objects.get()
    settings.TUTTI_HOST = "full"
    assert runs.run_claim(run.pk, run.fence) is None
    settings.TUTTI_HOST = "roomy"
    assert runs.run_claim(run.pk, run.fence) is not None


def test_a_closed_host_without_a_reading_opens_no_room(transactional_db):
    now = timezone.now()
    Host.objects.create(name="one", capacity=1, disk_free_mb=90_000, seen_at=now)
    Host.objects.create(name="gone", seen_at=now - timedelta(days=1))
    Host.objects.create(name="leaving", seen_at=now, draining=True)
    first, second = many_projects(2)
    assert claim(first.project, first, "READ COMMITTED", [])
    assert not claim(second.project, second, "READ COMMITTED", [])


def test_the_database_refuses_a_count_above_the_ceiling(project):
    Project.objects.filter(pk=project.pk).update(active_runs=5)
    with pytest.raises(IntegrityError), transaction.atomic():
        Project.objects.filter(pk=project.pk).update(active_runs=F("active_runs") + 1)


def test_a_lowered_ceiling_stops_only_new_starts(project):
    Project.objects.filter(pk=project.pk).update(active_runs=4)
    Project.objects.filter(pk=project.pk).update(ceiling=2)
    project.refresh_from_db()
    assert not runs.slot_claim(project)
    Project.objects.filter(pk=project.pk).update(active_runs=F("active_runs") - 1)
    assert not runs.slot_claim(project)
    Project.objects.filter(pk=project.pk).update(active_runs=1)
    assert runs.slot_claim(project)


def claimed(queued):
    run = runs.run_claim(queued.pk, queued.fence)
    assert run is not None
    return run


def queue(project, number=0, kind="build"):
    module = Module.objects.select_related("plan").get(project=project, slug=f"m{number}")
    with live.change(project) as change:
        return runs.run_queue(change, kind=kind, module=module, plan=module.plan, needs_slot=True)


def test_a_module_has_one_active_run(project):
    queue(project)
    with pytest.raises(IntegrityError):
        queue(project)
    project.refresh_from_db()
    assert project.active_runs == 1


def test_a_message_is_claimed_once_however_often_it_comes(project):
    run = queue(project)
    found = []

    def work():
        found.append(runs.run_claim(run.pk, run.fence))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([one for one in found if one is not None]) == 1


def test_an_old_fence_writes_nothing(project):
    queued = queue(project)
    run = claimed(queued)
    assert runs.run_lost(Run.objects.get(pk=run.pk), "stalled", "lost", "worker_lost")
    with pytest.raises(runs.Fenced):
        runs.run_end(run, "succeeded")
    with pytest.raises(runs.Fenced):
        runs.log_append(run, [("message", {"text": "late"})], 0)
    project.refresh_from_db()
    assert project.active_runs == 0
    assert Run.objects.get(pk=run.pk).status == "stalled"


def test_a_run_that_ended_stays_ended(project):
    queued = queue(project)
    run = claimed(queued)
    runs.run_end(run, "succeeded")
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.filter(pk=run.pk).update(status="running")


def test_a_fence_never_falls(project):
    run = queue(project)
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.filter(pk=run.pk).update(fence=0)


def test_the_slot_is_given_back_while_gates_run_and_taken_again(project):
    queued = queue(project)
    run = claimed(queued)
    runs.run_checking(run, lambda change: [])
    project.refresh_from_db()
    assert project.active_runs == 0
    runs.run_slot_want(run)
    assert runs.run_slot_take(run, lambda project: 5)
    project.refresh_from_db()
    assert (project.active_runs, run.holds_slot) == (1, True)


def test_two_modules_of_a_lane_cannot_both_be_at_work(project):
    first, second = Module.objects.order_by("pk")[:2]
    Module.objects.filter(pk=first.pk).update(lane="a")
    with pytest.raises(IntegrityError), transaction.atomic():
        Module.objects.filter(pk=second.pk).update(lane="a")


def test_stopping_a_queued_run_gives_its_slot_back(project, django_user_model):
    run = queue(project)
    runs.run_stop(run, live.SYSTEM, "no longer wanted")
    project.refresh_from_db()
    run.refresh_from_db()
    assert (project.active_runs, run.status) == (0, "cancelled")


@pytest.fixture
def working(project):
    """A run at work in a project that lets one at a time."""
    Project.objects.update(ceiling=1)
    Plan.objects.update(prepared_at=timezone.now())
    scheduler.tick()
    (queued,) = Run.objects.filter(status="queued")
    return runs.run_claim(queued.pk, queued.fence)


def test_the_slot_of_a_run_whose_gates_run_is_anothers_at_once(working):
    runs.run_checking(working, scheduler.start_next)
    assert Run.objects.filter(status="queued", holds_slot=True).count() == 1
    assert scheduler.tick() == 0


def test_a_stop_at_the_end_of_a_turn_is_not_forgotten(working):
    runs.run_stop(Run.objects.get(pk=working.pk), live.SYSTEM, "Stop it.")
    runs.run_checking(working, scheduler.start_next)
    working.refresh_from_db()
    assert (working.status, working.holds_slot) == ("stopping", True)
    assert runs.orders([working.pk])[working.pk][0] == "stopping"


def test_a_stop_while_a_run_waits_for_its_slot_is_not_forgotten(working):
    runs.run_checking(working, lambda change: [])
    runs.run_slot_want(working)
    runs.run_stop(Run.objects.get(pk=working.pk), live.SYSTEM, "Stop it.")
    assert not runs.run_slot_take(working, lambda project: 5)
    working.refresh_from_db()
    assert (working.status, working.holds_slot) == ("stopping", False)


def test_an_end_that_fails_keeps_the_slot_for_the_next_try(working):
    def then(change):
        raise ValueError("Nobody foresaw this.")

    with pytest.raises(ValueError, match="foresaw"):
        runs.run_end(working, Run.Status.SUCCEEDED, then=then)
    runs.run_end(working, Run.Status.FAILED)
    working.project.refresh_from_db()
    assert working.project.active_runs == 0
    assert check_invariants() == []
