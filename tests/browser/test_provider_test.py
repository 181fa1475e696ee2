"""A test of a provider in a real browser: filled in, saved, pressed, and watched to its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from agents import sandbox
from agents.models import Profile, ProviderTest
from projects.models import Role
from tests import factories
from tests.browser.test_pages import enter

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

AGENT = Path(__file__).parents[1] / "agents" / "acp_agent.py"


def test_an_admin_connects_an_agent_and_sees_it_answer(server, page: Page, tutti_home, service_env):
    root = User.objects.create_superuser("root", password="root-password")
    shop = factories.project("shop", people={"alice": Role.OWNER, "root": Role.OWNER})
    enter(page, server, root, "/projects/shop/profiles/")
    page.select_option("#agent-executor", "other")
    page.click("#fill-executor")
    expect(page.locator("#known-executor")).to_contain_text("Install it on every host")
    filled = json.loads(page.input_value("#settings-executor"))
    filled["command"] = [sandbox.python(), "-I", "-S", str(AGENT)]
    filled["readable"] = [str(AGENT)]
    page.fill("#settings-executor", json.dumps(filled))
    page.click("#profile-executor button.primary")
    expect(page.locator("#profile-executor")).to_contain_text("Saved")
    assert Profile.objects.get(project=shop, role="executor").settings == filled
    page.click("#test-executor")
    page.wait_for_url("**/projects/shop/tests/*/")
    # No worker is up: the command makes what was asked for.
    command = [sys.executable, "manage.py", "provider_test", "executor", "--project", "shop"]
    done = subprocess.run(command, env=service_env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ProviderTest.objects.get().ended_at is not None
    expect(page.locator("#test")).to_contain_text("it works")
    expect(page.locator("#step-agent")).to_contain_text("tester 1.2")
    expect(page.locator("#step-models")).to_contain_text("small, big")
    page.goto(f"{server.url}/projects/shop/settings/profiles/")
    expect(page.locator("#profile-executor")).to_contain_text("Last test: passed")
