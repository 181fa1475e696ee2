"""Budgets hold however many claim at once, and give back what is not needed in every ending."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.utils import timezone

from agents import usage
from agents.models import Profile, Provider, Quota, QuotaEntry, Run
from agents.services import budgets, providers, runs
from agents.services.quotas import quota_set
from projects import live
from projects.models import Module, Plan, Project

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
D = Decimal
#: What a build reserves while nothing was measured.
GUESS = 60_000


@pytest.fixture
def admin(transactional_db):
    return User.objects.create(username="root", is_superuser=True)


def project(slug, admin, modules=16, ceiling=20):
    made = Project.objects.create(slug=slug, name=slug, source="/nowhere", ceiling=ceiling)
    plan = Plan.objects.create(project=made, number=1, status="approved", digest="d",
                               approved_digest="d", decided_by=admin)  # fmt: skip
    for number in range(modules):
        Module.objects.create(
            project=made, plan=plan, slug=f"{slug}{number}", status=Module.Status.BUILDING
        )
    return made


def claim(module, level):
    """One claimer in a transaction of its own; None when it was refused or lost a race."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
            with live.change(module.project_id) as change:
                return runs.run_queue(
                    change, kind="build", module=module, plan=module.plan, needs_slot=True
                )
    except OperationalError:
        return None
    finally:
        connection.close()


def queue(module):
    with live.change(module.project_id) as change:
        return runs.run_queue(
            change, kind="build", module=module, plan=module.plan, needs_slot=True
        )


def modules_of(*projects):
    rows = Module.objects.filter(project__in=projects).select_related("plan", "project")
    return list(rows.order_by("slug"))


def figures(quota):
    """What is spent and reserved, as plain numbers."""
    return float(quota.spent), float(quota.reserved)


def work(run):
    claimed = runs.run_claim(run.pk, run.fence)
    assert claimed is not None
    return claimed


@pytest.mark.parametrize("level", LEVELS)
def test_sixteen_claimers_of_four_projects_never_reserve_above_one_budget(admin, level):
    shops = [project(name, admin, modules=4) for name in ("a", "b", "c", "d")]
    quota_set(admin, scope="site", measure="tokens", period="day", limit=5 * GUESS + 10)
    quota_set(admin, scope="site", measure="parallel", period="now", limit=7)
    quota_set(admin, scope="user", user=admin, measure="tokens", period="month", limit=9 * GUESS)
    modules = modules_of(*shops)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda module: claim(module, level), modules))
    for module in modules:  # Who lost a race tries again, until nobody gets in any more.
        if not module.runs.exists():
            claim(module, level)
    for quota in Quota.objects.all():
        assert quota.spent + quota.reserved <= quota.limit
    assert Run.objects.filter(holds_slot=True).count() == 5, "as many as the smallest budget allows"
    assert sum(Project.objects.values_list("active_runs", flat=True)) == 5, "slots were undone too"
    assert budgets.violations() == []


@pytest.mark.parametrize("level", LEVELS)
def test_sixteen_claimers_never_get_more_than_a_throttled_providers_slots(admin, level):
    account = Provider.objects.create(name="acme", breaker="throttled", slots=3)
    Profile.objects.create(role="executor", backend="replay", model="m", provider=account)
    shop = project("a", admin)
    modules = modules_of(shop)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda module: claim(module, level), modules))
    for module in modules:
        if not module.runs.exists():
            claim(module, level)
    account.refresh_from_db()
    assert account.active_runs == 3
    assert budgets.violations() == []


def test_the_database_refuses_a_reservation_above_the_limit(admin):
    quota = quota_set(admin, scope="site", measure="tokens", period="day", limit=10)
    with pytest.raises(IntegrityError), transaction.atomic():
        Quota.objects.filter(pk=quota.pk).update(reserved=F("reserved") + 11)


def test_one_refusal_undoes_every_other_reservation(admin):
    shop = project("a", admin, modules=1)
    first = quota_set(admin, scope="site", measure="tokens", period="day", limit=10 * GUESS)
    quota_set(admin, scope="project", project=shop, measure="tokens", period="month", limit=1)
    assert queue(modules_of(shop)[0]) is None
    first.refresh_from_db()
    shop.refresh_from_db()
    assert figures(first) == (0, 0)
    assert (shop.active_runs, QuotaEntry.objects.count()) == (0, 0)


def ended(run):
    runs.run_end(work(run), "succeeded")


