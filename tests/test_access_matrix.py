"""Who may do what: one table of every route and verb with the least role that it takes.

A route that is missing here fails, and so does a verb that a route answers without being listed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import transaction
from django.test import Client, override_settings
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from agents.models import Host, Price, Provider, ProviderTest, Quota
from config.api import api
from projects.hub import Hub
from projects.models import Invitation, Membership, Module, Project, Role
from projects.services import plans
from projects.services.projects import invitation_create
from tests import factories as make

ANYBODY, SIGNED_IN, ADMIN = "anybody", "signed in", "site admin"
VIEWER, MEMBER, MAINTAINER, OWNER = Role.VIEWER, Role.MEMBER, Role.MAINTAINER, Role.OWNER

P = {"slug": "shop"}
#: A project of the same people that its owner put away.
ATTIC = {"slug": "attic"}
CART = P | {"module": "cart"}
RUN, REVIEW, COUPLED, EXCEPTION, BOB = "{run}", "{review}", "{coupled}", "{exception}", "{bob}"
TOKEN, INVITATION = "{token}", "{invitation}"
QUOTA, ACCOUNT, PRICE, HOST = "{quota}", "{account}", "{price}", "{host}"
TEST, SITE_TEST = "{test}", "{site_test}"


@dataclass(frozen=True)
class Row:
    """A route, a verb and the least role; `kwargs` and `data` may name ids of the world."""

    route: str
    verb: str
    least: str
    kwargs: dict[str, Any] = field(default_factory=lambda: P)
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def is_api(self) -> bool:
        return self.route.startswith("/")

    def __str__(self) -> str:
        return f"{self.verb} {self.route} {self.kwargs.get('pk', '')}".strip()


PAGES = [
    Row("projects:list", "GET", SIGNED_IN, {}),
    Row("projects:new", "GET", SIGNED_IN, {}),
    Row("projects:new", "POST", SIGNED_IN, {}),
    Row("projects:login-once", "GET", ANYBODY, {"token": "x"}),
    Row("projects:login-once", "POST", ANYBODY, {"token": "x"}),
    Row("projects:invitation", "GET", ANYBODY, {"token": TOKEN}),
    Row("projects:invitation", "POST", ANYBODY, {"token": TOKEN}),
    Row("projects:site-instructions", "GET", ADMIN, {}),
    Row("projects:site-instructions", "POST", ADMIN, {}),
    Row("projects:project", "GET", VIEWER),
    Row("projects:card", "GET", VIEWER),
    Row("projects:pause", "POST", MAINTAINER),
    Row("agents:project-recover", "POST", MAINTAINER),
    Row("projects:resume", "POST", MAINTAINER),
    Row("projects:publish", "POST", MAINTAINER),
    Row("projects:archive", "POST", OWNER, data={"confirm": "shop"}),
    Row("projects:archive-list", "GET", SIGNED_IN, {}),
    Row("projects:archive-log", "GET", OWNER, ATTIC | {"form": "jsonl"}),
    Row("projects:restore", "POST", OWNER, ATTIC),
    Row("projects:delete", "POST", OWNER, ATTIC, {"confirm": "attic"}),
    Row("projects:settings", "GET", VIEWER),
    Row("projects:settings", "POST", MAINTAINER),
    Row("projects:ceiling", "POST", OWNER, data={"ceiling": 3}),
    Row("projects:source-key", "POST", OWNER),
    Row("projects:settings-policies", "GET", VIEWER),
    Row("projects:settings-policies", "POST", MAINTAINER),
    Row("projects:settings-instructions", "GET", VIEWER),
    Row("projects:settings-instructions", "POST", MAINTAINER),
    Row("projects:settings-profiles", "GET", VIEWER),
    Row("projects:settings-members", "GET", VIEWER),
    Row("projects:member-set", "POST", OWNER, P | {"pk": BOB}, {"role": "viewer"}),
    Row("projects:invitation-create", "POST", OWNER, data={"role": "member"}),
    Row("projects:invitation-withdraw", "POST", OWNER, P | {"pk": INVITATION}),
    Row("projects:plan", "GET", VIEWER),
    Row("projects:plan-number", "GET", VIEWER, P | {"number": 1}),
    Row("projects:plan-download", "GET", VIEWER),
    Row("projects:plan-number-download", "GET", VIEWER, P | {"number": 1}),
    Row("projects:plan-draft", "POST", MEMBER),
    Row("projects:plan-propose", "POST", MEMBER),
    Row("projects:plan-edit", "GET", MEMBER),
    Row("projects:plan-edit", "POST", MEMBER, data={"version": 0}),
    Row("projects:plan-upload", "GET", MEMBER),
    Row("projects:plan-upload", "POST", MEMBER),
    Row("agents:plan-submit", "POST", MEMBER),
    Row("projects:plan-withdraw", "POST", MEMBER),
    Row("projects:plan-approve", "POST", MAINTAINER),
    Row("projects:plan-reject", "POST", MAINTAINER, data={"reason": "No."}),
    Row("projects:plan-retry", "POST", MAINTAINER),
    Row("projects:plan-row", "GET", MEMBER, P | {"kind": "check"}),
    Row("projects:contract-new", "GET", MEMBER),
    Row("projects:contract-new", "POST", MEMBER),
    Row("projects:contract-validate", "POST", MEMBER),
    Row("projects:contract-edit", "GET", MEMBER, P | {"module": "m1"}),
    Row("projects:contract-edit", "POST", MEMBER, P | {"module": "m1"}),
    Row("projects:contract-remove", "POST", MEMBER, P | {"module": "m1"}),
    Row("projects:inbox", "GET", VIEWER),
    Row("projects:inbox-count", "GET", VIEWER),
    Row("projects:log", "GET", VIEWER),
    Row("projects:log-download", "GET", VIEWER, P | {"form": "jsonl"}),
    Row("reviews:review", "GET", VIEWER, P | {"pk": REVIEW}),
    Row("reviews:overrule", "POST", MAINTAINER, P | {"pk": REVIEW}),
    Row("reviews:comment", "POST", MEMBER, P | {"pk": REVIEW}, {"text": "Look."}),
    Row("reviews:queue", "GET", VIEWER),
    Row("agents:board", "GET", VIEWER),
    Row("agents:readiness", "GET", VIEWER),
    Row("agents:readiness-panel", "GET", VIEWER),
    Row("agents:readiness-measure", "POST", MEMBER),
    Row("agents:plan-cut", "POST", MEMBER),
    Row("agents:plan-estimates", "GET", VIEWER),
    Row("agents:coupling", "GET", VIEWER),
    Row("agents:coupling-apply", "POST", MEMBER),
    Row("agents:coupling-dismiss", "POST", MEMBER),
    Row("agents:module", "GET", VIEWER, CART),
    Row("agents:module-pause", "POST", MEMBER, CART),
    Row("agents:module-resume", "POST", MEMBER, CART),
    Row("agents:module-retry", "POST", MEMBER, CART),
    Row("agents:module-cancel", "POST", MAINTAINER, CART),
    Row("agents:module-priority", "POST", MEMBER, CART, {"priority": 1}),
    Row("agents:module-lane-leave", "POST", MAINTAINER, CART),
    Row("agents:economics", "GET", VIEWER),
    Row("agents:economics-download", "GET", VIEWER),
    Row("agents:runs", "GET", VIEWER),
    Row("agents:runs-download", "GET", VIEWER),
    Row("agents:run", "GET", VIEWER, P | {"pk": RUN}),
    Row("agents:run-log", "GET", VIEWER, P | {"pk": RUN}),
    Row("agents:run-stop", "POST", MEMBER, P | {"pk": RUN}),
    Row("agents:steer", "POST", MEMBER, P | {"pk": RUN}, {"text": "Mind the tax."}),
    Row("agents:run-recording", "GET", MEMBER, P | {"pk": RUN}),
    Row("agents:request-answer", "POST", MEMBER, P | {"pk": COUPLED}),
    Row("agents:request-answer", "POST", MAINTAINER, P | {"pk": EXCEPTION}),
    Row("agents:profiles", "GET", VIEWER),
    Row("agents:profile-set", "POST", MAINTAINER, P | {"role": "planner"}),
    Row("agents:site-profiles", "GET", ADMIN, {}),
    Row("agents:site-profile-set", "POST", ADMIN, {"role": "planner"}),
    Row("agents:provider-test-ask", "POST", MAINTAINER, P | {"role": "planner"}),
    Row("agents:provider-test", "GET", VIEWER, P | {"pk": TEST}),
    Row("agents:site-provider-test-ask", "POST", ADMIN, {"role": "planner"}),
    Row("agents:site-provider-test", "GET", ADMIN, {"pk": SITE_TEST}),
    Row("agents:quotas", "GET", VIEWER),
    Row("agents:quota-add", "POST", OWNER, data={"counts": "tokens:day", "limit": 5}),
    Row("agents:quota-preview", "GET", VIEWER),
    Row("agents:quota-download", "GET", VIEWER),
    Row("agents:quota-history", "GET", VIEWER),
    Row("agents:quota-history-download", "GET", VIEWER),
    Row("agents:quota", "GET", VIEWER, P | {"pk": QUOTA}),
    Row("agents:quota", "POST", OWNER, P | {"pk": QUOTA}, {"limit": 2, "version": 1}),
    Row("agents:quota-remove", "POST", OWNER, P | {"pk": QUOTA}, {"version": 1}),
    Row("agents:site", "GET", ADMIN, {}),
    Row("agents:host-drain", "POST", ADMIN, {"pk": HOST}, {"draining": 1}),
    Row("agents:host-download", "GET", ADMIN, {"pk": HOST}),
    Row("agents:site-quotas", "GET", ADMIN, {}),
    Row("agents:site-quota-add", "POST", ADMIN, {}),
    Row("agents:site-quota-preview", "GET", ADMIN, {}),
    Row("agents:site-quota-download", "GET", ADMIN, {}),
    Row("agents:site-quota-history", "GET", ADMIN, {}),
    Row("agents:site-quota-history-download", "GET", ADMIN, {}),
    Row("agents:site-quota", "GET", ADMIN, {"pk": QUOTA}),
    Row("agents:site-quota", "POST", ADMIN, {"pk": QUOTA}),
    Row("agents:site-quota-remove", "POST", ADMIN, {"pk": QUOTA}),
    Row("agents:providers", "GET", ADMIN, {}),
    Row("agents:provider-set", "POST", ADMIN, {}, {"name": "acme"}),
    Row("agents:provider-secret", "POST", ADMIN, {}, {"provider": ACCOUNT}),
    Row("agents:provider-reset", "POST", ADMIN, {"pk": ACCOUNT}),
    Row("agents:provider-remove", "POST", ADMIN, {"pk": ACCOUNT}),
    Row("agents:price-set", "POST", ADMIN, {}),
    Row("agents:price-remove", "POST", ADMIN, {"pk": PRICE}),
    Row("agents:price-download", "GET", ADMIN, {}),
    Row("agents:site-log", "GET", ADMIN, {}),
    Row("agents:site-log-download", "GET", ADMIN, {"form": "csv"}),
    Row("api:openapi-json", "GET", SIGNED_IN, {}),
    Row("api:openapi-view", "GET", SIGNED_IN, {}),
]

A = "/api/projects"
M = A + "/{slug}/modules/{module}"
SITE = "/api/site"
AMOUNT = {"measure": "tokens", "period": "day", "limit": 5}

API = [
    Row(A, "GET", SIGNED_IN),
    Row(A, "POST", SIGNED_IN, {}, {"name": "x", "source": "/nowhere"}),
    Row(A + "/{slug}", "GET", VIEWER),
    Row(A + "/{slug}/pause", "POST", MAINTAINER),
    Row(A + "/{slug}/resume", "POST", MAINTAINER),
    Row(A + "/{slug}/publish", "POST", MAINTAINER),
    Row(A + "/{slug}/source-key", "PUT", OWNER, data={"secret": ""}),
    Row(A + "/{slug}/plans", "GET", VIEWER),
    Row(A + "/{slug}/plans/{number}", "GET", VIEWER, P | {"number": 1}),
    Row(A + "/{slug}/plans/{number}/estimate", "GET", VIEWER, P | {"number": 1}),
    Row(A + "/{slug}/plans/{number}/approve", "POST", MAINTAINER, P | {"number": 2},
        {"digest": "d" * 64}),
    Row(A + "/{slug}/plans/propose", "POST", MEMBER),
    Row(A + "/{slug}/plans/cut", "POST", MEMBER),
    Row(A + "/{slug}/plans/{number}/retry", "POST", MAINTAINER, P | {"number": 1}),
    Row(A + "/{slug}/economics", "GET", VIEWER),
    Row(A + "/{slug}/economics/plans", "GET", VIEWER),
    Row(A + "/{slug}/modules", "GET", VIEWER),
    Row(M, "GET", VIEWER, CART),
    Row(M + "/-/pause", "POST", MEMBER, CART),
    Row(M + "/-/resume", "POST", MEMBER, CART),
    Row(M + "/-/retry", "POST", MEMBER, CART),
    Row(M + "/-/cancel", "POST", MAINTAINER, CART),
    Row(A + "/{slug}/events", "GET", VIEWER),
    Row(A + "/{slug}/attentions", "GET", VIEWER),
    Row(A + "/{slug}/reviews", "GET", VIEWER),
    Row(A + "/{slug}/reviews/{pk}", "GET", VIEWER, P | {"pk": REVIEW}),
    Row(A + "/{slug}/reviews/{pk}/comments", "POST", MEMBER, P | {"pk": REVIEW},
        {"text": "Look."}),
    Row(A + "/{slug}/reviews/{pk}/overrule", "POST", MAINTAINER, P | {"pk": REVIEW},
        {"verdict": "approve", "reason": "Yes."}),
    Row(A + "/{slug}/merges", "GET", VIEWER),
    Row(A + "/{slug}/runs", "GET", VIEWER),
    Row(A + "/{slug}/runs/{pk}", "GET", VIEWER, P | {"pk": RUN}),
    Row(A + "/{slug}/runs/{pk}/log", "GET", VIEWER, P | {"pk": RUN}),
    Row(A + "/{slug}/runs/{pk}/stop", "POST", MEMBER, P | {"pk": RUN}),
    Row(A + "/{slug}/runs/{pk}/steers", "GET", VIEWER, P | {"pk": RUN}),
    Row(A + "/{slug}/runs/{pk}/steers", "POST", MEMBER, P | {"pk": RUN}, {"text": "Mind the tax."}),
    Row(A + "/{slug}/runs/{pk}/recording", "GET", MEMBER, P | {"pk": RUN}),
    Row(A + "/{slug}/readiness", "GET", VIEWER),
    Row(A + "/{slug}/readiness/measure", "POST", MEMBER),
    Row(A + "/{slug}/quotas", "GET", VIEWER),
    Row(A + "/{slug}/quotas", "POST", OWNER, data=AMOUNT),
    Row(A + "/{slug}/quotas/preview", "POST", VIEWER, data=AMOUNT),
    Row(A + "/{slug}/quotas/history", "GET", VIEWER),
    Row(A + "/{slug}/quotas/{pk}/limit", "POST", OWNER, P | {"pk": QUOTA},
        {"limit": 2, "version": 1}),
    Row(A + "/{slug}/quotas/{pk}/remove", "POST", OWNER, P | {"pk": QUOTA}, {"version": 1}),
    Row(SITE + "/quotas", "GET", ADMIN, {}),
    Row(SITE + "/quotas", "POST", ADMIN, {}, AMOUNT | {"scope": "site"}),
    Row(SITE + "/quotas/preview", "POST", ADMIN, {}, AMOUNT | {"scope": "site"}),
    Row(SITE + "/quotas/history", "GET", ADMIN, {}),
    Row(SITE + "/quotas/{pk}/limit", "POST", ADMIN, {"pk": QUOTA}, {"limit": 2, "version": 1}),
    Row(SITE + "/quotas/{pk}/remove", "POST", ADMIN, {"pk": QUOTA}, {"version": 1}),
    Row(SITE + "/providers", "GET", ADMIN, {}),
    Row(SITE + "/providers", "POST", ADMIN, {}, {"name": "acme"}),
    Row(SITE + "/providers/{pk}/secret", "POST", ADMIN, {"pk": ACCOUNT}, {"value": ""}),
    Row(SITE + "/providers/{pk}/reset", "POST", ADMIN, {"pk": ACCOUNT}),
    Row(SITE + "/providers/{pk}/remove", "POST", ADMIN, {"pk": ACCOUNT}),
    Row(SITE + "/prices", "GET", ADMIN, {}),
    Row(SITE + "/prices", "POST", ADMIN, {},
        {"model": "m", "input_per_million": 1, "output_per_million": 2}),
    Row(SITE + "/prices/{pk}/remove", "POST", ADMIN, {"pk": PRICE}),
    Row(SITE + "/hosts", "GET", ADMIN, {}),
    Row(SITE + "/hosts/{pk}/readings", "GET", ADMIN, {"pk": HOST}),
    Row(SITE + "/hosts/{pk}/drain", "POST", ADMIN, {"pk": HOST}, {"draining": True}),
    Row(SITE + "/projects", "GET", ADMIN, {}),
    Row(SITE + "/events", "GET", ADMIN, {}),
    Row(A + "/{slug}/profiles/{role}/test", "POST", MAINTAINER, P | {"role": "planner"}),
    Row(A + "/{slug}/tests/{pk}", "GET", VIEWER, P | {"pk": TEST}),
    Row(SITE + "/profiles/{role}/test", "POST", ADMIN, {"role": "planner"}),
    Row(SITE + "/tests/{pk}", "GET", ADMIN, {"pk": SITE_TEST}),
    Row(A + "/{slug}/requests", "GET", VIEWER),
    Row(A + "/{slug}/requests/{pk}/answer", "POST", MEMBER, P | {"pk": COUPLED},
        {"granted": False}),
    Row(A + "/{slug}/requests/{pk}/answer", "POST", MAINTAINER, P | {"pk": EXCEPTION},
        {"granted": False}),
]  # fmt: skip

TABLE = [*PAGES, *API]

#: Name of an actor to the role in the project; charlie has none, nobody is not signed in.
CAST = {
    "alice": OWNER, "mia": MAINTAINER, "bob": MEMBER, "vera": VIEWER, "charlie": None,
    "nobody": None, "root": OWNER,
}  # fmt: skip

#: Routes of other packages, which test their own.
FOREIGN = {"admin", "accounts"}


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository and, beside it, a hub of it; every test has its own copy of the hub."""
    place = tmp_path_factory.mktemp("matrix")
    files = {"m1.py": "a = 1\n", "m2.py": "b = 1\n", "tests/test_m1.py": "", "tests/test_m2.py": ""}
    source = make.source_repository(place / "team", files)
    Hub.create(place / "hub.git", str(source), "main", roots=[place])
    return source


