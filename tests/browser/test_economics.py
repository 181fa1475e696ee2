"""The economics page in a browser: pictures have their tables, figures lead to their runs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import expect

from projects.models import Module, Project, Role
from tests import factories
from tests.browser.test_pages import enter

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

#: Kind, role, seconds of the agent and of the gate.
STEPS = (
    ("tests", "planner", 20, 4),
    ("build", "executor", 60, 12),
    ("review", "orchestrator", 15, 0),
    ("merge", "", 0, 8),
)


@pytest.fixture
def shop(transactional_db, tutti_home) -> Project:
    """A finished plan of six modules whose runs overlap, with a night in which nothing ran."""
    User.objects.create_user("alice", password="alice-password")
    made = factories.project("shop", people={"alice": Role.OWNER})
    zero = timezone.now() - timedelta(hours=9)
    plan = factories.plan(made, decided_at=zero, finished_at=zero + timedelta(hours=8))
    for place in range(6):
        module = factories.module(plan, f"part-{place}", Module.Status.MERGED)
        at = 15 * place + (28_000 if place == 5 else 0)
        for kind, role, agent, gate in STEPS:
            factories.run(
                module, kind, "succeeded", role=role, needs_slot=bool(role),
                started_at=zero + timedelta(seconds=at),
                ended_at=zero + timedelta(seconds=at + agent + gate),
                agent_seconds=agent, gate_seconds=gate,
                input_tokens=1000 * agent if role else None,
                output_tokens=100 * agent if role else None,
            )  # fmt: skip
            at += agent + gate + 2
    return made


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_have_their_tables(server, page, shop, shot, scheme):
    page.emulate_media(color_scheme=scheme)
    enter(page, server, factories.user("alice"), "/projects/shop/economics/")
    expect(page.get_by_role("link", name="Economics")).to_have_attribute("aria-current", "page")
    pictures = page.locator("figure.chart-figure")
    expect(pictures).to_have_count(4)
    shot(f"economics-{scheme}")
    for place in range(4):
        one = pictures.nth(place)
        expect(one.locator("svg > title")).to_have_count(1)
        expect(one.locator("svg > desc")).to_have_count(1)
        table = one.locator("table")
        expect(table).to_be_hidden()
        one.get_by_text("The same as a table").click()
        expect(table).to_be_visible()
        assert table.locator("tbody tr").count() > 0
    expect(page.locator(".point")).to_have_count(1)
    assert page.evaluate("document.querySelectorAll('#content [style]').length") == 0


def test_figures_lead_to_their_runs(server, page, shop, shot):
    enter(page, server, factories.user("alice"), "/projects/shop/economics/")
    page.get_by_role("link", name="writing tests").click()
    expect(page.locator("#runs tbody tr")).to_have_count(6)
    expect(page.get_by_label("Purpose")).to_have_value("test")
    shot("runs")
    page.get_by_label("Kind").select_option("build")
    page.get_by_label("Purpose").select_option("")
    expect(page.locator("#runs tbody tr")).to_have_count(6)
    page.locator("#runs tbody a").first.click()
    expect(page.get_by_role("heading", name="Build 1 of")).to_be_visible()
