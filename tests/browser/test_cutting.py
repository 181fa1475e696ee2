"""Cut by packages from the plan's page: a draft without problems, ready to be edited."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from projects.services.projects import project_create
from tests import factories as make
from tests.browser.test_pages import enter

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

BIG = "x = 1  # a line that gives this file a size\n" * 100


def test_a_button_cuts_the_repository(server, page, tmp_path, shot):
    alice = make.user("alice")
    files = {
        "shop/__init__.py": "",
        "shop/cart.py": f"from shop import money\n{BIG}",
        "shop/money.py": BIG,
        "shop/orders.py": f"from shop import stock\n{BIG}",
        "shop/stock.py": f"from shop import orders\n{BIG}",
        "tests/test_cart.py": "from shop import cart\n",
    }
    source = make.source_repository(tmp_path / "source", files)
    project_create(slug="shop", source=str(source), owner=alice, goal="Sell more.")
    enter(page, server, alice, "/projects/shop/plan/")
    expect(page.get_by_role("button", name="Ask the orchestrator for a plan")).to_be_visible()
    page.get_by_role("button", name="Cut by packages").click()
    expect(page.get_by_role("heading", name="Plan 1")).to_be_visible()
    expect(page.locator("#module-cart")).to_contain_text("needs money")
    expect(page.locator("#report-lanes")).to_contain_text("1 lane")
    expect(page.locator("#problems")).to_have_count(0)
    expect(page.get_by_role("button", name="Cut by packages")).to_have_count(0)
    expect(page.get_by_role("button", name="Submit for approval")).to_be_enabled()
    shot("cut")