@pytest.fixture(scope="module")
def rows(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, team: Path
) -> Iterator[dict[str, Any]]:
    """Make one world for all tests of this file: making it takes longer than most of them."""
    place = team.parent / "home"
    home = override_settings(TUTTI_HOME=place, TUTTI_SOURCE_ROOTS=[team.parent])
    place.mkdir(exist_ok=True)
    with django_db_blocker.unblock(), home, transaction.atomic():
        yield made_world(team)
        transaction.set_rollback(True)


@pytest.fixture
def world(rows: dict[str, Any], db: None, team: Path) -> dict[str, Any]:
    """The world as it was made, whatever the test before did to it: `db` takes that back."""
    hub_renew(team, Project.objects.get(slug="shop"))
    return rows


def hub_renew(team: Path, project: Project) -> None:
    shutil.rmtree(project.hub_path, ignore_errors=True)
    shutil.copytree(team.parent / "hub.git", project.hub_path)


def made_world(team: Path) -> dict[str, Any]:
    """A project in which every route has something to act on; gives ids of its rows by name."""
    people = {name: role for name, role in CAST.items() if role and name != "root"}
    project = make.project(people=people)
    make.user("root", is_superuser=True, is_staff=True)
    make.user("charlie")
    make.project("attic", people=people, archived_at=timezone.now())
    Project.objects.update(source=str(team))
    hub_renew(team, project)
    cart = make.module(make.plan(project), "cart", "reviewing", lane="money")
    desk = make.module(cart.plan, "desk", "needs_person", resume_to="building")
    parked = make.run(desk, status="parked", ended_at=timezone.now())
    running = make.run(cart, "review")
    draft = plans.plan_draft(Project.objects.get(slug="shop"), make.user("bob"))
    for name in ("m1", "m2"):
        values = {"owns": [f"{name}.py"], "tests": [f"tests/test_{name}.py"], "checks": ["true"]}
        plans.contract_save(draft, name, make.user("bob"), values, create=True)
    cookies = {}
    for name in CAST.keys() - {"nobody"}:
        client = Client()
        client.force_login(make.user(name))
        cookies[name] = client.cookies
    return {
        "cookies": cookies,
        "run": running.pk,
        "review": make.review(cart).pk,
        "coupled": make.request(parked, "coupled", data={"modules": ["cart"]}).pk,
        "exception": make.request(parked, "exception", data={"paths": ["m1.py"]}).pk,
        "bob": make.user("bob").pk,
        "quota": Quota.objects.create(
            scope="project", project=project, measure="parallel", period="now", limit=3
        ).pk,
        "account": Provider.objects.create(name="lab").pk,
        "price": Price.objects.create(model="m1", input_per_million=1, output_per_million=2).pk,
        "host": Host.objects.create(name="box").pk,
        "test": ProviderTest.objects.create(project=project, role="planner", backend="acp").pk,
        "site_test": ProviderTest.objects.create(role="planner", backend="acp").pk,
        "token": invitation_create(project=project, role=MEMBER, by=make.user("alice")),
        "invitation": Invitation.objects.get().pk,
    }


