"""Who would do what of a plan, and what it would take: on the plan's page and by API."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.estimate_facts import estimate_of
from agents.models import Price, Profile, Provider, Quota
from agents.services import budgets
from agents.services.profiles import profile_for
from projects.models import Contract, Module, Plan, Role
from tests import factories as make
from tests.projects.pages import client_of, text_of

URL = "/projects/shop/plan/estimates/"
HTMX: dict[str, Any] = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def shop(db):
    people = {"alice": Role.OWNER, "bob": Role.MEMBER, "vera": Role.VIEWER}
    return make.project("shop", people=people)


@pytest.fixture
def lab(db):
    return Provider.objects.create(name="lab", title="Lab")


def profile(project, role, model="m1", **values):
    values = {"backend": "acp", "settings": {"agent": "opencode"}, **values}
    return Profile.objects.create(project=project, role=role, model=model, **values)


def ended(module, kind="build", tokens=1_000, model="m1", **values):
    values = {"backend": "acp", "ended_at": timezone.now(), "input_tokens": tokens,
              "output_tokens": 0, **values}  # fmt: skip
    return make.run(module, kind, values.pop("status", "succeeded"), model=model, **values)


def others(*tokens, slug="hidden"):
    """Builds of a project that nobody of the shop knows."""
    foreign = make.project(slug, people={"charlie": Role.OWNER}, name="Top Secret")
    plan = make.plan(foreign)
    for place, count in enumerate(tokens):
        ended(make.module(plan, f"s{place}", "merged"), tokens=count)


def page(name="vera", query=""):
    return client_of(make.user(name)).get(f"{URL}?framed=1{query}", **HTMX)


def api(number=1, name="vera"):
    answer = client_of(make.user(name)).get(f"/api/projects/shop/plans/{number}/estimate")
    assert answer.status_code == 200
    return answer.json()


def step(answer, slug, kind):
    (module,) = [one for one in answer["modules"] if one["slug"] == slug]
    return next((one for one in module["steps"] if one["kind"] == kind), None)


# --- Who -----------------------------------------------------------------------------------------


def test_page_says_who_plays_each_role_and_where_that_was_decided(shop, lab):
    make.module(make.plan(shop, "draft"), "cart", "draft")
    profile(shop, "executor", "coder", provider=lab,
            settings={"agent": "opencode", "network": True})  # fmt: skip
    profile(None, "orchestrator", "openai:judge", backend="llm", settings={})
    html = page().content.decode()
    rows = dict(re.findall(r'<tr id="player-(\w+)">(.*?)</tr>', html))
    said = {role: re.sub(r"<[^>]+>", " ", row) for role, row in rows.items()}
    assert all(part in said["executor"] for part in (
        "acp (opencode)", "Lab", "coder", "this project", "in the sandbox, network on"
    ))  # fmt: skip
    assert "the site" in said["orchestrator"] and "asked by a worker" in said["orchestrator"]
    assert "nobody" in said["planner"] and "network off" in said["planner"]
    roles = {one["role"]: (one["chosen_by"], one["network"]) for one in api()["roles"]}
    assert roles == {"executor": ("project", True), "orchestrator": ("site", None),
                     "planner": ("", False)}  # fmt: skip


def test_plan_page_asks_for_it_while_something_is_to_decide_or_to_do(shop):
    plan = make.plan(shop)
    make.module(plan, "cart")
    address = f'hx-get="{URL}?framed=1&amp;plan=1"'
    client = client_of(make.user("vera"))
    assert address in client.get("/projects/shop/plan/").content.decode()
    Plan.objects.update(finished_at=timezone.now())
    assert address not in client.get("/projects/shop/plan/").content.decode()
    assert client.get(f"{URL}?plan=9").status_code == 404
    assert client.get(f"{URL}?plan=x").status_code == 404


# --- What ----------------------------------------------------------------------------------------


def test_figures_name_what_they_go_by_and_sum_up(shop):
    plan = make.plan(shop, "draft")
    make.module(plan, "cart", "draft")
    make.module(plan, "desk", "draft", contract={"tests_given": True})
    for role in Profile.Role.values:
        profile(shop, role)
    Price.objects.create(model="m1", input_per_million=10, output_per_million=50)
    earlier = make.plan(shop)
    for place, tokens in enumerate((100_000, 200_000, 600_000)):
        ended(make.module(earlier, f"e{place}", "merged"), tokens=tokens)
    answer = api()
    build = step(answer, "cart", "build")
    assert (build["tokens"], build["cost"]) == (200_000, "2.000000")
    assert build["basis"] == "median of 3 finished build runs of m1 in this project"
    assert step(answer, "cart", "tests")["basis"].startswith("no similar run yet: a default of")
    assert step(answer, "desk", "tests") is None
    sums = [one["total"] for one in answer["modules"]]
    assert answer["total"]["tokens"] == sum(one["tokens"] for one in sums)
    assert Decimal(answer["total"]["cost"]) == sum(Decimal(one["cost"]) for one in sums)
    html = page(query="&plan=1").content.decode()
    marks = set(re.findall(r'href="#(basis-\w+)"', html))
    assert marks and marks == set(re.findall(r'<dt id="(basis-\w+)"', html))
    assert f"{answer['total']['tokens']:,}" in html and answer["sentence"] in html


def test_a_default_is_what_a_claim_would_reserve(shop):
    make.module(make.plan(shop, "draft"), "cart", "draft")
    for kind, role in (("build", "executor"), ("review", "orchestrator"), ("tests", "planner")):
        reserved = budgets.estimate_for(profile_for(shop, role), kind)
        assert step(api(), "cart", kind)["tokens"] == reserved.tokens


def test_recorded_runs_need_no_price_and_a_model_without_one_is_unpriced(shop):
    make.module(make.plan(shop, "draft"), "cart", "draft")
    assert api()["total"]["cost"] is None and api()["total"]["replayed"] == 4
    said = text_of(page())
    assert "no price needed" in said and "unpriced" not in said
    profile(shop, "executor")
    assert step(api(), "cart", "build")["price"] == "unpriced"
    assert "unpriced: a site admin enters what the model costs" in text_of(page())


def test_a_running_plan_counts_what_is_left(shop):
    plan = make.plan(shop)
    for slug, status in (("a", "merged"), ("b", "reviewing"), ("c", "building"), ("d", "waiting")):
        make.module(plan, slug, status)
    kinds = {one["slug"]: [s["kind"] for s in one["steps"]] for one in api()["modules"]}
    assert kinds == {"a": [], "b": ["review", "fix"], "c": ["build", "review", "fix"],
                     "d": ["tests", "build", "review", "fix"]}  # fmt: skip
    assert "for 3 modules" in api()["sentence"]


def test_the_next_plan_counts_only_merged_modules_that_it_changes(shop):
    plan = make.plan(shop)
    same, other = (make.module(plan, slug, "merged") for slug in ("same", "other"))
    nexts = make.plan(shop, "draft")
    for module, brief in ((same, same.contract.brief), (other, "Build it anew.")):
        copied = {name: getattr(module.contract, name)
                  for name in ("title", "owns", "tests", "provides", "checks")}  # fmt: skip
        Contract.objects.create(module=module, plan=nexts, version=2, brief=brief, **copied)
    notes = {one["slug"]: (one["note"], len(one["steps"])) for one in api(2)["modules"]}
    assert notes == {"same": ("merged", 0), "other": ("", 4)}


# --- By what -------------------------------------------------------------------------------------


def test_runs_of_other_projects_count_without_a_name(shop):
    make.module(make.plan(shop, "draft"), "cart", "draft")
    profile(shop, "executor")
    others(100, 300, 500)
    build = step(api(), "cart", "build")
    assert build["tokens"] == 300
    assert build["basis"] == "median of 3 finished build runs of m1 of the whole site"
    html = page().content.decode()
    assert "Top Secret" not in html and "hidden" not in html
    assert api(name="alice") == api(name="vera")


def test_runs_that_were_cut_off_or_told_no_tokens_count_nowhere(shop):
    make.module(make.plan(shop, "draft"), "cart", "draft")
    profile(shop, "executor")
    earlier = make.plan(shop)
    useless: list[dict[str, Any]] = [
        {"status": "cancelled"}, {"status": "stalled"}, {"status": "parked"},
        {"status": "failed", "reason_owner": "provider"}, {"tokens": None}, {"model": "m2"},
        {"backend": "command"},
    ]  # fmt: skip
    for place, values in enumerate(useless):
        ended(make.module(earlier, f"e{place}", "merged"), **values)
    assert step(api(), "cart", "build")["is_guess"]
    for place in range(3):
        failed = {"status": "failed", "reason_owner": "agent"} if place else {}
        ended(make.module(earlier, f"f{place}", "merged"), **failed)
    assert step(api(), "cart", "build")["tokens"] == 1_000


def test_fixes_are_expected_as_often_as_merged_modules_needed_them(shop):
    make.module(make.plan(shop, "draft"), "cart", "draft")
    profile(shop, "orchestrator")
    earlier = make.plan(shop)
    for place in range(4):
        done = make.module(earlier, f"e{place}", "merged")
        ended(done, "review", role="orchestrator")
        if place < 3:
            ended(done, "fix", 400, role="orchestrator")
    fix = step(api(), "cart", "fix")
    assert fix["tokens"] == 300 and fix["basis"].endswith("3 fixes for 4 merged modules here")


# --- Is it enough --------------------------------------------------------------------------------


def quota(limit, **values):
    values = {"scope": "project", "measure": "tokens", "period": "day", **values}
    return Quota.objects.create(limit=limit, **values)


def test_quota_that_would_not_suffice_is_said(shop):
    make.module(make.plan(shop, "draft"), "cart", "draft")
    kept = quota(150_000, project=shop)
    assert api()["warnings"] == [] and "leave suffices" in text_of(page())
    Quota.objects.filter(pk=kept.pk).update(spent=100_000)
    (said,) = api()["warnings"]
    assert said.startswith("The project's tokens of today would not suffice: 50,000 of 150,000")
    assert said in text_of(page())
    assert Quota.objects.get(pk=kept.pk).spent == 100_000


def test_an_accounts_quota_counts_only_what_is_charged_to_it(shop, lab):
    make.module(make.plan(shop, "draft"), "cart", "draft")
    profile(shop, "executor", provider=lab)
    quota(59_999, scope="provider", provider=lab)
    (said,) = api()["warnings"]
    assert said.startswith("The provider Lab's") and "the plan needs about 60,000." in said
    Quota.objects.update(limit=60_000)
    assert api()["warnings"] == []


def test_money_without_any_price_cannot_be_compared(shop):
    make.module(make.plan(shop, "draft"), "cart", "draft")
    profile(shop, "executor")
    quota(5, project=shop, measure="money", period="month")
    assert "can't be counted" in api()["warnings"][0]
    Price.objects.create(model="dear", input_per_million=1_000, output_per_million=1_000)
    (said,) = api()["warnings"]
    assert "would not suffice: 5.00 of 5.00 USD is left" in said and "dearest" in said


# --- Queries -------------------------------------------------------------------------------------


def queries(plan) -> int:
    fresh = Plan.objects.select_related("project").get(pk=plan.pk)
    with CaptureQueriesContext(connection) as caught:
        found = estimate_of(fresh)
    assert len(found.rows) == Module.objects.filter(plan=plan).count()
    return len(caught)


@pytest.mark.parametrize("status", ["draft", "approved"])
def test_number_of_queries_does_not_grow(shop, lab, status):
    plan = make.plan(shop, status)
    for place in range(50):
        make.module(plan, f"m{place}", "draft" if status == "draft" else "waiting",
                    contract={"estimate_seconds": 60 + place})  # fmt: skip
        if place == 4:
            quota(1, project=shop)
            few = queries(plan)
    for place, module in enumerate(Module.objects.all()[:9]):
        ended(module, model="recorded-fast", backend="replay")
        quota(1, scope="user", user=make.user(f"u{place}"))
    # Enough runs of its own even save the site's.
    assert queries(plan) == few - 1 and few <= 20
