from __future__ import annotations

import pytest
from django.test import Client

from projects import plancontent, planfile
from projects.models import Event, Plan
from projects.services import plans
from tests import factories as make


@pytest.fixture
def shop(db, tutti_home):
    return make.project(people={"alice": "owner", "mia": "maintainer", "bob": "member"})


@pytest.fixture
def hub(shop, tmp_path):
    files = {"m1.py": "a = 1\n", "m2.py": "b = 1\n", "tests/test_m1.py": "", "tests/test_m2.py": ""}
    return make.hub(shop, make.source_repository(tmp_path / "team", files))


def get(path, name="bob", **query):
    client = Client()
    client.force_login(make.user(name))
    return client.get(f"/api/projects{path}", query)


def post(path, body=None, name="mia"):
    client = Client()
    client.force_login(make.user(name))
    return client.post(f"/api/projects{path}", body or {}, content_type="application/json")


def test_anonymous_is_told_to_sign_in():
    answer = Client().get("/api/projects")
    assert answer.status_code == 401
    assert answer.json()["message"].startswith("Sign in")


def test_list_holds_only_ones_own(shop):
    make.project("secret", people={"charlie": "owner"})
    assert [row["slug"] for row in get("").json()] == ["shop"]
    assert get("").json()[0]["role"] == "member"


def test_stranger_gets_404_in_the_one_shape(shop):
    answer = get("/shop", "charlie")
    assert answer.status_code == 404
    assert set(answer.json()) == {"message", "problems"}
    assert answer.json() == get("/no-such-project", "charlie").json()


def test_low_role_gets_403_with_the_sentence(shop):
    answer = post("/shop/pause", name="bob")
    assert answer.status_code == 403
    assert "maintainer" in answer.json()["message"]


def test_project_is_paused_and_resumed(shop):
    assert post("/shop/pause").status_code == 200
    assert get("/shop").json()["paused_at"] is not None
    assert post("/shop/resume").status_code == 200
    assert get("/shop").json()["paused_at"] is None


def test_write_without_the_token_is_403(shop):
    client = Client(enforce_csrf_checks=True)
    client.force_login(make.user("mia"))
    answer = client.post("/api/projects/shop/pause", {}, content_type="application/json")
    assert answer.status_code == 403
    assert set(answer.json()) == {"message", "problems"}


# --- Plans ---------------------------------------------------------------------------------------


def test_plan_is_given_as_its_file(shop, hub):
    made = make.submitted_plan(shop, make.user("bob"))
    given = get("/shop/plans/1").json()
    assert given["digest"] == made.digest
    assert planfile.PlanFile.model_validate(given["file"]) == plancontent.plan_file(made)


def test_draft_says_what_keeps_it_from_being_submitted(shop, hub):
    made = plans.plan_draft(shop, make.user("bob"))
    values = {"owns": ["m1.py"], "tests": ["tests/"], "checks": []}
    plans.contract_save(made, "m1", make.user("bob"), values, create=True)
    problems = get("/shop/plans/1").json()["problems"]
    assert {(found["module"], found["field"]) for found in problems} == {("m1", "checks")}


def test_approval_takes_the_digest_that_was_read(shop, hub):
    made = make.submitted_plan(shop, make.user("bob"))
    answer = post("/shop/plans/1/approve", {"digest": "0" * 64})
    assert answer.status_code == 409
    assert post("/shop/plans/1/approve", {"digest": made.digest}).status_code == 200
    assert Plan.objects.get().status == "approved"
    assert {row["status"] for row in get("/shop/modules").json()} == {"waiting"}


def test_approving_twice_is_once(shop, hub):
    made = make.submitted_plan(shop, make.user("bob"))
    for _ in range(2):
        assert post("/shop/plans/1/approve", {"digest": made.digest}).status_code == 200
    assert Event.objects.filter(kind="plan.approved").count() == 1


@pytest.mark.parametrize(
    "body", [{}, {"digest": ""}, {"digest": 7}, {"digest": "x", "force": True}, [], '"x"', None]
)
def test_malformed_approval_is_422_in_the_one_shape(shop, hub, body):
    make.submitted_plan(shop, make.user("bob"))
    client = Client()
    client.force_login(make.user("mia"))
    answer = client.post("/api/projects/shop/plans/1/approve", body, "application/json")
    assert answer.status_code == 422
    assert set(answer.json()) == {"message", "problems"}


def test_broken_json_is_400(shop):
    client = Client()
    client.force_login(make.user("mia"))
    answer = client.post("/api/projects/shop/publish", "{", "application/json")
    assert answer.status_code == 400
    assert set(answer.json()) == {"message", "problems"}


