"""Projects, people, settings and the log, page by page."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.utils import timezone

from projects import live
from projects.models import Event, Instruction, Membership, Plan, Project, Role
from projects.services import projects as services
from projects.services.attention import attention_close, attention_open
from tests import factories
from tests.projects.pages import LIVE, PLAN, client_of, text_of
from tests.wait import until


@pytest.fixture
def shop(db):
    for name in ("alice", "bob"):
        User.objects.create(username=name)
    return factories.project("shop", people={"alice": Role.OWNER, "bob": Role.MEMBER})


@pytest.fixture
def alice(shop):
    return client_of(factories.user("alice"))


@pytest.fixture
def bob(shop):
    return client_of(factories.user("bob"))


@pytest.fixture
def dora(db):
    return client_of(User.objects.create(username="dora"))


# --- Projects --------------------------------------------------------------------------------


def test_list_shows_own_projects_only(shop, bob):
    factories.project("secret", people={"alice": Role.OWNER})
    page = text_of(bob.get("/"))
    assert "Shop" in page and "Secret" not in page


def test_person_without_projects_is_told_what_to_do(shop, dora):
    assert "You are in no project yet" in text_of(dora.get("/"))


def new(client, **values):
    return client.post("/projects/new/", {"name": "Fresh", **values})


def test_project_is_made_of_a_repository_and_a_plan(db, dora, tutti_home, tmp_path):
    source = factories.source_repository(tmp_path / "source", {"m1.py": "", "m2.py": ""})
    file = SimpleUploadedFile("tutti.yaml", PLAN.replace("Shop,", "Shop, ceiling: 3,").encode())
    answer = new(dora, source=str(source), plan=file)
    assert answer.status_code == 302 and answer["Location"] == "/projects/fresh/plan/"
    made = Project.objects.get(slug="fresh")
    assert (made.ceiling, made.goal, made.modules.count()) == (3, "Sell things.", 2)
    assert Membership.objects.get(project=made).role == Role.OWNER
    assert "Plan 1" in text_of(dora.get(answer["Location"]))


def test_project_without_a_plan_file_begins_with_a_draft(db, dora, tutti_home, tmp_path):
    source = factories.source_repository(tmp_path / "source", {"a.py": ""})
    goal = "Sell more.\r\nSoon."
    assert new(dora, source=str(source), goal=goal).status_code == 302
    plan = Plan.objects.get()
    assert (plan.status, plan.goal, plan.project.goal) == ("draft", *2 * ["Sell more.\nSoon."])
    page = text_of(dora.get("/projects/fresh/plan/"))
    assert "Ask the orchestrator for a plan" in page and "can propose them" not in page
    Plan.objects.update(goal="")
    assert "can propose them" in text_of(dora.get("/projects/fresh/plan/"))


NO_URLS = ["ssh://[::1/x", "https://example.org:99999/x"]
NO_PATHS = ["/nowhere/at/all", "ext::sh -c id", "--upload-pack=x", "-", "{root}/" + "a" * 300]


@pytest.mark.parametrize("source", [*NO_URLS, *NO_PATHS])
def test_bad_source_is_refused_in_the_form(db, dora, tutti_home, tmp_path, source):
    answer = new(dora, source=source.replace("{root}", str(tmp_path)))
    assert answer.status_code == 422
    assert 'role="alert"' in answer.content.decode() and "Fresh" in answer.content.decode()
    assert not Project.objects.exists()


def test_project_is_not_named_like_the_form_for_a_new_one(db, dora, tutti_home, tmp_path):
    source = factories.source_repository(tmp_path / "source", {"a.py": ""})
    answer = new(dora, name="New", source=str(source))
    assert answer.status_code == 422 and "Choose another name" in text_of(answer)
    assert not Project.objects.exists()


def test_bad_plan_file_makes_no_project(db, dora, tutti_home, tmp_path):
    source = factories.source_repository(tmp_path / "source", {"a.py": ""})
    file = SimpleUploadedFile("tutti.yaml", b"version: 1\nmodulse: []\n")
    answer = new(dora, source=str(source), plan=file)
    assert answer.status_code == 422 and "line 2" in text_of(answer)
    assert not Project.objects.exists()


def test_plan_that_can_not_be_had_leaves_no_half_made_project(db, dora, tutti_home, tmp_path):
    source = factories.source_repository(tmp_path / "source", {"m1.py": "", "m2.py": ""})
    for bad in (
        PLAN.replace("{module: m1,", "{module: gone,"),
        PLAN.replace("Shop,", "Shop, ceiling: 900,"),
    ):
        plan = SimpleUploadedFile("tutti.yaml", bad.encode())
        assert new(dora, source=str(source), plan=plan).status_code == 422
        assert not Project.objects.exists() and not list(tutti_home.glob("hubs/*"))
    plan = SimpleUploadedFile("tutti.yaml", PLAN.encode())
    assert new(dora, source=str(source), plan=plan).status_code == 302


def test_pause_and_resume_go_back_to_where_the_button_was(shop, alice):
    answer = alice.post("/projects/shop/pause/", {"next": "/projects/shop/settings/"})
    assert answer["Location"] == "/projects/shop/settings/"
    assert "Paused since" in text_of(alice.get(answer["Location"]))
    answer = alice.post("/projects/shop/resume/", {"next": "https://evil.example/"})
    assert answer["Location"] == "/projects/shop/"


# --- People ----------------------------------------------------------------------------------


def test_login_link_signs_in_by_post_only(shop, client):
    user = factories.user("bob")
    token = services.login_link_create(user=user, next_url="/projects/shop/log/")
    url = f"/login/once/{token}/"
    assert "Sign in as bob" in text_of(client.get(url))
    assert "_auth_user_id" not in client.session
    answer = client.post(url)
    assert answer["Location"] == "/projects/shop/log/"
    assert client.session["_auth_user_id"] == str(user.pk)
    assert client.post(url).status_code == 410


def test_login_link_leads_to_this_site_only(shop, client):
    token = services.login_link_create(user=factories.user("bob"), next_url="//evil.example/")
    assert client.post(f"/login/once/{token}/")["Location"] == "/"


def test_login_link_of_a_deactivated_person_does_not_work(shop, client):
    token = services.login_link_create(user=factories.user("bob"))
    User.objects.filter(username="bob").update(is_active=False)
    assert client.get(f"/login/once/{token}/").status_code == 410
    assert client.post(f"/login/once/{token}/").status_code == 410


def test_invitation_is_shown_once_and_joins_once(shop, alice, dora):
    page = alice.post("/projects/shop/settings/invitations/", {"role": "viewer"})
    assert "no-store" in page["Cache-Control"]
    url = page.content.decode().split("http://testserver")[1].split('"')[0]
    assert "invites you as viewer" in text_of(dora.get(url))
    assert Membership.objects.count() == 2
    assert dora.post(url)["Location"] == "/projects/shop/"
    assert Membership.objects.get(user__username="dora").role == Role.VIEWER
    assert dora.post(url).status_code == 409
    assert url not in text_of(alice.get("/projects/shop/settings/members/"))


def test_unknown_invitation_tells_nothing(shop, dora):
    answer = dora.get("/invitations/nonsense/")
    assert answer.status_code == 404 and "Shop" not in text_of(answer)


def test_invitation_of_a_stranger_offers_to_sign_in(shop, client):
    token = services.invitation_create(project=shop, role="member", by=factories.user("alice"))
    page = client.get(f"/invitations/{token}/")
    assert "Sign in to join" in text_of(page)
    assert client.post(f"/invitations/{token}/").status_code == 200
    assert Membership.objects.count() == 2


def invite(project, user, role="owner"):
    return f"/invitations/{services.invitation_create(project=project, role=role, by=user)}/"


@pytest.mark.parametrize("role", [None, "maintainer"])
def test_invitations_end_with_the_ownership_of_who_made_them(shop, dora, role):
    bob, maker = factories.user("bob"), factories.user("alice")
    services.member_set(project=shop, user=bob, role="owner", by=maker)
    url = invite(shop, bob)
    services.member_set(project=shop, user=bob, role=role, by=maker)
    event = Event.objects.get(kind="member.uninvited")
    assert (event.actor, event.data["invited_by"]) == ("person:alice", "bob")
    assert dora.get(url).status_code == 404 and dora.post(url).status_code == 409
    assert client_of(bob).post(url).status_code == 409
    assert not Membership.objects.filter(user=bob, role="owner").exists()


@pytest.mark.parametrize(
    "end",
    [
        lambda shop: Membership.objects.filter(user__username="alice").update(role="member"),
        lambda shop: User.objects.filter(username="alice").update(is_active=False),
        lambda shop: Project.objects.update(archived_at=timezone.now()),
    ],
    ids=["demoted", "deactivated", "archived"],
)
def test_invitation_needs_a_project_and_an_owner_behind_it(shop, dora, end):
    url = invite(shop, factories.user("alice"))
    Membership.objects.filter(user__username="bob").update(role="owner")
    end(shop)
    assert dora.get(url).status_code == 404 and dora.post(url).status_code == 409
    assert not Membership.objects.filter(user__username="dora").exists()


def test_withdrawn_invitation_admits_nobody(shop, alice, dora):
    url = invite(shop, factories.user("alice"), "member")
    page = alice.get("/projects/shop/settings/members/").content.decode()
    action = page.split("/withdraw/")[0].split('action="')[-1] + "/withdraw/"
    assert alice.post(action)["Location"] == "/projects/shop/settings/members/"
    assert dora.post(url).status_code == 409
    assert Event.objects.get(kind="member.uninvited").data["role"] == "member"
    assert alice.post(action, HTTP_HX_REQUEST="true").status_code == 409


def test_owner_sets_roles(shop, alice):
    pk = factories.user("bob").pk
    alice.post(f"/projects/shop/settings/members/{pk}/", {"role": "maintainer"})
    assert Membership.objects.get(user=pk).role == Role.MAINTAINER
    alice.post(f"/projects/shop/settings/members/{pk}/", {"role": "none"})
    assert not Membership.objects.filter(user=pk).exists()


def test_last_owner_stays(shop, alice):
    pk = factories.user("alice").pk
    answer = alice.post(f"/projects/shop/settings/members/{pk}/", {"role": "none"}, follow=True)
    assert "at least one owner" in text_of(answer)
    assert Membership.objects.get(user=pk).role == Role.OWNER


@pytest.mark.parametrize("role", ["", "king", "OWNER"])
def test_unknown_role_is_refused(shop, alice, role):
    pk = factories.user("bob").pk
    url = f"/projects/shop/settings/members/{pk}/"
    assert alice.post(url, {"role": role}).status_code == 422
    assert alice.post("/projects/shop/settings/invitations/", {"role": role}).status_code == 422


# --- Settings --------------------------------------------------------------------------------


def seen_of(page):
    return page.content.decode().split('name="seen" value="')[1].split('"')[0]


def general(client, **values):
    """Save the general settings as whoever just opened them."""
    seen = seen_of(client.get("/projects/shop/settings/"))
    old = {"name": "Shop", "goal": "", "default_branch": "main", "environment": "", "seen": seen}
    return client.post("/projects/shop/settings/", old | values)


def test_general_settings_are_saved_with_before_and_after(shop, alice):
    values = {"name": "New", "goal": "More", "default_branch": "trunk", "environment": ""}
    assert general(alice, **values).status_code == 302
    data = Event.objects.get(kind="project.settings").data
    assert data["before"]["name"] == "Shop" and data["after"]["name"] == "New"


def test_environment_that_is_none_stays_in_the_form(shop, alice):
    answer = general(alice, name="New", environment="/nowhere")
    assert answer.status_code == 422 and "no virtual environment" in text_of(answer)
    assert Project.objects.get().name == "Shop"


def test_environment_that_can_not_be_read_stays_in_the_form(shop, alice):
    answer = general(alice, environment="/" + "a" * 300)
    assert answer.status_code == 422 and "can't be read: File name too long." in text_of(answer)


@pytest.mark.parametrize("goal", ["x" * 50_001, "\u202e" * 10_000])
def test_goal_longer_than_a_plan_may_have_is_refused(shop, alice, goal):
    answer = general(alice, goal=goal)
    assert answer.status_code == 422 and "at most 50000" in text_of(answer)


def test_controls_of_a_goal_become_visible(shop, alice):
    assert general(alice, name="a\x0cb", goal="from\x0bWord").status_code == 302
    made = Project.objects.get()
    assert (made.name, made.goal) == ("a␌b", "from␋Word")


def test_settings_that_somebody_saved_meanwhile_are_not_put_back(shop, alice):
    seen = seen_of(alice.get("/projects/shop/settings/"))
    services.settings_set(project=shop, by=factories.user("bob"), goal="Another")
    wrong = general(alice, name="", seen=seen)
    assert wrong.status_code == 422 and seen_of(wrong) == seen
    answer = general(alice, name="Mine", seen=seen)
    assert answer.status_code == 409 and "Somebody changed these settings" in text_of(answer)
    assert "By now it is: Another" in text_of(answer) and "Mine" in answer.content.decode()
    assert Project.objects.get().goal == "Another"
    assert general(alice, name="Mine", goal="Another", seen=seen_of(answer)).status_code == 302
    assert Project.objects.get().name == "Mine"


def test_policies_that_somebody_saved_meanwhile_are_not_put_back(shop, alice):
    url = "/projects/shop/settings/policies/"
    form = {
        "review": "orchestrator", "coupling": "show", "split_depth": 1, "split_modules": 4,
        "fix_lines": 20, "attempts": 5, "seen": seen_of(alice.get(url)),
    }  # fmt: skip
    assert alice.post(url, form | {"review": "both"}).status_code == 302
    answer = alice.post(url, form)
    assert answer.status_code == 409 and "By now it is: both" in text_of(answer)
    assert alice.post(url, form | {"seen": seen_of(answer)}).status_code == 302
    assert Project.objects.get().policies["review"] == "orchestrator"


@pytest.mark.parametrize("ceiling", ["0", "-1", "21", "x", ""])
def test_impossible_ceiling_is_refused(shop, alice, ceiling):
    answer = alice.post("/projects/shop/settings/ceiling/", {"ceiling": ceiling})
    assert answer.status_code == 422
    assert Project.objects.get().ceiling == 5


def test_ceiling_is_set(shop, alice):
    assert alice.post("/projects/shop/settings/ceiling/", {"ceiling": "7"}).status_code == 302
    assert Project.objects.get().ceiling == 7


def test_instructions_of_project_and_role(shop, alice):
    url = "/projects/shop/settings/instructions/"
    assert "Parallelize when possible." in text_of(alice.get(url))
    alice.post(url, {"text": "Be kind.", "role": ""})
    alice.post(url, {"text": "Write few tests.", "role": "planner"})
    assert "Be kind." in text_of(alice.get(url)) and "Write few tests." in text_of(alice.get(url))
    assert Instruction.objects.filter(project=shop).count() == 2
    assert alice.post(url, {"text": "x", "role": "king"}).status_code == 422


def test_site_instructions_are_the_admins(shop, alice):
    assert alice.get("/site/instructions/").status_code == 403
    root = client_of(User.objects.create_superuser("root", password="x"))
    assert root.post("/site/instructions/", {"text": "All: be kind."}).status_code == 302
    assert "All: be kind." in text_of(alice.get("/projects/shop/settings/instructions/"))


@pytest.mark.parametrize("role", ["", "planner"])
def test_too_long_instructions_stay_in_the_form(shop, alice, role):
    url = "/projects/shop/settings/instructions/"
    answer = alice.post(url, {"text": "Be kind.\r\n" * 6_000, "role": role})
    assert answer.status_code == 422 and "at most 50000" in text_of(answer)
    assert "Be kind." in answer.content.decode() and not Instruction.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("slug", ["shop", None])
def test_instructions_saved_at_once_are_two_versions(slug):
    alice = factories.user("alice")
    shop = factories.project(slug, people={"alice": Role.OWNER}) if slug else None

    def save():
        try:
            return services.instruction_set(text="B", by=alice, project=shop).version
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            services.instruction_set(text="A", by=alice, project=shop)
            other = pool.submit(save)
            until(waits_for_a_lock)
        assert other.result() == 2


def waits_for_a_lock():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
        return cursor.fetchone()


def test_too_long_site_instructions_stay_in_the_form(shop):
    root = client_of(User.objects.create_superuser("root", password="x"))
    answer = root.post("/site/instructions/", {"text": "Be kind.\r\n" * 6_000})
    assert answer.status_code == 422 and "Be kind." in answer.content.decode()


def test_ends_of_lines_count_once(shop, alice):
    url = "/projects/shop/settings/instructions/"
    assert alice.post(url, {"text": "Be.\r\n" * 12_000, "role": ""}).status_code == 302
    assert Instruction.objects.get().text == ("Be.\n" * 12_000).strip()


# --- Inbox and log ---------------------------------------------------------------------------


def test_inbox_holds_what_the_role_may_answer(shop, alice, bob):
    for role in ("member", "maintainer"):
        attention_open(shop, topic=f"{shop.topic}/x/{role}", kind="q", title=f"For {role}s",
                       url="/projects/shop/", role=role)  # fmt: skip
    attention_open(shop, topic=f"{shop.topic}/x/9", kind="q", title="For alice alone",
                   url="/projects/shop/", user=factories.user("alice"))  # fmt: skip
    page = text_of(bob.get("/projects/shop/inbox/"))
    assert "For members" in page and "For maintainers" not in page and "alone" not in page
    page = text_of(alice.get("/projects/shop/inbox/"))
    assert "For maintainers" in page and "alone" in page and "Needs you (3)" in page


@pytest.fixture
def events(shop):
    with live.change(shop) as change:
        for number in range(1, 251):
            topic = f"{shop.topic}/module/{number % 3}"
            change.event(f"test.kind{number % 2}", topic, live.SYSTEM, number=number, said="=1+1")


def test_the_longest_user_name_is_in_the_record(shop, bob):
    by = live.Actor.person(User.objects.create(username="u" * 150))
    attention_open(shop, topic=shop.topic, kind="q", title="Who?", url="/projects/shop/")
    attention_close(shop, topic=shop.topic, by=by)
    with transaction.atomic():
        site = live.site_event("test.kind", live.SITE, by)
    closed = shop.attentions.get().closed_by
    assert closed == site.actor == shop.events.get(kind="attention.closed").actor == by.name
    assert by.name in text_of(bob.get("/projects/shop/log/"))


def test_log_is_paged_by_number(shop, events, bob):
    page = bob.get("/projects/shop/log/").content.decode()
    assert 'id="event-250"' in page and 'id="event-150"' not in page
    assert "before=151" in page
    older = bob.get("/projects/shop/log/?before=151").content.decode()
    assert 'id="event-150"' in older and "data-src" not in older.split('id="events"')[1][:200]


def test_log_is_filtered_by_its_address(shop, events, bob):
    url = f"/projects/shop/log/?kind=test.kind1&topic={shop.topic}/module/2"
    page = bob.get(url).content.decode()
    assert 'id="event-245"' in page and 'id="event-244"' not in page
    fragment = bob.get(url, **LIVE).content.decode()
    assert 'id="event-245"' in fragment and 'id="event-244"' not in fragment


NONSENSE = ["before=x", "before=-1", "before=²", "before=" + "9" * 40, "topic=' OR 1=1"]


@pytest.mark.parametrize("query", [*NONSENSE, "actor=" + "x" * 5000])
def test_nonsense_in_the_address_is_harmless(shop, events, bob, query):
    assert bob.get(f"/projects/shop/log/?{query}").status_code == 200


@pytest.mark.parametrize(
    "path, status",
    [
        ("modules/a%00b/", 404),
        ("plan/modules/%00/edit/", 404),
        ("log/?kind=%00", 400),
        ("runs/?module=a%00b", 400),
        ("log/?kind=%2500", 200),
    ],
)
def test_address_with_a_nul_leads_nowhere(shop, bob, path, status):
    assert bob.get(f"/projects/shop/{path}").status_code == status


def test_log_is_taken_along(shop, events, bob):
    lines = bob.get("/projects/shop/log/events.jsonl?kind=test.kind1").content.decode()
    rows = [json.loads(line) for line in lines.splitlines()]
    assert len(rows) == 125 and rows[0]["number"] == 249 and rows[0]["hash"]
    table = bob.get("/projects/shop/log/events.csv").content.decode().splitlines()
    assert len(table) == 251 and table[0].startswith("number,at,actor,kind,topic,data")
    assert bob.get("/projects/shop/log/events.exe").status_code == 404
