"""Coupling in a real repository: shown with its evidence, put into a lane by people or policy."""

from __future__ import annotations

import pytest
from django.core.management import call_command

from agents.services.coupling import coupling_apply, coupling_found
from projects import graph, plancontent, planfile
from projects.models import Event, Role
from projects.services import plans
from tests import factories
from tests.projects.pages import client_of, draft, text_of

URL = "/projects/shop/plan/coupling/"
HTMX = {"HTTP_HX_REQUEST": "true"}

#: cart and desk import each other when they run; bill stands alone.
FILES = {
    "shop/__init__.py": "",
    "shop/cart.py": "from shop import desk\n\n\ndef total():\n    return desk.rate()\n",
    "shop/desk.py": "def rate():\n    from shop.cart import total\n\n    return total\n",
    "shop/bill.py": "def show():\n    return 1\n",
}


def plan_text(policy: str = "show") -> str:
    head = f"version: 1\nproject: {{name: Shop, goal: Sell., policies: {{coupling: {policy}}}}}\n"
    modules = "".join(
        f"- slug: {slug}\n  owns: [shop/{slug}.py]\n  tests: [tests/test_{slug}.py]\n"
        '  checks: ["true"]\n'
        for slug in ("bill", "cart", "desk")
    )
    return f"{head}modules:\n{modules}"


@pytest.fixture
def shop(db, tutti_home, tmp_path):
    people = {"alice": Role.OWNER, "bob": Role.MEMBER, "vera": Role.VIEWER}
    made = factories.project("shop", people=people)
    factories.hub(made, factories.source_repository(tmp_path / "source", FILES))
    plans.plan_import(made, planfile.load(plan_text()), factories.user("alice"))
    return made


def lanes(project):
    return graph.lanes(plancontent.plan_specs(draft(project)))


def client(name):
    return client_of(factories.user(name))


def put(*modules, by="bob"):
    return client(by).post(f"{URL}apply/", {"module": list(modules)}, **HTMX)


def test_pair_is_shown_with_its_evidence(shop):
    answer = client("vera").get(URL, **HTMX)
    text = text_of(answer)
    assert answer.status_code == 200
    assert "cart, desk import each other in a circle certain" in text
    assert "shop/cart.py:1 imports shop/desk.py" in text
    assert "shop/desk.py:2 imports shop/cart.py" in text
    assert lanes(shop) == {} and not Event.objects.filter(kind="plan.coupling_applied")


def test_plan_page_offers_to_look(shop):
    page = client("vera").get("/projects/shop/plan/").content.decode()
    assert f'hx-get="{URL}"' in page


def test_member_puts_the_pair_into_one_lane(shop):
    answer = put("cart", "desk")
    assert answer.status_code == 200
    assert "cart, desk share the lane coupled-cart now" in text_of(answer)
    assert "import each other in a circle" not in text_of(answer)
    assert lanes(shop) == {"cart": "coupled-cart", "desk": "coupled-cart"}
    event = Event.objects.get(kind="plan.coupling_applied")
    assert event.actor == "person:bob"
    assert event.data["modules"] == ["cart", "desk"] and event.data["how"] == "by a person"
    assert "shop/cart.py:1 imports shop/desk.py" in event.data["evidence"]


def test_lane_that_one_of_them_has_is_the_lane_of_both(shop):
    plan = draft(shop)
    fields = {"owns": ["shop/desk.py"], "checks": ["true"], "lane": "money"}
    plans.contract_save(plan, "desk", factories.user("alice"), fields)
    assert put("cart", "desk").status_code == 200
    assert lanes(shop) == {"cart": "money", "desk": "money"}


def test_pair_that_nothing_suggests_is_refused(shop):
    answer = put("bill", "cart")
    assert answer.status_code == 422 and "no longer suggested" in text_of(answer)
    assert lanes(shop) == {}


def test_submitted_plan_is_shown_and_not_changed(shop):
    plans.plan_submit(draft(shop), factories.user("alice"))
    assert "Put them in one lane" not in text_of(client("bob").get(URL, **HTMX))
    assert put("cart", "desk").status_code == 422
    assert lanes(shop) == {}


def test_policy_that_only_shows_applies_nothing(shop):
    assert coupling_apply(draft(shop), factories.user("alice")) == []
    assert put().status_code == 422
    assert lanes(shop) == {}


def test_policy_applies_once_and_leaves_what_people_decide(shop):
    alice = factories.user("alice")
    plans.plan_import(shop, planfile.load(plan_text("apply")), alice)
    assert "Put into lanes: cart, desk." in text_of(put())
    assert lanes(shop) == {"cart": "coupled-cart", "desk": "coupled-cart"}
    assert Event.objects.get(kind="plan.coupling_applied").data["how"] == "by policy"
    fields = {"owns": ["shop/desk.py"], "checks": ["true"], "lane": ""}
    plans.contract_save(draft(shop), "desk", alice, fields)
    assert coupling_apply(draft(shop), alice) == []
    assert "desk" not in lanes(shop)


def dismiss(reason, *modules, by="bob"):
    values = {"module": list(modules), "reason": reason}
    return client(by).post(f"{URL}dismiss/", values, **HTMX)


def test_member_decides_that_the_pair_may_run_together(shop):
    answer = dismiss("They share a type only.", "cart", "desk")
    text = text_of(answer)
    assert answer.status_code == 200 and "People decided that they may run" in text
    assert "They may run at the same time…" not in text
    assert lanes(shop) == {}
    event = Event.objects.get(kind="plan.coupling_dismissed")
    assert (event.actor, event.data["modules"]) == ("person:bob", ["cart", "desk"])
    assert event.data["reason"] == "They share a type only."


def test_decision_against_a_lane_needs_a_reason_and_a_suggestion(shop):
    assert dismiss(" ", "cart", "desk").status_code == 422
    assert dismiss("No.", "bill", "cart").status_code == 422
    assert not Event.objects.filter(kind="plan.coupling_dismissed").exists()


def test_finding_is_kept_until_the_plan_changes(shop, monkeypatch):
    first = coupling_found(draft(shop))
    monkeypatch.setattr("agents.evidence.suggestions", lambda *args: pytest.fail("looked again"))
    assert coupling_found(draft(shop)) == first


def test_command_applies_what_policy_says_before_it_submits(db, tutti_home, tmp_path, capsys):
    source = factories.source_repository(tmp_path / "source", FILES)
    file = tmp_path / "tutti.yaml"
    file.write_text(plan_text("apply"))
    factories.user("alice")
    call_command("project_create", "shop", source=str(source), plan=file, owner="alice")
    said = capsys.readouterr().out
    assert "One lane, by policy: cart, desk" in said
    assert "Project shop: plan 1 waits for approval." in said
