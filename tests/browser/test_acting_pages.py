"""Board, module, run, review and queue in a real browser, while rows change behind them."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import expect

from agents.models import Host, Provider, Quota, Run
from agents.services import runs
from agents.services.steering import Delivery
from agents.supervision import Watch
from agents.work import Log, Work
from projects import live
from projects.hub import Hub
from projects.lifecycle import transition
from projects.models import Module, Project
from projects.services.projects import project_pause
from reviews.checks import CheckOutcome
from reviews.services import Remark, checks_record, findings_record
from tests import factories as make
from tests.browser.test_pages import deafen, enter

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


class Complaints(list[str]):
    """Leaving a page whose socket is still being opened is no fault of the page."""

    def append(self, text: str) -> None:
        if "closed before the connection is established" not in text:
            super().append(text)


@pytest.fixture
def complaints() -> list[str]:
    return Complaints()


@pytest.fixture
def shop(transactional_db, tutti_home) -> Project:
    return make.project(people={"alice": "owner", "mia": "maintainer", "vera": "viewer"})


@pytest.fixture
def mia(shop) -> User:
    return make.user("mia")


@pytest.fixture
def cart(shop) -> Module:
    plan = make.plan(shop)
    cart = make.module(plan, "cart", "building", lane="money")
    for name in ("desk", "till", "bank"):
        make.module(plan, name, lane="money" if name == "bank" else "")
    make.need(make.module(plan, "shop"), cart, "implementation")
    make.module(plan, "base", "merged")
    return cart


def test_cards_move_without_a_reload(server, page, shop, mia, cart, shot):
    enter(page, server, mia, "/projects/shop/board/")
    expect(page.locator(f"#column-building #module-{cart.pk}")).to_be_visible()
    page.evaluate("() => { window.sameDocument = true; }")
    run = make.run(cart)
    transition(cart, "reviewing", by=live.SYSTEM)
    expect(page.locator(f"#column-reviewing #module-{cart.pk}")).to_be_visible()
    expect(page.locator(f"#module-{cart.pk} .run")).to_contain_text("recorded-fast")
    Run.objects.filter(pk=run.pk).update(status="succeeded", holds_slot=False)
    transition(cart, "merging", by=live.SYSTEM)
    transition(cart, "merged", by=live.SYSTEM)
    expect(page.locator(f"#column-merged #module-{cart.pk}")).to_be_visible()
    expect(page.locator("#progress")).to_contain_text("2 of 6 modules merged")
    assert page.evaluate("() => window.sameDocument")
    shot("board")


def test_project_is_paused_from_the_board_and_resumed_elsewhere(server, page, shop, mia, cart):
    enter(page, server, mia, "/projects/shop/board/")
    page.get_by_role("button", name="Pause the project").click()
    expect(page.get_by_role("button", name="Resume the project")).to_be_visible()
    Project.objects.get(paused_at__isnull=False)
    page.get_by_role("button", name="Resume the project").click()
    expect(page.get_by_role("button", name="Pause the project")).to_be_visible()
    project_pause(project=shop, by=live.Actor.person(mia))
    expect(page.get_by_role("button", name="Resume the project")).to_be_visible()


def test_viewer_sees_no_button_that_is_not_for_viewers(server, page, shop, cart):
    enter(page, server, make.user("vera"), f"/projects/shop/modules/{cart.slug}/")
    expect(page.get_by_role("heading", name="Contract")).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_be_hidden()
    expect(page.get_by_text("Priority and cancelling")).to_be_hidden()


def test_module_is_paused_and_its_request_answered_in_place(server, page, shop, mia, cart, shot):
    enter(page, server, mia, "/projects/shop/modules/cart/")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    run = make.run(cart, status="parked", ended_at=timezone.now())
    make.request(run, "question", question="Which currency?")
    transition(cart, "needs_person", by=live.SYSTEM, reason="Which currency?")
    expect(page.get_by_label("What you tell the agent")).to_be_visible()
    page.get_by_label("What you tell the agent").fill("Euro.")
    findings_record(cart, [Remark("check", "Rounds down.", "cart/a.py", 3)], run_topic="")
    with live.change(shop) as change:
        change.event("test.touched", cart.topic, live.SYSTEM)
    expect(page.get_by_text("Rounds down.")).to_be_visible()
    expect(page.get_by_label("What you tell the agent")).to_have_value("Euro.")
    shot("module")
    page.get_by_role("button", name="Grant").click()
    expect(page.locator("#said")).to_contain_text("Granted.")
    expect(page.get_by_text("Answer: Euro.")).to_be_visible()


def test_who_pauses_by_keyboard_resumes_by_keyboard(server, page, shop, mia, cart):
    enter(page, server, mia, "/projects/shop/modules/cart/")
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Resume")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Pause")).to_be_focused()


def test_a_press_of_who_is_signed_out_shows_where_to_sign_in(server, page, shop, mia, cart, shot):
    enter(page, server, mia, "/projects/shop/modules/cart/")
    deafen(page)
    page.context.clear_cookies(name="tutti_session")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#live-banner")).to_contain_text("You are signed out")
    expect(page.locator("#live-banner").get_by_role("link", name="Sign in")).to_be_visible()
    expect(page.locator("#said")).to_be_empty()
    shot("signed-out")


def test_a_press_from_before_signing_in_anew_says_so(
    server, page, shop, mia, cart, shot, complaints
):
    enter(page, server, mia, "/projects/shop/modules/cart/")
    other = page.context.new_page()
    enter(other, server, mia, "/projects/shop/board/")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#toast")).to_contain_text("You signed in anew")
    shot("signed-in-anew")
    complaints.clear()  # The 403 itself.


def test_log_grows_in_order_while_it_is_open(server, page, shop, mia, cart, shot):
    run = make.run(cart, worker="w", sandbox="unconfined")
    run.assignments = [{"turn": 1, "text": "# Your task\nBuild it.", "prompt_version": "1"}]
    run.save()
    make.log(run, "one", "two")
    enter(page, server, mia, f"/projects/shop/runs/{run.pk}/")
    expect(page.locator("#log > div")).to_have_count(2)
    after = 2
    for n in range(3, 40):
        after = runs.log_append(run, [("message", {"text": f"row {n}"})], after)
    expect(page.locator("#log-39")).to_be_visible()
    numbers = page.locator("#log > div").evaluate_all("rows => rows.map(row => row.id)")
    assert numbers == [f"log-{n}" for n in range(1, 40)]
    shot("run")
    runs.run_end(run, "failed", reason="Nothing was changed.", reason_owner="agent")
    expect(page.get_by_text("Nothing was changed.")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def test_run_is_stopped_by_the_button(server, page, shop, mia, cart):
    run = make.run(cart)
    enter(page, server, mia, f"/projects/shop/runs/{run.pk}/")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#live .chip").first).to_have_text("stopping")


def test_review_shows_findings_at_their_lines_and_is_overruled(
    server, page, shop, mia, cart, tmp_path, shot
):
    source = make.source_repository(tmp_path / "source", {"cart.py": "import os\nb = 2\n"})
    base = make.git(source, "rev-parse", "HEAD")
    head = make.commit(source, {"cart.py": "import os\nb = 20  # much\n", "logo.png": b"\0\1"})
    make.hub(shop, source)
    Module.objects.filter(pk=cart.pk).update(status="reviewing", head_commit=head)
    cart.refresh_from_db()
    review = make.review(cart, "rebuild", base_commit=base, head_commit=head, summary="Not yet.")
    make.finding(cart, "Too much.", review=review, path="cart.py", line=2, clause="brief")
    outcome = CheckOutcome("python -m pytest -q", 0, 1.2, "3 passed", True, "passed")
    checks_record(project_id=shop.pk, module=cart, outcomes=[outcome], by=live.SYSTEM,
                  run_topic=f"{shop.topic}/run/0", phase="green", commit=head)  # fmt: skip
    enter(page, server, mia, f"/projects/shop/reviews/{review.pk}/")
    expect(page.locator("tr.remark")).to_contain_text("Too much.")
    shot("review")
    page.get_by_text("Overrule this verdict").click()
    page.get_by_label("Your verdict").select_option("approve")
    page.get_by_label("Why").fill("It is right.")
    page.get_by_role("button", name="Overrule").click()
    expect(page.locator("#said")).to_contain_text("You overruled: approve.")
    page.goto(f"{server.url}/projects/shop/queue/")
    expect(page.locator("#waiting")).to_contain_text("cart")
    shot("queue")


def test_profiles_are_saved_and_bad_settings_stay_in_the_form(
    server, page, shop, mia, shot, complaints
):
    enter(page, server, mia, "/projects/shop/settings/profiles/")
    form = page.locator("#profile-planner")
    form.get_by_label("Settings").fill("{not json")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("not JSON")
    expect(form.get_by_label("Settings")).to_have_value("{not json")
    assert complaints and "422" in complaints.pop()  # The browser notes every such answer.
    form.get_by_label("Settings").fill("")
    form.get_by_label("Model").fill("strong-9")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("status")).to_contain_text("Saved.")
    shot("profiles")


def test_docs_of_the_api_load_under_the_policy(server, page, shop, mia, shot):
    enter(page, server, mia, "/api/docs")
    expect(page.get_by_text("/api/projects/{slug}/merges")).to_be_visible()
    shot("docs")


def test_a_running_agent_is_told_and_the_receipt_comes_by_itself(
    server, page, shop, mia, cart, shot
):
    run = make.run(cart, worker="w", backend="acp")
    enter(page, server, mia, f"/projects/shop/runs/{run.pk}/")
    page.evaluate("() => { window.sameDocument = true; }")
    page.get_by_label("Tell the agent").fill("Mind the tax.")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#said")).to_contain_text("Queued")
    expect(page.locator("#steers .receipt")).to_contain_text("Queued")
    expect(page.get_by_label("Tell the agent")).to_have_value("")
    page.get_by_label("Tell the agent").fill("And the discount")
    work = Work(run, Hub(shop.hub_path), Watch(run.pk, run.fence, 0.0), Log(run))
    delivery = Delivery(work)
    delivery.heard("message")
    work.log.flush()
    expect(page.locator("#steers .receipt")).to_contain_text("Delivered at turn 1.")
    expect(page.locator("#log")).to_contain_text("mia tells it at turn 1: Mind the tax.")
    expect(page.get_by_label("Tell the agent")).to_have_value("And the discount")
    shot("steer")
    runs.run_end(run, "succeeded")
    expect(page.get_by_label("Tell the agent")).to_have_count(0)
    assert page.evaluate("() => window.sameDocument")


def test_a_message_that_comes_too_late_stays_in_its_field(
    server, page, shop, mia, cart, complaints
):
    run = make.run(cart, worker="w", backend="acp")
    enter(page, server, mia, f"/projects/shop/runs/{run.pk}/")
    deafen(page)
    page.get_by_label("Tell the agent").fill("Mind the tax.")
    Run.objects.filter(pk=run.pk).update(status="succeeded", holds_slot=False)
    Module.objects.filter(pk=cart.pk).update(status="merged")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#said")).to_contain_text("nobody is left to tell")
    expect(page.get_by_label("Tell the agent")).to_have_value("Mind the tax.")
    complaints.clear()  # The 422 itself.


def test_no_page_is_wider_than_a_phone(server, page, shop, cart, shot):
    path = "src/company/product/notifications/preferences/storage/backends/memory_backend.py"
    run = make.run(cart, worker="w", backend="acp", reason=f"{path} is red.")
    make.log(run, f"I read {path} now.")
    make.request(run, "question", question=f"May I change {path}?", data={"path": path})
    review = make.review(cart, summary=f"The change in {path} is right.")
    make.finding(cart, f"{path} is not its own.", review=review, path=path, line=3)
    make.check(cart, ok=False, output=f"E  {path}:3: AssertionError", command=f"pytest {path}")
    Module.objects.filter(pk=cart.pk).update(reason=f"{path} is red.")
    Project.objects.filter(pk=shop.pk).update(goal=f"Keep {path} small.")
    Quota.objects.create(scope="project", project=shop, measure="money", period="month", limit=3)
    Host.objects.create(name="build-machine-number-seventeen.internal.example.org")
    Provider.objects.create(name="anthropic-team-account-of-the-platform")
    page.set_viewport_size({"width": 390, "height": 844})
    enter(page, server, make.user("root", is_superuser=True), "/")
    home = "/projects/shop/"
    wide = {}
    for url in (
        "/", "/site/", "/site/quotas/", "/site/providers/", "/site/log/", f"{home}board/",
        f"{home}plan/", f"{home}readiness/", f"{home}queue/", f"{home}economics/", f"{home}log/",
        f"{home}inbox/", f"{home}quotas/", f"{home}settings/members/", f"{home}runs/",
        f"{home}modules/cart/", f"{home}runs/{run.pk}/", f"{home}reviews/{review.pk}/",
    ):  # fmt: skip
        page.goto(f"{server.url}{url}")
        expect(page.get_by_text("is being read.")).to_have_count(0)
        if (width := page.evaluate("() => document.documentElement.scrollWidth")) > 390:
            wide[url] = width
        shot("phone-" + url.strip("/").replace("/", "-"))
    assert not wide