def failed(run):
    runs.run_end(work(run), "failed", reason_owner="agent")


def interrupted(run):
    runs.run_end(work(run), "interrupted")


def lost(run):
    work(run)
    assert runs.run_lost(Run.objects.get(pk=run.pk), "stalled", "lost", "worker_lost")


def stopped_while_queued(run):
    runs.run_stop(run, live.SYSTEM)


def paused_while_queued(run):
    assert runs.run_pause(run, "provider", "used up")


def stopped_while_working(run):
    claimed = work(run)
    runs.run_stop(Run.objects.get(pk=run.pk), live.SYSTEM)
    runs.run_end(claimed, "cancelled")


def ended_while_checking(run):
    claimed = work(run)
    runs.run_checking(claimed, lambda change: [])
    runs.run_end(claimed, "succeeded")


def lost_while_checking(run):
    runs.run_checking(work(run), lambda change: [])
    # Read before it gave its slot back, as the sweep may have.
    stale = Run.objects.get(pk=run.pk)
    stale.holds_slot, stale.status = True, "running"
    assert runs.run_lost(stale, "stalled", "lost", "worker_lost")


@pytest.mark.parametrize(
    "end",
    [ended, failed, interrupted, lost, stopped_while_queued, paused_while_queued,
     stopped_while_working, ended_while_checking, lost_while_checking],
)  # fmt: skip
def test_every_ending_gives_everything_back(admin, end):
    account = Provider.objects.create(name="acme")
    Profile.objects.create(role="executor", backend="replay", model="m", provider=account)
    shop = project("a", admin, modules=1)
    quota_set(admin, scope="site", measure="tokens", period="day", limit=10 * GUESS)
    quota_set(admin, scope="provider", provider=account, measure="parallel", period="now", limit=2)
    quota_set(admin, scope="project", project=shop, measure="parallel", period="now", limit=2)
    run = queue(modules_of(shop)[0])
    assert set(Quota.objects.values_list("reserved", flat=True)) == {D(GUESS), D(1)}
    end(run)
    shop.refresh_from_db()
    account.refresh_from_db()
    assert set(Quota.objects.values_list("reserved", "spent")) == {(D(0), D(0))}
    assert (shop.active_runs, account.active_runs) == (0, 0)
    assert budgets.violations() == []


def test_a_checking_run_keeps_its_tokens_and_lends_its_parallel_run(admin):
    account = Provider.objects.create(name="acme")
    Profile.objects.create(role="executor", backend="replay", model="m", provider=account)
    shop = project("a", admin, modules=2)
    tokens = quota_set(admin, scope="site", measure="tokens", period="day", limit=10 * GUESS)
    parallel = quota_set(admin, scope="site", measure="parallel", period="now", limit=1)
    first, second = modules_of(shop)
    run = work(queue(first))
    assert queue(second) is None
    runs.run_checking(run, lambda change: [])
    tokens.refresh_from_db()
    assert tokens.reserved == GUESS
    other = queue(second)
    assert other is not None
    runs.run_slot_want(run)
    assert not runs.run_slot_take(run, lambda project: 5), "the other is parallel now"
    shop.refresh_from_db()
    account.refresh_from_db()
    assert (shop.active_runs, account.active_runs) == (1, 1)
    ended(other)
    assert runs.run_slot_take(run, lambda project: 5)
    parallel.refresh_from_db()
    assert parallel.reserved == 1
    assert budgets.violations() == []


# --- Settling ------------------------------------------------------------------------------------


def settle(run, tokens, money=None):
    with live.change(run.project_id):
        budgets.settle(run, tokens, money)


def prompt(run):
    run.assignments = [*run.assignments, {"at": timezone.now().isoformat()}]
    Run.objects.filter(pk=run.pk).update(assignments=run.assignments)


def test_use_moves_from_reserved_to_spent_and_the_next_turn_is_reserved_again(admin):
    shop = project("a", admin, modules=1)
    quota = quota_set(admin, scope="site", measure="tokens", period="day", limit=3 * GUESS)
    run = work(queue(modules_of(shop)[0]))
    settle(run, 20_000)
    quota.refresh_from_db()
    assert figures(quota) == (20_000, 40_000)
    with live.change(shop):
        budgets.again(run, runs.profile_of(run))
    quota.refresh_from_db()
    assert figures(quota) == (20_000, 60_000)
    # The overrun of one call is kept, and nothing more is let in after it.
    settle(run, 170_000)
    quota.refresh_from_db()
    assert figures(quota) == (190_000, 0)
    with pytest.raises(budgets.Full), live.change(shop):
        budgets.again(run, runs.profile_of(run))
    assert budgets.violations() == []


