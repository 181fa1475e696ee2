"""The plan's page: upload, forms, decisions."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile

from projects import plancontent, planfile
from projects.forms import join_lines, split_lines
from projects.models import Contract, Event, Module, Plan, Role
from projects.services import plans
from tests import factories
from tests.projects.pages import LIVE, PLAN, client_of, draft, text_of

URL = "/projects/shop/plan/"
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def shop(db, tutti_home, tmp_path):
    for name in ("alice", "bob", "mia"):
        User.objects.create(username=name)
    people = {"alice": Role.OWNER, "bob": Role.MEMBER, "mia": Role.MAINTAINER}
    made = factories.project("shop", people=people)
    source = factories.source_repository(tmp_path / "source", {"m1.py": "", "m2.py": ""})
    factories.hub(made, source)
    plans.plan_import(made, planfile.load(PLAN), factories.user("alice"))
    return made


@pytest.fixture
def bob(shop):
    return client_of(factories.user("bob"))


@pytest.fixture
def mia(shop):
    return client_of(factories.user("mia"))


def upload(client, text):
    raw = text if isinstance(text, bytes) else text.encode()
    return client.post(f"{URL}upload/", {"file": SimpleUploadedFile("tutti.yaml", raw)})


def form_of(**values):
    return {"title": "One", "owns": "m1.py", "checks": "true", "priority": "0", **values}


def seen(client, slug="m1"):
    page = client.get(f"{URL}modules/{slug}/edit/").content.decode()
    return page.split('name="seen" value="')[1].split('"')[0]


# --- Files -----------------------------------------------------------------------------------


def test_download_and_upload_round_trip(shop, bob):
    text = bob.get(f"{URL}tutti.yaml").content.decode()
    before = plancontent.plan_file(draft(shop))
    assert planfile.load(text) == before
    assert upload(bob, text).status_code == 302
    assert plancontent.plan_file(draft(shop)) == before


def test_unknown_key_is_answered_with_its_line(shop, bob):
    before = Event.objects.count()
    answer = upload(bob, PLAN.replace("  owns: [m2.py]", "  owned: [m2.py]"))
    assert answer.status_code == 422
    assert "line 14 modules[1].owned 'owned' is not a key here" in text_of(answer)
    assert Event.objects.count() == before


@pytest.mark.parametrize(
    "text", ["a: [", "- x\n\x00", b"version: 1\n\xff\xfe", "&a [*a]", "", "x" * 4_100_000, "[]"]
)
def test_no_plan_file_breaks_the_page(shop, bob, text):
    answer = upload(bob, text)
    assert answer.status_code in (302, 422)
    if answer.status_code == 422:
        assert "line" in text_of(answer) or "empty" in text_of(answer)


def test_upload_without_a_file_says_so(shop, bob):
    answer = bob.post(f"{URL}upload/")
    assert answer.status_code == 422 and "This field is required" in text_of(answer)


# --- A module's form -------------------------------------------------------------------------


def test_module_is_edited(shop, bob):
    values = form_of(
        seen=seen(bob), provides="m1.main()\ntext: a\n    second line", brief="Do\r\nit",
        need_module=["m2", ""], need_kind=["implementation", "contract"],
    )  # fmt: skip
    assert bob.post(f"{URL}modules/m1/edit/", values).status_code == 302
    module = plancontent.plan_dict(draft(shop))["modules"][0]
    assert module["provides"] == ["m1.main()", "text: a\nsecond line"]
    assert module["brief"] == "Do\nit"
    assert module["needs"] == [{"module": "m2", "kind": "implementation"}]


def test_edit_of_a_module_that_somebody_saved_keeps_both(shop, bob):
    old = seen(bob)
    plan = draft(shop)
    plans.contract_save(plan, "m1", factories.user("alice"), {"title": "Hers", "owns": ["m1.py"]})
    answer = bob.post(f"{URL}modules/m1/edit/", form_of(seen=old, title="His"))
    assert answer.status_code == 409
    assert "Somebody saved this module" in text_of(answer) and "Hers" in text_of(answer)
    assert 'value="His"' in answer.content.decode()
    again = answer.content.decode().split('name="seen" value="')[1].split('"')[0]
    form = form_of(seen=again, title="His")
    assert bob.post(f"{URL}modules/m1/edit/", form).status_code == 302
    assert Contract.objects.get(module__slug="m1").title == "His"


def test_edit_of_another_module_does_not_get_in_the_way(shop, bob):
    old = seen(bob)
    plan = draft(shop)
    plans.contract_save(plan, "m2", factories.user("alice"), {"title": "Two", "owns": ["m2.py"]})
    assert bob.post(f"{URL}modules/m1/edit/", form_of(seen=old)).status_code == 302


def test_module_is_added_and_removed(shop, bob):
    assert bob.post(f"{URL}new-module/", form_of(slug="m3")).status_code == 302
    assert Module.objects.filter(slug="m3").exists()
    answer = bob.post(f"{URL}modules/m3/remove/", **HTMX)
    assert answer.status_code == 200 and answer["HX-Redirect"] == URL
    assert not Module.objects.filter(slug="m3").exists()


def test_duplicate_name_stays_in_the_form(shop, bob):
    answer = bob.post(f"{URL}new-module/", form_of(slug="m1", title="Kept text"))
    assert answer.status_code == 422
    assert "There is a module m1 already" in text_of(answer)
    assert "Kept text" in answer.content.decode()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"slug": "Bad Name"}, "Use small letters"),
        ({"slug": "m9", "need_module": ["nobody"], "need_kind": ["contract"]}, "nobody"),
        ({"slug": "m9", "need_module": ["m1"], "need_kind": ["nonsense"]}, "needs"),
        ({"slug": "m9", "priority": "9999"}, "1000"),
        ({"slug": "m9", "title": "a\x00b"}, "Null characters"),
    ],
)
def test_bad_field_is_named(shop, bob, values, words):
    answer = bob.post(f"{URL}new-module/", form_of(**values))
    assert answer.status_code == 422 and words in text_of(answer)


def test_module_is_not_needed_twice(shop, bob):
    twice = {"need_module": ["m2", "m2"], "need_kind": ["implementation", "contract"]}
    answer = bob.post(f"{URL}modules/m1/edit/", form_of(seen=seen(bob), **twice))
    assert answer.status_code == 422 and "m2 is needed twice" in text_of(answer)


def test_title_is_kept_short_enough_when_its_marks_become_visible(shop, bob):
    title = "\u202e" * 100
    assert (
        bob.post(f"{URL}modules/m1/edit/", form_of(seen=seen(bob), title=title)).status_code == 302
    )
    assert len(Contract.objects.get(module__slug="m1").title) == 200


def test_module_that_others_need_is_not_removed(shop, bob):
    answer = bob.post(f"{URL}modules/m1/remove/", **HTMX)
    assert answer.status_code == 422
    assert answer.content.decode() == "m2 need m1. Change what they need first."


def test_validation_while_typing_writes_nothing(shop, bob):
    before = Event.objects.count()
    answer = bob.post(f"{URL}validate/", form_of(module="m1", owns="m1.py\n../x\nm2.py"), **HTMX)
    assert "lies outside the repository" in text_of(answer)
    assert "both own m2.py" in text_of(answer)
    assert Event.objects.count() == before


def test_validation_of_a_good_form_says_so(shop, bob):
    values = form_of(module="m1", provides="m1.main()")
    assert "Nothing is wrong" in text_of(bob.post(f"{URL}validate/", values, **HTMX))


def test_lines_round_trip():
    entries = ["a", "b\nc\n\nd", "text: x"]
    assert split_lines(join_lines(entries)) == entries
    assert split_lines("\r\n a \r\n\r\n") == ["a"]


# --- For all modules -------------------------------------------------------------------------


def whole(plan, **values):
    return {
        "version": plan.version, "goal": "New goal", "instructions": "", "review": "both",
        "coupling": "apply", "split_depth": 0, "split_modules": 2, "exceptions_allow": "docs/**",
        "fix_lines": 5, "attempts": 2, "check_run": ["true", " "], "check_at": ["merge", "end"],
        **values,
    }  # fmt: skip


def test_plan_as_a_whole_is_edited(shop, bob):
    plan = draft(shop)
    assert bob.post(f"{URL}edit/", whole(plan)).status_code == 302
    plan.refresh_from_db()
    assert plan.goal == "New goal" and plan.checks == [{"run": "true", "at": "merge"}]
    assert plan.policies == {
        "review": "both", "coupling": "apply", "split": {"depth": 0, "modules": 2},
        "exceptions": {"allow": ["docs/**"]}, "fix_lines": 5, "attempts": 2,
    }  # fmt: skip


def test_stale_edit_of_the_plan_keeps_the_form(shop, bob):
    plan = draft(shop)
    answer = bob.post(f"{URL}edit/", whole(plan, version=plan.version - 1))
    assert answer.status_code == 409 and "New goal" in answer.content.decode()
    assert Plan.objects.get().goal == plan.goal


@pytest.mark.parametrize(
    "values, words",
    [
        ({"goal": "a\x0bb"}, "no text may hold (U+000B)"),
        ({"instructions": "a\x0cb"}, "no text may hold (U+000C)"),
        ({"check_run": "x" * 4001}, "at most 4000"),
        ({"check_run": ["true"] * 101, "check_at": ["end"] * 101}, "at most 100 items"),
        ({"check_at": "never"}, "'merge' or 'end'"),
    ],
)
def test_plan_as_a_whole_holds_what_its_file_may(shop, bob, values, words):
    answer = bob.post(f"{URL}edit/", {**whole(draft(shop)), **values})
    assert answer.status_code == 422 and words in text_of(answer)
    assert bob.get(f"{URL}tutti.yaml").status_code == 200
    assert bob.post(f"{URL}submit/", **HTMX)["HX-Redirect"] == URL


# --- What the page says ----------------------------------------------------------------------


def test_page_says_why_not_more_parallel(shop, bob):
    page = text_of(bob.get(URL))
    assert "2 of 2 modules can start at once." in page
    assert "Nothing runs until a maintainer approves" in page


def test_problems_are_shown_by_module(shop, bob):
    plans.contract_save(draft(shop), "m1", factories.user("bob"), {"owns": ["x/*"]})
    page = text_of(bob.get(URL))
    assert "What keeps it from being submitted" in page
    assert "'x/*' matches no tracked file" in page and "has no checks" in page


def test_circle_of_needs_does_not_break_the_page(shop, bob):
    values = {"owns": ["m1.py"], "needs": [{"module": "m2", "kind": "implementation"}]}
    plan = draft(shop)
    plans.contract_save(plan, "m1", factories.user("bob"), values)
    values = {"owns": ["m2.py"], "needs": [{"module": "m1", "kind": "implementation"}]}
    plans.contract_save(plan, "m2", factories.user("bob"), values)
    page = text_of(bob.get(URL))
    assert "need each other in a circle" in page and "Can be said once" in page


def test_project_without_a_plan_offers_one(shop, bob):
    factories.project("empty", people={"bob": Role.MEMBER})
    assert "There is no plan yet" in text_of(bob.get("/projects/empty/plan/"))
    bob.post("/projects/empty/plan/draft/")
    assert Plan.objects.filter(project__slug="empty", status="draft").exists()


def test_text_of_people_is_escaped(shop, bob):
    values = {"title": "<script>alert(1)</script>", "owns": ["<b>"], "brief": "<img src=x>"}
    plans.contract_save(draft(shop), "m1", factories.user("bob"), values)
    html = bob.get(URL).content.decode()
    assert "<script>alert" not in html and "<img src=x>" not in html


# --- Decisions -------------------------------------------------------------------------------


def submit(shop):
    plan = draft(shop)
    plans.plan_submit(plan, factories.user("bob"))
    return plan


def test_plan_with_problems_is_not_submitted(shop, bob):
    plans.contract_save(draft(shop), "m1", factories.user("bob"), {"owns": ["m1.py"]})
    answer = bob.post(f"{URL}submit/", **HTMX)
    assert answer.status_code == 422
    assert "m1, checks: has no checks" in answer.content.decode()


def test_submit_and_approve(shop, bob, mia):
    assert bob.post(f"{URL}submit/", **HTMX)["HX-Redirect"] == URL
    plan = draft(shop)
    answer = mia.post(f"{URL}approve/", {"digest": plan.digest}, **HTMX)
    assert answer["HX-Redirect"] == "/projects/shop/"
    plan.refresh_from_db()
    assert plan.status == Plan.Status.APPROVED and plan.decided_by == factories.user("mia")


def test_approving_twice_is_once(shop, mia):
    plan = submit(shop)
    for _ in range(2):
        assert mia.post(f"{URL}approve/", {"digest": plan.digest}).status_code == 302
    assert Event.objects.filter(kind="plan.approved").count() == 1


def test_approval_of_another_digest_shows_what_changed(shop, mia):
    plan = submit(shop)
    shop.refresh_from_db()
    old, number = plan.digest, shop.event_count
    plans.plan_withdraw(plan, factories.user("bob"))
    plans.plan_set(plan, factories.user("bob"), goal="Another")
    plan.refresh_from_db()
    plans.plan_submit(plan, factories.user("bob"))
    answer = mia.post(f"{URL}approve/", {"digest": old, "seen": number}, **HTMX)
    assert answer.status_code == 409
    said = text_of(answer)
    assert "Not approved." in said and "person:bob: plan.edited goal" in said
    plan.refresh_from_db()
    assert plan.status == Plan.Status.SUBMITTED and plan.digest in answer.content.decode()


@pytest.mark.parametrize("digest", ["", "x", "0" * 64])
def test_approval_without_the_digest_is_refused(shop, mia, digest):
    submit(shop)
    assert mia.post(f"{URL}approve/", {"digest": digest, "seen": "²"}).status_code == 409
    assert not Plan.objects.filter(status="approved").exists()


def test_rejection_needs_a_reason_and_shows_it(shop, bob, mia):
    submit(shop)
    assert mia.post(f"{URL}reject/", {"reason": " "}, **HTMX).status_code == 422
    assert mia.post(f"{URL}reject/", {"reason": "Too large"}, **HTMX).status_code == 200
    assert "person:mia rejected it: Too large" in text_of(bob.get(URL))


def test_withdrawn_plan_is_a_draft_again(shop, bob):
    submit(shop)
    bob.post(f"{URL}withdraw/")
    assert draft(shop).status == Plan.Status.DRAFT


def test_submitted_plan_has_no_forms(shop, bob):
    submit(shop)
    assert bob.get(f"{URL}modules/m1/edit/").status_code == 404
    assert bob.post(f"{URL}edit/", whole(draft(shop))).status_code == 422
    assert upload(bob, PLAN).status_code == 422


def test_next_plan_shows_its_difference_by_field(shop, bob, mia):
    plan = submit(shop)
    plans.plan_approve(plan, factories.user("mia"), plan.digest)
    assert bob.post(f"{URL}draft/", **HTMX).status_code == 200
    copy = draft(shop)
    values = plancontent.plan_dict(copy)["modules"][0]
    values = {**values, "title": "Renamed", "lane": ""}
    values.pop("slug")
    plans.contract_save(copy, "m1", factories.user("bob"), values)
    html = bob.get(URL).content.decode()
    assert "Difference to plan 1" in html
    assert '<div class="was">The first</div>' in html
    assert '<div class="now-is">Renamed</div>' in html
    assert "Plan 1" in text_of(bob.get(f"{URL}1/"))


def test_inbox_asks_who_may_approve(shop, bob, mia):
    submit(shop)
    assert "Needs you (1)" in text_of(mia.get(URL))
    assert "Needs you (1)" not in text_of(bob.get(URL))
    assert "Plan 1 of Shop waits for approval" in text_of(mia.get("/projects/shop/inbox/"))
    assert "Nothing waits for you" in text_of(bob.get("/projects/shop/inbox/"))
    assert 'data-count="1"' in mia.get("/projects/shop/inbox/count/", **LIVE).content.decode()


def test_ceiling_of_a_file_is_left_to_the_owner(shop, bob):
    text = PLAN.replace("goal: Sell things.", "goal: Sell things., ceiling: 9")
    answer = upload(bob, text)
    assert "wants a ceiling of 9" in text_of(bob.get(answer["Location"]))
    shop.refresh_from_db()
    assert shop.ceiling == 5
