from __future__ import annotations

import re
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from agents import pages
from projects import live
from projects.lifecycle import transition
from projects.models import Dependency, Module, Plan, Project
from tests import factories as make

LIVE = {"HX-Request": "true"}


@pytest.fixture
def shop(db):
    return make.project()


@pytest.fixture
def plan(shop):
    return make.plan(shop)


def board(client, project, **headers):
    client.force_login(make.user("alice"))
    return client.get(reverse("agents:board", args=[project.slug]), headers=headers)


def card(html: str, module) -> str:
    found = re.search(
        rf'<article class="card state-\w+" id="module-{module.pk}">.*?</article>', html, re.S
    )
    assert found, f"there is no card of {module.slug}"
    return found[0]


def column(html: str, key: str) -> str:
    found = re.search(rf'<section class="column" id="column-{key}".*?</section>', html, re.S)
    assert found, f"there is no column {key}"
    return found[0]


def test_each_module_is_in_the_column_of_its_status(client, shop, plan):
    places = {
        "waiting": "waiting", "planning": "planning", "building": "building", "built": "built",
        "reviewing": "reviewing", "fixing": "reviewing", "merging": "merging",
        "needs_person": "needs_person", "merged": "merged", "cancelled": "cancelled",
    }  # fmt: skip
    modules = {status: make.module(plan, status, status) for status in places}
    html = board(client, shop).content.decode()
    for status, key in places.items():
        assert f'id="module-{modules[status].pk}"' in column(html, key)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("headers", [{}, LIVE])
def test_a_module_that_moves_while_the_board_is_read_is_on_it_once(client, headers):
    project = make.project()
    module = make.module(make.plan(project), "cart", "merging")
    moved: list[threading.Thread] = []

    def move() -> None:
        transition(Module.objects.get(pk=module.pk), "merged", by=live.SYSTEM)
        connection.close()

    def meanwhile(execute, sql, *args):
        answer = execute(sql, *args)
        if "ROW_NUMBER" in sql and not moved:
            moved.append(threading.Thread(target=move))
            moved[0].start()
            moved[0].join()
        return answer

    with connection.execute_wrapper(meanwhile):
        html = board(client, project, **headers).content.decode()
    assert Module.objects.get().status == "merged"
    assert html.count(f'id="module-{module.pk}"') == 1
    assert f'id="module-{module.pk}"' in column(html, "merging")
    # The next hint shows it where it is now.
    html = board(client, project, **headers).content.decode()
    assert f'id="module-{module.pk}"' in column(html, "merged")


def test_head_says_how_many_work_and_what_binds(client, shop, plan):
    make.run(make.module(plan, "cart", "building"))
    make.run(make.module(plan, "desk", "building"), status="checking")
    Project.objects.update(binding={"sentence": "Memory binds."})
    html = board(client, shop).content.decode()
    assert "1 of 5" in html
    assert "Memory binds." in html


def test_card_shows_run_lane_pause_and_findings(client, shop, plan):
    module = make.module(plan, "cart", "building", lane="money", paused_at=timezone.now())
    run = make.run(module)
    make.finding(module, "one")
    make.finding(module, "two")
    make.finding(module, "old", batch=99)
    shown = card(board(client, shop).content.decode(), module)
    assert reverse("agents:run", args=[shop.slug, run.pk]) in shown
    assert "executor" in shown
    assert "recorded-fast" in shown
    assert "lane money" in shown
    assert ">paused<" in shown
    assert "2 findings" in shown


def test_card_says_which_need_it_waits_for(client, shop, plan):
    base, cart = make.module(plan, "base", "building"), make.module(plan, "cart")
    make.need(cart, base, Dependency.Kind.IMPLEMENTATION)
    shown = card(board(client, shop).content.decode(), cart)
    assert "Waits until base (building) is merged." in shown