def test_unknown_use_counts_as_the_estimate_and_says_so(admin):
    shop = project("a", admin, modules=1)
    quota = quota_set(admin, scope="site", measure="tokens", period="day", limit=3 * GUESS)
    run = work(queue(modules_of(shop)[0]))
    settle(run, None)
    quota.refresh_from_db()
    entry = QuotaEntry.objects.get()
    assert figures(quota) == (GUESS, 0)
    assert entry.is_estimated


def test_a_turn_cut_off_with_its_worker_counts_as_the_estimate(admin):
    shop = project("a", admin, modules=1)
    quota = quota_set(admin, scope="site", measure="tokens", period="day", limit=3 * GUESS)
    run = work(queue(modules_of(shop)[0]))
    prompt(run)
    assert runs.run_lost(Run.objects.get(pk=run.pk), "stalled", "lost", "worker_lost")
    quota.refresh_from_db()
    assert figures(quota) == (GUESS, 0)
    assert QuotaEntry.objects.get().is_estimated
    assert budgets.violations() == []


def test_an_unpriced_model_counts_with_the_dearest_price(admin):
    shop = project("a", admin, modules=1)
    providers.price_set(admin, None, "dear", 10, 10)
    quota = quota_set(admin, scope="site", measure="money", period="month", limit=5)
    run = work(queue(modules_of(shop)[0]))
    quota.refresh_from_db()
    assert quota.reserved == D("0.6")
    settle(run, 100_000)
    quota.refresh_from_db()
    assert (quota.spent, quota.reserved) == (D(1), D(0))
    assert QuotaEntry.objects.get().is_estimated


def test_without_any_price_money_is_not_counted_and_work_goes_on(admin):
    shop = project("a", admin, modules=1)
    quota = quota_set(admin, scope="site", measure="money", period="month", limit=0)
    assert queue(modules_of(shop)[0]) is not None
    quota.refresh_from_db()
    assert quota.reserved == 0


def test_money_that_an_agent_tells_counts_without_its_tokens(admin):
    shop = project("a", admin, modules=1)
    tokens = quota_set(admin, scope="site", measure="tokens", period="day", limit=3 * GUESS)
    money = quota_set(admin, scope="site", measure="money", period="month", limit=10)
    run = work(queue(modules_of(shop)[0]))
    settle(run, None, D("3.2"))
    for quota in (tokens, money):
        quota.refresh_from_db()
    assert figures(money) == (3.2, 0) and figures(tokens) == (GUESS, 0)
    entries = {entry.quota.measure: entry.is_estimated for entry in QuotaEntry.objects.all()}
    assert entries == {"tokens": True, "money": False}


def test_without_any_price_what_agents_told_stops_the_next_turn(admin):
    shop = project("a", admin, modules=2)
    quota = quota_set(admin, scope="site", measure="money", period="month", limit=10)
    first, second = modules_of(shop)
    run = work(queue(first))
    settle(run, 1_000, D(12))
    with pytest.raises(budgets.Full), live.change(shop):
        budgets.again(run, runs.profile_of(run))
    assert queue(second) is None
    quota.refresh_from_db()
    assert figures(quota) == (12, 0)
    assert budgets.violations() == []


# --- Windows -------------------------------------------------------------------------------------


def spent(quota, module, tokens, ago):
    """A run that ended some time ago."""
    run = work(queue(module))
    settle(run, tokens)
    runs.run_end(run, "succeeded")
    QuotaEntry.objects.filter(run=run).update(spent_at=timezone.now() - ago)


def test_what_left_the_window_lets_the_next_in(admin):
    shop = project("a", admin, modules=3)
    quota = quota_set(
        admin, scope="site", measure="tokens", period="window", window_seconds=3_600, limit=GUESS
    )
    first, second, third = modules_of(shop)
    spent(quota, first, 50_000, timedelta(minutes=59))
    assert queue(second) is None
    QuotaEntry.objects.update(spent_at=timezone.now() - timedelta(minutes=61))
    assert queue(second) is not None
    quota.refresh_from_db()
    assert figures(quota) == (0, GUESS)
    assert queue(third) is None
    assert budgets.violations() == []


