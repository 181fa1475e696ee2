from __future__ import annotations

import pytest
from django.test import Client
from django.utils import timezone

from projects.models import Module
from tests import factories as make


@pytest.fixture
def cart(db):
    shop = make.project(people={"alice": "owner", "mia": "maintainer", "bob": "member"})
    return make.module(make.plan(shop), "cart", "reviewing")


def get(path, name="bob", **query):
    client = Client()
    client.force_login(make.user(name))
    return client.get(f"/api/projects/shop{path}", query)


def post(path, body=None, name="bob"):
    client = Client()
    client.force_login(make.user(name))
    return client.post(f"/api/projects/shop{path}", body or {}, content_type="application/json")


def test_unknown_tokens_are_null_and_never_zero(cart):
    run = make.run(cart)
    given = get(f"/runs/{run.pk}").json()
    assert (given["input_tokens"], given["usage_quality"]) == (None, "unknown")


def test_run_holds_what_was_sent_whole(cart):
    sent = [{"turn": 1, "text": "Build.\n" * 999, "prompt_version": "3", "at": "now"}]
    run = make.run(cart, assignments=sent)
    assert get(f"/runs/{run.pk}").json()["assignments"] == sent
    assert "assignments" not in get("/runs").json()[0]


def test_runs_are_filtered(cart):
    desk = make.module(cart.plan, "desk", "building")
    make.run(cart, status="failed", ended_at=timezone.now())
    active = make.run(desk)
    assert [row["id"] for row in get("/runs", status="active").json()] == [active.pk]
    assert [row["module"] for row in get("/runs", module="cart").json()] == ["cart"]
    assert [row["status"] for row in get("/runs", status="failed").json()] == ["failed"]


def test_log_is_paged_without_gap_or_double(cart):
    run = make.run(cart)
    make.log(run, *(f"row {n}" for n in range(1, 8)))
    after, seen = 0, []
    while True:
        page = get(f"/runs/{run.pk}/log", after=after, limit=3).json()
        seen += [row["data"]["text"] for row in page["rows"]]
        after = page["after"]
        if not page["has_more"]:
            break
    assert seen == [f"row {n}" for n in range(1, 8)]
    assert page["is_end"] is False


def test_run_of_another_project_is_404(cart):
    other = make.module(make.plan(make.project("other", {"bob": "member"})), "desk", "building")
    assert get(f"/runs/{make.run(other).pk}").status_code == 404


def test_number_that_no_row_can_have_is_no_error_of_the_server(cart):
    assert get("/runs/99999999999999999999999").status_code in (404, 422)
    assert get("/reviews/99999999999999999999999").status_code in (404, 422)
    assert get("/plans/99999999999999999999999").status_code in (404, 422)


def test_run_is_stopped(cart):
    run = make.run(cart)
    assert post(f"/runs/{run.pk}/stop").status_code == 200
    run.refresh_from_db()
    assert run.status == "stopping"


def test_request_is_answered_once(cart):
    run = make.run(cart, status="parked", ended_at=timezone.now())
    Module.objects.update(status="needs_person", resume_to="building")
    asked = make.request(run, "question")
    assert [row["id"] for row in get("/requests").json()] == [asked.pk]
    body = {"granted": True, "answer": "Euro."}
    assert post(f"/requests/{asked.pk}/answer", body).status_code == 200
    assert post(f"/requests/{asked.pk}/answer", body).status_code == 422
    assert get("/requests").json() == []
    (answered,) = get("/requests", is_open="false").json()
    assert (answered["granted"], answered["answered_by"]) == (True, "bob")


def test_review_is_given_with_findings_and_checks(cart):
    review = make.review(cart, "rebuild", summary="Not yet.")
    make.finding(cart, "Rounds down.", review=review, path="cart/a.py", line=3, clause="checks")
    make.check(cart, ok=False)
    given = get(f"/reviews/{review.pk}").json()
    assert given["verdict"] == "rebuild"
    (finding,) = given["findings"]
    assert (finding["path"], finding["line"], finding["clause"]) == ("cart/a.py", 3, "checks")
    (check,) = given["checks"]
    assert (check["ok"], check["exit_code"]) == (False, 1)
    assert [row["id"] for row in get("/reviews", module="cart").json()] == [review.pk]


def test_review_is_overruled_only_when_it_is_the_newest(cart):
    old, new = make.review(cart, "rebuild"), make.review(cart, "rebuild")
    body = {"verdict": "approve", "reason": "It is right."}
    assert post(f"/reviews/{old.pk}/overrule", body, "mia").status_code == 409
    assert post(f"/reviews/{new.pk}/overrule", {**body, "verdict": "ask"}, "mia").status_code == 422
    assert post(f"/reviews/{new.pk}/overrule", body, "mia").status_code == 200
    cart.refresh_from_db()
    assert cart.status == "merging"


def test_merges_are_given_newest_first(cart):
    make.merge(cart, "refused", reason="Conflict.")
    make.merge(cart, "merged", tested_commit=make.SHA(5))
    assert [row["status"] for row in get("/merges").json()] == ["merged", "refused"]