def address(row: Row, world: dict[str, Any]) -> str:
    kwargs = {
        name: world[value[1:-1]] if str(value).startswith("{") else value
        for name, value in row.kwargs.items()
    }
    return row.route.format(**kwargs) if row.is_api else reverse(row.route, kwargs=kwargs)


def send(row: Row, world: dict[str, Any], name: str, verb: str = "") -> Any:
    """Answer of one actor, with everything that it wrote taken back."""
    client = Client()
    client.cookies = SimpleCookie(world["cookies"].get(name))
    body, kind = urlencode(row.data), "application/x-www-form-urlencoded"
    if row.is_api:
        body, kind = json.dumps(row.data), "application/json"
    with transaction.atomic():
        answer = client.generic(verb or row.verb, address(row, world), body, kind)
        transaction.set_rollback(True)
    return answer


def expected(row: Row, name: str) -> str:
    """What the table says of an actor: in, sign in, hidden or refused."""
    if row.least == ANYBODY:
        return "in"
    if name == "nobody":
        return "sign in"
    if row.least == SIGNED_IN:
        return "in"
    if row.least == ADMIN:
        return "in" if name == "root" else "refused"
    held = CAST[name]
    if held is None:
        return "hidden"
    return "in" if Role(held).covers(Role(row.least)) else "refused"


