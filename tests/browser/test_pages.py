"""The pages in a real browser: sign in, write a plan, decide on it, watch it change."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, Route, expect

from projects import live, planfile
from projects.models import Plan, Project, Role
from projects.services import plans
from projects.services import projects as services
from tests import factories
from tests.projects.pages import PLAN, draft
from tests.wait import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def shop(transactional_db, tutti_home, tmp_path) -> Project:
    User.objects.create_user("alice", password="alice-password")
    User.objects.create(username="bob")
    made = factories.project("shop", people={"alice": Role.OWNER, "bob": Role.MEMBER})
    source = factories.source_repository(tmp_path / "source", {"m1.py": "", "m2.py": ""})
    factories.hub(made, source)
    plans.plan_import(made, planfile.load(PLAN), factories.user("alice"))
    return made


@pytest.fixture
def alice(shop) -> User:
    return factories.user("alice")


def enter(page: Page, server, user: User, url: str) -> None:
    """Sign in by a one-time link, with Enter alone."""
    token = services.login_link_create(user=user, next_url=url)
    page.goto(f"{server.url}/login/once/{token}/")
    expect(page.get_by_role("button", name="Sign in as")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server.url}{url}")


def deafen(page: Page) -> None:
    """Let nobody tell the page what changes: as if each hint were still on its way."""
    page.evaluate(
        "() => { document.body.dataset.live = ''; window.dispatchEvent(new Event('pagehide')) }"
    )


def test_sign_in_by_password(server, page, shop, shot):
    page.goto(f"{server.url}/")
    shot("login")
    page.get_by_label("Login").fill("alice")
    page.get_by_label("Password").fill("alice-password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Projects")).to_be_visible()
    expect(page.get_by_role("link", name="Shop")).to_be_visible()
    shot("projects")


def test_sign_in_by_link_works_once(server, page, shop, alice, complaints):
    token = services.login_link_create(user=alice, next_url="/projects/shop/log/")
    for _ in range(2):
        page.goto(f"{server.url}/login/once/{token}/")  # Opening it uses nothing up.
    page.get_by_role("button", name="Sign in as alice").click()
    expect(page.get_by_role("heading", name="Event log")).to_be_visible()
    page.context.clear_cookies()
    page.goto(f"{server.url}/login/once/{token}/")
    expect(page.get_by_role("heading", name="no longer works")).to_be_visible()
    complaints.clear()  # The 410 itself.


def test_plan_is_edited_submitted_and_approved(server, page, shop, alice, shot):
    enter(page, server, alice, "/projects/shop/plan/")
    page.locator("#module-m1 summary").first.click()
    shot("plan-draft")
    page.locator("#module-m1").get_by_role("link", name="Edit").click()
    page.get_by_label("Title").fill("A better first")
    page.get_by_label("Owned paths").fill("m1.py\nnothing/*")
    expect(page.locator("#problems")).to_contain_text("matches no tracked file")
    shot("module-problem")
    page.get_by_label("Owned paths").fill("m1.py")
    expect(page.locator("#problems")).to_contain_text("Nothing is wrong")
    page.get_by_role("button", name="Another need").click()
    expect(page.locator(".need-row")).to_have_count(2)
    shot("module-form")
    page.get_by_role("button", name="Save the module").click()
    expect(page.locator("#module-m1")).to_contain_text("A better first")
    page.get_by_role("button", name="Submit for approval").click()
    expect(page.locator("#decide")).to_contain_text("Waits for a maintainer")
    shot("plan-submitted")
    expect(page.get_by_role("link", name="Needs you (1)")).to_be_visible()
    expect(page).to_have_title(re.compile(r"^\(1\) "))
    page.get_by_role("button", name="Approve this plan").click()
    until(lambda: Plan.objects.get().status == Plan.Status.APPROVED, what="the approval")
    expect(page.get_by_role("link", name="Needs you", exact=True)).to_be_visible()
    page.goto(f"{server.url}/projects/shop/plan/")
    expect(page.locator("#plan")).to_contain_text("alice approved it")
    shot("plan-approved")


def test_a_button_pressed_before_the_scripts_ran_is_not_forgotten(server, page, shop, alice):
    enter(page, server, alice, "/projects/shop/plan/")
    held: list[Route] = []
    page.route("**/htmx*.js", lambda route: held.append(route))
    page.goto(f"{server.url}/projects/shop/plan/", wait_until="commit")
    page.get_by_role("button", name="Submit for approval").click(no_wait_after=True)
    assert Plan.objects.get().status == Plan.Status.DRAFT
    held.pop().continue_()
    expect(page.locator("#decide")).to_contain_text("Waits for a maintainer")
    page.unroute("**/htmx*.js")


@pytest.mark.parametrize("width", [1280, 390])
def test_panels_that_come_late_move_nothing_under_a_press(server, page, shop, alice, width):
    enter(page, server, alice, "/projects/shop/plan/")
    page.set_viewport_size({"width": width, "height": 900})
    late = re.compile(r"/(readiness/panel|plan/estimates)/\?framed")
    held: list[Route] = []
    page.route(late, lambda route: held.append(route))
    for url, panels, stays in (("plan", 2, "#submit-plan"), ("board", 1, "#live")):
        page.goto(f"{server.url}/projects/shop/{url}/")
        expect(page.get_by_text("is being read.")).to_have_count(panels)
        before = page.locator(stays).bounding_box()
        while held:
            held.pop().continue_()
        expect(page.get_by_text("is being read.")).to_have_count(0)
        expect(page.locator("#readiness-open")).to_contain_text("points are ready")
        assert page.locator(stays).bounding_box() == before
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.unroute(late)


def test_approval_of_a_changed_plan_is_refused_with_what_changed(
    server, page, shop, alice, complaints
):
    plan = draft(shop)
    plans.plan_submit(plan, alice)
    enter(page, server, alice, "/projects/shop/plan/")
    expect(page.locator("#approve")).to_be_visible()
    deafen(page)
    plans.plan_withdraw(plan, alice)
    plans.plan_set(plan, alice, goal="Something else")
    plan.refresh_from_db()
    plans.plan_submit(plan, alice)
    page.locator("#approve").click()
    expect(page.get_by_role("alert").filter(has_text="Not approved")).to_contain_text("goal")
    assert Plan.objects.get().status == Plan.Status.SUBMITTED
    assert any("409" in complaint for complaint in complaints)
    complaints.clear()


def test_a_refused_press_says_why(server, page, shop, alice, complaints):
    enter(page, server, alice, "/projects/shop/plan/")
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#module-m1 summary").first.click()
    page.locator("#module-m1").get_by_role("button", name="Remove").click()
    expect(page.locator("#toast")).to_contain_text("m2 need")
    expect(page.locator("#module-m1")).to_be_visible()
    complaints.clear()  # The 422 itself.


def test_open_page_follows_what_others_do(server, page, shop, alice):
    enter(page, server, alice, "/projects/shop/plan/")
    page.locator("#module-m2 summary").first.click()
    expect(page.locator("#module-m2 dl")).to_be_visible()
    plans.contract_save(
        draft(shop), "m1", alice, {"title": "Quick", "owns": ["m1.py"], "checks": ["x"]}
    )
    expect(page.locator("#module-m1")).to_contain_text("Quick", timeout=3_000)
    # What a person opened stays open while the rest changes.
    expect(page.locator("#module-m2 dl")).to_be_visible()


def test_typed_text_and_focus_survive_changes(server, page, shop, alice):
    plan = draft(shop)
    plans.plan_submit(plan, alice)
    enter(page, server, alice, "/projects/shop/plan/")
    page.get_by_text("Reject…").click()
    page.get_by_label("What has to change?").fill("It is too")
    services.settings_set(project=shop, by=alice, goal="1")
    for number in range(3):
        with live.change(shop) as change:
            change.event("test.happened", plans.topic_of(plan), live.SYSTEM, number=number)
    shop.refresh_from_db()
    page.wait_for_function(
        f"() => Number(document.querySelector('#plan').dataset.v) >= {shop.event_count}"
    )
    page.keyboard.type(" large")
    expect(page.get_by_label("What has to change?")).to_have_value("It is too large")
    page.get_by_role("button", name="Reject", exact=True).click()
    expect(page.locator("#plan")).to_contain_text("It is too large")


def test_killed_server_is_said_and_caught_up_with(server, page, shop, alice, pardons):
    enter(page, server, alice, "/projects/shop/log/")
    until(lambda: page.evaluate("() => Number(document.querySelector('#events').dataset.v)") > 0)
    # The browser itself says that the server is away.
    pardons += ["ERR_CONNECTION", "WebSocket"]
    server.kill()
    expect(page.locator("#live-banner")).to_contain_text("Reconnecting", timeout=6_000)
    services.settings_set(project=shop, by=alice, goal="While nobody served")
    server.start()
    expect(page.locator("#events")).to_contain_text("project.settings", timeout=35_000)
    expect(page.locator("#live-banner")).to_be_hidden()


def test_page_that_shows_too_much_says_that_it_stands_still(server, page, shop, alice):
    enter(page, server, alice, "/projects/shop/log/")
    page.evaluate("() => { document.querySelector('#events').dataset.topic += 'x'.repeat(64000) }")
    page.evaluate("() => { document.dispatchEvent(new Event('htmx:afterSettle')) }")
    expect(page.locator("#live-banner")).to_contain_text("too much to follow")
    expect(page.locator("#live-banner").get_by_role("link", name="Reload")).to_be_visible()


def test_lost_membership_ends_the_page(server, page, shop, alice, pardons):
    bob = factories.user("bob")
    enter(page, server, bob, "/projects/shop/log/")
    expect(page.locator("#events")).to_be_visible()
    # Whether the page asks once more before its socket is closed is a matter of chance.
    pardons.append("404")
    services.member_set(project=shop, user=bob, role=None, by=alice)
    expect(page.locator("#live-banner")).to_contain_text("no longer have access", timeout=6_000)


def test_broken_plan_file_is_answered_with_lines(server, page, shop, alice, tmp_path, complaints):
    file = tmp_path / "tutti.yaml"
    file.write_text("version: 1\nmodules:\n- slug: m1\n  owned: [m1.py]\n")
    enter(page, server, alice, "/projects/shop/plan/upload/")
    page.get_by_label("Plan file").set_input_files(file)
    page.get_by_role("button", name="Replace the draft").click()
    expect(page.get_by_role("alert")).to_contain_text("line 4")
    complaints.clear()  # The 422 itself.


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_opens_without_a_complaint(server, page, shop, alice, shot, scheme):
    page.emulate_media(color_scheme=scheme)
    enter(page, server, alice, "/")
    for name in (
        "", "settings/", "settings/members/", "settings/policies/", "settings/instructions/",
        "settings/profiles/", "plan/", "plan/edit/", "plan/new-module/", "plan/upload/", "inbox/",
        "log/", "queue/",
    ):  # fmt: skip
        page.goto(f"{server.url}/projects/shop/{name}")
        expect(page.get_by_role("heading").first).to_be_visible()
        shot(f"{scheme}-{name.strip('/').replace('/', '-') or 'board'}")
    page.goto(f"{server.url}/projects/new/")
    shot(f"{scheme}-new")


def test_admin_opens_without_a_complaint(server, page, shop):
    root = User.objects.create_superuser("root")
    enter(page, server, root, "/admin/")
    for name in ("projects/event/", "projects/project/", "auth/user/", "reviews/review/"):
        page.goto(f"{server.url}/admin/{name}")
        expect(page.get_by_role("heading", name="Select")).to_be_visible()


def test_account_pages_wear_the_same_clothes(server, page, shop, alice):
    page.goto(f"{server.url}/accounts/password/reset/")
    expect(page.get_by_role("link", name="Tutti")).to_be_visible()
    page.goto(f"{server.url}/accounts/signup/")
    expect(page.get_by_role("heading", name="Accounts open by invitation")).to_be_visible()
    enter(page, server, alice, "/")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()