def test_extra_field_names_itself(shop):
    answer = post("/shop/publish", {"branch": "", "force": True})
    assert answer.status_code == 422
    assert "force" in answer.json()["problems"][0]["field"]


def test_address_with_a_nul_leads_nowhere(shop):
    assert get("/%00").status_code == get("/shop/modules/%00").status_code == 404
    assert get("/shop/modules", status="\0").status_code == 400


@pytest.mark.parametrize("field", ["name", "source", "branch", "goal", "secret"])
def test_text_with_a_nul_is_refused_by_its_field(shop, field):
    answer = post("", {"name": "Nova", "source": "/nowhere", field: "a\0b"})
    assert answer.status_code == 422
    [problem] = answer.json()["problems"]
    assert problem["field"].endswith(field) and "NUL" in problem["message"]


def test_publishing_nothing_is_refused_with_a_sentence(shop, hub):
    hub.delete("refs/heads/tutti/integration")
    answer = post("/shop/publish", {"branch": ""})
    assert answer.status_code == 422
    assert answer.json()["message"] == "There is nothing to publish yet."


# --- Modules -------------------------------------------------------------------------------------


@pytest.fixture
def cart(shop):
    return make.module(make.plan(shop), "cart", "building", lane="money")


def test_module_is_given_with_contract_and_needs(cart):
    make.need(cart, make.module(cart.plan, "base", "merged"))
    make.module(cart.plan, "cart/total", parent=cart)
    given = get("/shop/modules/cart").json()
    assert given["contract"]["owns"] == ["cart/"]
    assert given["needs"] == [
        {"module": "base", "kind": "contract", "declared": True, "status": "merged"}
    ]
    assert given["children"] == ["cart/total"]
    assert get("/shop/modules/cart/total").json()["parent"] == "cart"


def test_module_actions(cart):
    assert post("/shop/modules/cart/-/pause", name="bob").status_code == 200
    assert get("/shop/modules/cart").json()["paused_at"] is not None
    assert post("/shop/modules/cart/-/resume", name="bob").status_code == 200
    assert post("/shop/modules/cart/-/cancel", {"reason": "No."}).status_code == 200
    assert get("/shop/modules/cart").json()["status"] == "cancelled"
    assert post("/shop/modules/cart/-/retry", name="bob").status_code == 200
    assert get("/shop/modules/cart").json()["status"] == "waiting"


def test_refused_action_is_422_with_the_sentence(cart):
    make.module(cart.plan, "done", "merged")
    answer = post("/shop/modules/done/-/retry", name="bob")
    assert answer.status_code == 422
    assert answer.json() == {
        "message": "done is merged; there is nothing to retry.",
        "problems": [],
    }


def test_unknown_module_is_404(cart):
    assert get("/shop/modules/desk").status_code == 404
    assert post("/shop/modules/desk/-/pause").status_code == 404


def test_modules_are_filtered_and_paged(cart):
    for n in range(5):
        make.module(cart.plan, f"m{n}")
    assert [row["slug"] for row in get("/shop/modules", status="building").json()] == ["cart"]
    assert [row["slug"] for row in get("/shop/modules", offset=1, limit=2).json()] == ["m0", "m1"]
    assert get("/shop/modules", limit=0).status_code == 422
    assert get("/shop/modules", limit=10**9).status_code == 422


# --- Events and attentions -----------------------------------------------------------------------


def test_events_come_after_a_number_without_gaps(cart):
    for _ in range(3):
        post("/shop/modules/cart/-/pause", name="bob")
    first = get("/shop/events", limit=2).json()
    rest = get("/shop/events", after=first["after"]).json()
    numbers = [event["number"] for event in first["events"] + rest["events"]]
    assert numbers == [1, 2, 3]
    assert rest["newest"] == 3
    assert rest["events"][0]["previous_hash"] == first["events"][-1]["hash"]


def test_attentions_are_those_of_ones_role(shop, hub):
    make.submitted_plan(shop, make.user("bob"))
    assert get("/shop/attentions", "bob").json() == []
    (asked,) = get("/shop/attentions", "mia").json()
    assert asked["kind"] == "plan"
    assert asked["url"].startswith("/projects/shop/")


def test_docs_are_for_those_who_signed_in(shop):
    assert Client().get("/api/docs").status_code == 302
    client = Client()
    client.force_login(make.user("bob"))
    assert client.get("/api/docs").status_code == 200
    assert client.get("/api/openapi.json").json()["info"]["title"] == "Tutti"