def outcome(answer: Any) -> str:
    sent = answer.headers.get("Location", "")
    if answer.status_code == 401 or sent.startswith("/accounts/login/"):
        return "sign in"
    return {403: "refused", 404: "hidden"}.get(answer.status_code, "in")


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_each_role_may_what_the_table_says(row: Row, world: dict[str, Any]) -> None:
    found = {name: outcome(send(row, world, name)) for name in CAST}
    assert found == {name: expected(row, name) for name in CAST}


# The following go through the table in one world each: making one takes longer than a request.


def test_no_write_is_done_without_the_token(world: dict[str, Any]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make.user("root"))
    writes = [row for row in TABLE if row.verb == "POST"]
    status = {str(row): client.post(address(row, world)).status_code for row in writes}
    assert {row: found for row, found in status.items() if found != 403} == {}


def test_reading_changes_nothing(world: dict[str, Any]) -> None:
    def state() -> list[Any]:
        return [
            list(Project.objects.values_list("pk", "event_count", "ceiling", "paused_at")),
            list(Module.objects.order_by("pk").values_list("pk", "status", "version")),
            list(Membership.objects.order_by("pk").values_list("pk", "role")),
        ]

    before = state()
    client = Client()
    client.force_login(make.user("root"))
    for row in (row for row in TABLE if row.verb == "GET"):
        assert client.get(address(row, world)).status_code < 500, row
        assert state() == before, row