def test_card_says_who_holds_its_lane(client, shop, plan):
    make.module(plan, "base", "needs_person", lane="money")
    cart = make.module(plan, "cart", lane="money")
    shown = card(board(client, shop).content.decode(), cart)
    assert "Waits for the lane money, which base (needs person) holds." in shown


def test_built_card_names_what_it_waits_for(client, shop, plan):
    base, cart = make.module(plan, "base", "building"), make.module(plan, "cart", "built")
    make.need(cart, base)
    part = make.module(plan, "cart/part", "planning", parent=cart)
    shown = card(board(client, shop).content.decode(), cart)
    assert f"{part.slug} (planning)" in shown
    assert "base (building)" in shown


def test_card_of_a_paused_project_says_so(client, shop, plan):
    Project.objects.update(paused_at=timezone.now())
    cart = make.module(plan, "cart")
    assert "The project is paused." in card(board(client, shop).content.decode(), cart)


def test_blocked_plan_offers_to_try_again(client, shop, plan):
    Plan.objects.update(blocked_reason="The skeleton is refused.")
    html = board(client, shop).content.decode()
    assert "The skeleton is refused." in html
    assert reverse("projects:plan-retry", args=[shop.slug]) in html


def test_finished_plan_shows_measured_times(client, shop, plan):
    module = make.module(plan, "cart", "merged")
    now = timezone.now()
    for _ in range(3):
        make.run(
            module, status="succeeded", ended_at=now, agent_seconds=50, gate_seconds=10,
            input_tokens=1000, output_tokens=100, usage_quality="exact",
        )  # fmt: skip
    Plan.objects.update(decided_at=now - timedelta(seconds=60), finished_at=now)
    html = board(client, shop).content.decode()
    assert "<b>3.0 \N{MULTIPLICATION SIGN}</b>" in html
    assert "3300" in html
    assert "Replayed" in html


def test_tokens_that_nobody_told_are_unknown(client, shop, plan):
    now = timezone.now()
    make.run(
        make.module(plan, "cart", "merged"), status="succeeded", ended_at=now, backend="command"
    )
    Plan.objects.update(finished_at=now)
    html = board(client, shop).content.decode()
    assert "<b>unknown</b> tokens" in html


def test_live_answer_is_the_region_with_its_version(client, shop, plan):
    make.module(plan, "cart")
    page = board(client, shop)
    part = board(client, shop, **LIVE)
    assert part["X-Version"] == str(shop.event_count)
    assert b"<html" not in part.content
    assert part.content.decode().strip() in page.content.decode()


def test_a_column_shows_a_window_and_counts_the_rest(client, shop, plan, monkeypatch):
    monkeypatch.setattr(pages, "WINDOW", 3)
    for n in range(5):
        make.module(plan, f"m{n}", path_length=n)
    shown = column(board(client, shop).content.decode(), "waiting")
    assert shown.count('class="card ') == 3
    assert "and 2 more" in shown
    assert shown.index("m4<") < shown.index("m3<") < shown.index("m2<")


def fill(plan, first: int, count: int) -> None:
    for n in range(first, first + count):
        base = make.module(plan, f"base{n}", "building", lane=f"lane{n}")
        make.run(base, holds_slot=False, status="checking")
        make.finding(base)
        make.need(make.module(plan, f"next{n}", lane=f"lane{n}"), base, "implementation")
        built = make.module(plan, f"built{n}", "built")
        make.need(built, base)
        make.module(plan, f"built{n}/part", parent=built)
        make.module(plan, f"done{n}", "merged")


def test_number_of_queries_does_not_grow_with_modules(shop, plan, django_assert_num_queries):
    fill(plan, 0, 1)
    with django_assert_num_queries(12):
        pages.board(shop)
    fill(plan, 1, 12)
    with django_assert_num_queries(12):
        pages.board(shop)


def test_project_without_a_plan_says_what_to_do(client, shop):
    assert "There is no plan yet." in board(client, shop).content.decode()
