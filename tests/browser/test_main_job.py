"""The main job in the browser: edit, approve, watch the cards move, open a review."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from agents.models import Run
from config import processes
from projects import planfile
from projects.models import Module, Plan
from projects.services import plans
from projects.services import projects as services
from tests.browser import tiny
from tests.browser.test_pages import enter
from tests.wait import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture
def job(transactional_db, tutti_home, tmp_path):
    alice = User.objects.create(username="alice")
    source = tiny.repository(tmp_path)
    made = services.project_create(
        slug="tiny", source=str(source), owner=alice, name="Tiny", environment=sys.prefix
    )
    plans.plan_import(made, planfile.load(tiny.plan()), alice)
    return made


@pytest.fixture
def engine(server, tmp_path):
    """Run workers and a clock on the test's database, as `make dev` has them."""
    log = (tmp_path / "engine.log").open("ab")
    programs = [processes.workers("runs", 4), processes.workers("short", 1), processes.clock()]
    running = [
        subprocess.Popen(
            program.command, env={**server.environment, **program.env}, stdout=log, stderr=log
        )
        for program in programs
    ]
    yield tmp_path / "engine.log"
    for process in running:
        process.terminate()
    for process in running:
        process.wait(40)
    log.close()


def test_from_draft_to_all_merged(server, page, job, engine, shot):
    alice = User.objects.get(username="alice")
    enter(page, server, alice, "/projects/tiny/plan/")
    page.locator("#module-beta summary").first.click()
    page.locator("#module-beta").get_by_role("link", name="Edit").click()
    page.get_by_label("Title").fill("The better beta")
    page.get_by_role("button", name="Save the module").click()
    page.get_by_role("button", name="Submit for approval").click()
    page.get_by_role("button", name="Approve this plan").click()
    until(lambda: Plan.objects.get().status == Plan.Status.APPROVED, what="the approval")
    expect(page.get_by_role("heading", name="Board")).to_be_visible()
    page.evaluate("() => { window.loaded = 'once' }")
    # gamma needs alpha's merged code, so the board passes through a state that is not the last.
    expect(page.locator("#column-waiting")).to_contain_text("gamma", timeout=20_000)
    shot("job-running")
    merged = page.locator("#column-merged")
    try:
        for name in tiny.MODULES:
            expect(merged).to_contain_text(name, timeout=90_000)
        expect(page.locator("#plan-status")).to_contain_text("finished", timeout=60_000)
    except AssertionError:
        shot("job-stuck")
        rows = Module.objects.values_list("slug", "status", "reason")
        runs = Run.objects.values_list("module__slug", "kind", "status", "reason")
        pytest.fail(f"{[*rows]}\n{[*runs]}\n{engine.read_text()[-3000:]}")
    assert page.evaluate("() => window.loaded") == "once", "The board was loaded again."
    shot("job-done")
    merged.get_by_role("link", name="beta").click()
    page.locator("a[href*='/reviews/']").first.click()
    page.wait_for_url(re.compile(r"/projects/tiny/reviews/\d+/"))
    expect(page.locator("#content")).to_contain_text("beta keeps its contract.")
    expect(page.locator("table.diff").first).to_contain_text('return [n, "beta"]')
    shot("job-review")