# --- Nothing is missing from the table -----------------------------------------------------------


def walk(patterns: list[Any], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            if str(pattern.pattern).split("/")[0] in FOREIGN:
                continue
            inner = f"{prefix}{pattern.namespace}:" if pattern.namespace else prefix
            yield from walk(pattern.url_patterns, inner)
        elif isinstance(pattern, URLPattern):
            yield f"{prefix}{pattern.name}"


def page_routes() -> set[str]:
    found = set(walk(get_resolver().url_patterns))
    # The operations of the API are listed by address and verb instead.
    return {name for name in found if not name.startswith("api:") or "openapi" in name}


def test_every_page_is_in_the_table() -> None:
    assert page_routes() == {row.route for row in PAGES}


def test_every_operation_is_in_the_table() -> None:
    schema = api.get_openapi_schema()
    operations = {(path, verb.upper()) for path, verbs in schema["paths"].items() for verb in verbs}
    assert operations == {(row.route, row.verb) for row in API}


def test_no_other_verb_is_answered(world: dict[str, Any]) -> None:
    verbs: dict[str, set[str]] = {}
    for row in PAGES:
        verbs.setdefault(row.route, set()).add(row.verb)
    answered = [
        f"{verb} {row.route}"
        for row in {row.route: row for row in PAGES if not row.route.startswith("api:")}.values()
        for verb in {"GET", "POST", "PUT", "PATCH", "DELETE"} - verbs[row.route]
        if send(row, world, "root", verb).status_code != 405
    ]
    assert answered == []