def test_a_run_over_the_edge_of_its_window_counts_until_it_ends(admin):
    shop = project("a", admin, modules=2)
    quota = quota_set(
        admin, scope="site", measure="tokens", period="window", window_seconds=60, limit=2 * GUESS
    )
    run = work(queue(modules_of(shop)[0]))
    settle(run, 70_000)
    QuotaEntry.objects.update(spent_at=timezone.now() - timedelta(minutes=5))
    assert queue(modules_of(shop)[1]) is None
    quota.refresh_from_db()
    assert usage.use(quota).spent_said == usage.shares(quota)[0].spent == "70,000 tokens"
    settle(run, 1_000)
    quota.refresh_from_db()
    assert quota.spent == 71_000
    runs.run_end(run, "succeeded")
    QuotaEntry.objects.update(spent_at=timezone.now() - timedelta(minutes=5))
    assert queue(modules_of(shop)[1]) is not None
    assert budgets.violations() == []


def test_a_clock_that_jumps_never_makes_a_figure_negative(admin):
    shop = project("a", admin, modules=2)
    quota = quota_set(
        admin, scope="site", measure="tokens", period="day", time_zone="Asia/Tokyo", limit=3 * GUESS
    )
    spent(quota, modules_of(shop)[0], 50_000, timedelta())
    now = timezone.now()
    for jump in (timedelta(days=2), timedelta(days=-3), timedelta(days=40), timedelta()):
        with transaction.atomic():
            row = Quota.objects.select_for_update(of=("self",)).get(pk=quota.pk)
            budgets.expire([row], now + jump)
        quota.refresh_from_db()
        assert quota.spent >= 0
        assert budgets.violations() == []


def test_a_new_quota_knows_what_its_window_saw_and_who_is_at_work(admin):
    shop = project("a", admin, modules=2)
    first, second = modules_of(shop)
    run = work(queue(first))
    runs.run_update(run, input_tokens=5_000, output_tokens=500)
    runs.run_end(run, "succeeded")
    busy = queue(second)
    tokens = quota_set(
        admin, scope="project", project=shop, measure="tokens", period="day", limit=10_000
    )
    parallel = quota_set(admin, scope="site", measure="parallel", period="now", limit=1)
    assert (figures(tokens), figures(parallel)) == ((5_500, GUESS), (0, 1))
    ended(busy)
    for quota in (tokens, parallel):
        quota.refresh_from_db()
    assert tokens.reserved == parallel.reserved == Decimal(0)
    assert budgets.violations() == []


def test_a_new_quota_counts_the_turn_at_hand_of_who_is_at_work(admin):
    shop = project("a", admin, modules=1)
    run = work(queue(modules_of(shop)[0]))
    runs.run_update(run, input_tokens=5_000, output_tokens=500)
    tokens = quota_set(admin, scope="site", measure="tokens", period="day", limit=10_000)
    assert figures(tokens) == (5_500, GUESS)
    settle(run, 40_000)
    runs.run_end(run, "succeeded")
    tokens.refresh_from_db()
    assert figures(tokens) == (45_500, 0)
    assert budgets.violations() == []


def test_a_new_quota_of_money_counts_what_had_no_price_at_the_dearest(admin):
    shop = project("a", admin, modules=2)
    providers.price_set(admin, None, "dear", 10, 10)
    for module, told in zip(modules_of(shop), (None, D("3.5")), strict=True):
        run = work(queue(module))
        runs.run_update(run, input_tokens=None if told else 90_000, cost=told)
        runs.run_end(run, "succeeded")
    quota = quota_set(admin, scope="site", measure="money", period="month", limit=5)
    assert quota.spent == D("0.9") + D("3.5")
    rows = QuotaEntry.objects.order_by("run").values_list("is_estimated", flat=True)
    assert list(rows) == [True, False]


def test_recovery_counts_again(admin):
    shop = project("a", admin, modules=1)
    account = Provider.objects.create(name="acme", active_runs=4)
    quota = quota_set(admin, scope="site", measure="tokens", period="day", limit=3 * GUESS)
    queue(modules_of(shop)[0])
    Quota.objects.filter(pk=quota.pk).update(spent=7, reserved=1)
    assert len(budgets.violations()) == 2
    with live.change(shop) as change:
        said = budgets.repair(change.project)
    assert len(said) == 2
    account.refresh_from_db()
    quota.refresh_from_db()
    assert (account.active_runs, figures(quota)) == (0, (0, GUESS))
    assert budgets.violations() == []
