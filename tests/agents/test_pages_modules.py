from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from agents.models import Request
from projects.models import Dependency, Event, Module
from tests import factories as make

HTMX = {"HX-Request": "true"}


@pytest.fixture
def shop(db):
    return make.project(people={"alice": "owner", "mia": "maintainer", "bob": "member"})


@pytest.fixture
def plan(shop):
    return make.plan(shop)


@pytest.fixture
def module(plan):
    return make.module(plan, "cart", "building")


def page(client, module, name="alice"):
    client.force_login(make.user(name))
    return client.get(reverse("agents:module", args=[module.project.slug, module.slug]))


def post(client, module, action, name="bob", **data):
    client.force_login(make.user(name))
    url = reverse(f"agents:module-{action}", args=[module.project.slug, module.slug])
    return client.post(url, data, headers=HTMX)


def test_page_shows_contract_and_needs(client, plan, module):
    base = make.module(plan, "base", "planning")
    make.need(module, base)
    make.need(make.module(plan, "shop", "waiting"), module, Dependency.Kind.IMPLEMENTATION)
    html = page(client, module).content.decode()
    for text in ("cart/", "tests/cart/", "cart.main()", "python -m pytest -q", "Build cart."):
        assert text in html
    assert reverse("agents:module", args=["shop", "base"]) in html
    assert reverse("agents:module", args=["shop", "shop"]) in html


def test_page_shows_runs_reviews_findings_checks_and_merges(client, module):
    run = make.run(module, status="failed", reason="Its tests stayed red.")
    review = make.review(module, "rebuild", summary="Totals are wrong.")
    make.finding(module, "Rounds down.", path="cart/total.py", line=7, clause="checks")
    make.check(module, ok=False, output="1 failed")
    make.merge(module, "refused", reason="Conflict in cart/total.py.")
    html = page(client, module).content.decode()
    assert reverse("agents:run", args=["shop", run.pk]) in html
    assert reverse("reviews:review", args=["shop", review.pk]) in html
    for text in ("Its tests stayed red.", "Totals are wrong.", "cart/total.py:7", "1 failed",
                 "Conflict in cart/total.py."):  # fmt: skip
        assert text in html


def test_child_has_a_page_at_its_slug(client, plan, module):
    child = make.module(plan, "cart/total", "waiting", parent=module)
    html = page(client, child).content.decode()
    assert reverse("agents:module", args=["shop", "cart"]) in html
    assert child.slug in page(client, module).content.decode()


def test_module_of_another_project_is_404(client, module):
    other = make.plan(make.project("other"))
    make.module(other, "desk")
    client.force_login(make.user("alice"))
    assert client.get("/projects/shop/modules/desk/").status_code == 404


def test_names_from_agents_are_escaped(client, module):
    make.finding(module, "<script>alert(1)</script>", path="<img src=x>")
    html = page(client, module).content.decode()
    assert "<script>alert(1)" not in html
    assert "<img src=x>" not in html


def test_member_pauses_and_resumes(client, module):
    assert post(client, module, "pause").status_code == 200
    module.refresh_from_db()
    assert module.paused_at is not None
    assert Event.objects.filter(kind="module.paused", actor="person:bob").exists()
    post(client, module, "resume")
    module.refresh_from_db()
    assert module.paused_at is None


def test_retry_of_a_merged_module_is_refused_with_a_sentence(client, plan):
    merged = make.module(plan, "done", "merged")
    answer = post(client, merged, "retry")
    assert answer.status_code == 422
    assert "nothing to retry" in answer.content.decode()


def test_refusal_without_htmx_goes_back_with_the_sentence(client, plan):
    merged = make.module(plan, "done", "merged")
    client.force_login(make.user("bob"))
    url = reverse("agents:module-retry", args=["shop", "done"])
    answer = client.post(url, follow=True)
    assert answer.redirect_chain[-1][0] == reverse("agents:module", args=["shop", merged.slug])
    assert "nothing to retry" in answer.content.decode()


def test_retry_goes_on_where_the_module_stopped(client, module):
    Module.objects.update(status="needs_person", resume_to="building", failures=3)
    assert post(client, module, "retry").status_code == 200
    module.refresh_from_db()
    assert (module.status, module.failures) == ("building", 0)


def test_maintainer_cancels_with_a_reason(client, module):
    assert post(client, module, "cancel", reason="No longer wanted.").status_code == 403
    assert post(client, module, "cancel", "mia", reason="No longer\0 wanted.").status_code == 200
    module.refresh_from_db()
    assert (module.status, module.reason) == ("cancelled", "No longer␀ wanted.")


@pytest.mark.parametrize("text", ["", "high", "1001", "--1", "9" * 50])
def test_bad_priority_is_refused(client, module, text):
    assert post(client, module, "priority", priority=text).status_code == 422


def test_priority_is_set(client, module):
    assert post(client, module, "priority", priority="-7").status_code == 200
    module.refresh_from_db()
    assert module.priority == -7


def test_maintainer_takes_a_module_out_of_its_lane(client, module):
    Module.objects.update(lane="money")
    assert post(client, module, "lane-leave").status_code == 403
    assert post(client, module, "lane-leave", "mia").status_code == 200
    module.refresh_from_db()
    assert module.lane == ""


def test_actions_are_no_pages(client, module):
    client.force_login(make.user("alice"))
    url = reverse("agents:module-pause", args=["shop", "cart"])
    assert client.get(url).status_code == 405


def asked(module, kind=Request.Kind.QUESTION):
    run = make.run(module, status="parked", ended_at=timezone.now())
    Module.objects.filter(pk=module.pk).update(status="needs_person", resume_to="building")
    return make.request(run, kind, question="Which currency?")


def answer(client, request, name="bob", **data):
    client.force_login(make.user(name))
    url = reverse("agents:request-answer", args=["shop", request.pk])
    return client.post(url, data, headers=HTMX)


def test_request_is_shown_and_answered(client, module):
    request = asked(module)
    assert "Which currency?" in page(client, module).content.decode()
    assert answer(client, request, granted="yes", answer="Euro.\0").status_code == 200
    request.refresh_from_db()
    module.refresh_from_db()
    assert (request.granted, request.answer) == (True, "Euro.␀")
    assert module.status == "building"


def test_request_is_answered_once(client, module):
    request = asked(module)
    answer(client, request, granted="yes")
    assert answer(client, request, granted="no").status_code == 422
    request.refresh_from_db()
    assert request.granted is True


def test_answer_without_a_choice_is_refused(client, module):
    request = asked(module)
    assert answer(client, request).status_code == 422


def test_exception_takes_a_maintainer(client, module):
    request = asked(module, Request.Kind.EXCEPTION)
    Request.objects.update(data={"paths": ["desk/a.py"], "reason": "It calls me."})
    assert answer(client, request, granted="yes").status_code == 403
    assert answer(client, request, "mia", granted="yes").status_code == 200
    module.refresh_from_db()
    assert module.contract is not None
    assert module.contract.exceptions == ["desk/a.py"]
