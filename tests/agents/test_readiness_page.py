"""The readiness list on its page, in short on board and plan, and by API; read in few queries."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents import scheduler
from agents.models import Host, Measurement, Profile, Quota
from agents.readiness import Point, State, points
from agents.readiness_facts import facts_of
from agents.services import coupling, measuring
from projects import live, planfile
from projects.coupling import Suggestion
from projects.models import Event, Project, Role
from projects.services import plans
from projects.services import projects as services
from projects.services.errors import Refused
from tests import factories
from tests.projects.pages import LIVE, PLAN, client_of, draft, text_of

URL = "/projects/shop/readiness/"
HTMX = {"HTTP_HX_REQUEST": "true"}

FILES = {
    "m1.py": "",
    "m2.py": "",
    "tests/test_m1.py": "import m1\n\n\ndef test_it():\n    assert m1.main(1)\n",
    "tests/test_m2.py": "",
}


def imported(project, text=PLAN):
    return plans.plan_import(project, planfile.load(text), factories.user("alice"))


@pytest.fixture
def shop(db, tutti_home, tmp_path):
    people = {"alice": Role.OWNER, "bob": Role.MEMBER, "vera": Role.VIEWER}
    made = factories.project("shop", people=people)
    factories.hub(made, factories.source_repository(tmp_path / "source", FILES))
    imported(made)
    return made


def client(name):
    return client_of(factories.user(name))


def found(project) -> dict[str, Point]:
    return {point.key: point for point in points(facts_of(Project.objects.get(pk=project.pk)))}


def measured(project, text=PLAN):
    if text != PLAN:
        imported(project, text)
    asked = measuring.measurement_ask(project, factories.user("bob"))
    measuring.measurement_do(asked.pk)
    return Measurement.objects.get(pk=asked.pk)


# --- The page, the short form, the API -----------------------------------------------------------


def test_page_says_every_point_with_why_and_what_mends_it(shop):
    page = client("vera").get(URL).content.decode()
    list_ = found(shop)
    assert len(list_) >= 18
    for point in list_.values():
        assert f'id="point-{point.key}"' in page
        assert point.state is State.READY or point.link
    assert "As of" in text_of(client("vera").get(URL))


def assert_links(owner) -> None:
    page = owner.get(URL).content.decode()
    # The links of the list itself, and of the page's own panels.
    links = set(re.findall(r'href="(/projects/shop/[^"#]*)#([^"]+)"', page))
    assert len(links) >= 6
    for path, anchor in links:
        answer = owner.get(path)
        assert answer.status_code == 200, path
        assert f'id="{anchor}"' in answer.content.decode(), f"{path}#{anchor}"


def test_whatever_is_not_ready_links_to_a_page_that_holds_the_anchor(shop):
    assert_links(client("alice"))


def test_board_and_open_plan_ask_for_the_short_form(shop):
    plan = client("vera").get("/projects/shop/plan/").content.decode()
    board = client("vera").get("/projects/shop/board/").content.decode()
    for page in (plan, board):
        assert 'hx-get="/projects/shop/readiness/panel/?framed=1"' in page


def test_short_form_says_only_what_is_to_mend(shop):
    frame = client("vera").get("/projects/shop/readiness/panel/?framed=1", **HTMX)
    page = frame.content.decode()
    assert 'data-src="/projects/shop/readiness/panel/"' in page
    assert 'id="open-checks-prove"' in page and 'id="open-plan"' not in page
    again = client("vera").get("/projects/shop/readiness/panel/", **LIVE).content.decode()
    assert "data-src" not in again and timeless(again).strip() in timeless(page)


def timeless(page: str) -> str:
    return re.sub(r"<time .*?</time>", "", page)


def test_api_gives_the_same_points(shop):
    given = client("vera").get("/api/projects/shop/readiness").json()
    assert given["total"] == len(given["points"]) == len(found(shop))
    goal = next(point for point in given["points"] if point["key"] == "goal")
    assert (goal["state"], goal["button"]) == ("warning", None)
    assert goal["url"] == "/projects/shop/plan/edit/#id_goal"
    proof = next(point for point in given["points"] if point["key"] == "checks-prove")
    assert proof["button"]["url"] == "/projects/shop/readiness/measure/"


def test_project_without_plan_or_hub_is_said_plainly(db, tutti_home):
    made = factories.project("shop")
    page = client("alice").get(URL)
    assert page.status_code == 200
    points_ = found(made)
    assert points_["plan"].state is State.MISSING and points_["hub"].state is State.MISSING
    assert "checks-prove" not in points_


def test_workers_alone_make_no_clock(shop):
    Host.objects.create(name="worker", seen_at=timezone.now(), capacity=3)
    clock = found(shop)["clock"]
    assert clock.state is State.MISSING and "1 machine reported" in clock.why
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [scheduler.CLOCK_LOCK])
    assert found(shop)["clock"].state is State.READY


# --- Queries -------------------------------------------------------------------------------------


def module_text(count: int) -> str:
    head = "version: 1\nproject: {name: Shop, goal: Sell things to people.}\nmodules:\n"
    return head + "".join(
        f"- {{slug: x{n}, owns: [x{n}.py], tests: [tests/test_x{n}.py], checks: [c{n}]}}\n"
        for n in range(count)
    )


def queries(project) -> int:
    project = Project.objects.get(pk=project.pk)
    with CaptureQueriesContext(connection) as caught:
        facts_of(project)
    return len(caught)


def test_number_of_queries_does_not_grow(shop):
    imported(shop, module_text(2))
    few = queries(shop)
    imported(shop, module_text(60))
    for number in range(20):
        Host.objects.create(name=f"h{number}", seen_at=timezone.now())
        services.member_set(
            project=shop, user=factories.user(f"p{number}"), role=Role.MEMBER,
            by=factories.user("alice"),
        )  # fmt: skip
    assert queries(shop) == few <= 24


# --- Measuring -----------------------------------------------------------------------------------


def test_measuring_tells_green_checks_from_red_ones(shop):
    text = PLAN.replace('provides: ["m1.main(argument)"]\n  checks: ["true"]',
                        'provides: ["m1.main(argument)"]\n  checks: ["false"]')  # fmt: skip
    done = measured(shop, text)
    assert done.ended_at and not done.problem and not done.source_problem
    assert [(row["command"], row["kind"]) for row in done.rows] == [
        ("false", "failed"), ("true", "passed"),
    ]  # fmt: skip
    proof = found(shop)["checks-prove"]
    assert proof.state is State.WARNING
    assert "checks of 1 of 2 modules is green before any code (m2)" in proof.why
    assert proof.link.anchor == "id_checks"
    assert "The slowest of 2 takes" in found(shop)["checks-speed"].why


def test_declared_interface_is_there_while_checks_are_measured(shop):
    text = PLAN.replace("owns: [m1.py]", "owns: [m1.py, new.py]")
    text = text.replace('"m1.main(argument)"', '"new.thing(argument)"')
    text = text.replace('checks: ["true"]', 'checks: ["test -f new.py && false"]', 1)
    done = measured(shop, text)
    assert done.rows[0]["kind"] == "failed"
    assert "new.py" not in facts_of(shop).plan.files


def test_measuring_ends_with_an_event_and_knows_coupling_then(shop):
    assert found(shop)["coupling"].state is State.UNKNOWN
    measured(shop)
    kinds = list(Event.objects.filter(kind__startswith="checks.").values_list("kind", flat=True))
    assert kinds == ["checks.measuring", "checks.measured"]
    assert found(shop)["coupling"].state is State.READY


def test_second_order_while_one_is_open_is_the_same(shop):
    first = measuring.measurement_ask(shop, factories.user("bob"))
    assert measuring.measurement_ask(shop, factories.user("alice")).pk == first.pk
    assert Event.objects.filter(kind="checks.measuring").count() == 1


def test_repeated_message_measures_once(shop):
    done = measured(shop)
    measuring.measurement_do(done.pk)
    assert Measurement.objects.get(pk=done.pk).ended_at == done.ended_at


def test_lost_measuring_is_said_and_replaced(shop):
    lost = measuring.measurement_ask(shop, factories.user("bob"))
    ago = timezone.now() - timedelta(seconds=measuring.LOST_SECONDS + 5)
    Measurement.objects.filter(pk=lost.pk).update(started_at=ago, seen_at=ago)
    assert "without a word" in found(shop)["checks-prove"].why
    assert found(shop)["checks-prove"].button is not None
    again = measuring.measurement_ask(shop, factories.user("bob"))
    assert again.pk != lost.pk
    assert Measurement.objects.get(pk=lost.pk).ended_at is not None


def test_change_of_a_check_makes_it_unknown_again(shop):
    measured(shop)
    fields = {"owns": ["m1.py"], "tests": ["tests/test_m1.py"], "checks": ["new"]}
    plans.contract_save(draft(shop), "m1", factories.user("alice"), fields)
    plans.contract_save(draft(shop), "m2", factories.user("alice"),
                        {"owns": ["m2.py"], "checks": ["newer"]})  # fmt: skip
    assert found(shop)["checks-prove"].state is State.UNKNOWN
    assert found(shop)["checks-speed"].state is State.UNKNOWN


def test_nothing_to_measure_is_refused_with_the_reason(db, tutti_home):
    made = factories.project("shop")
    with pytest.raises(Refused, match="write the plan's modules first"):
        measuring.measurement_ask(made, factories.user("bob"))
    answer = client("bob").post(f"{URL}measure/", **HTMX)
    assert answer.status_code == 422 and "no checks to measure" in answer.content.decode()


def test_button_asks_a_worker_of_short_work(shop, monkeypatch):
    sent = []
    monkeypatch.setattr("dramatiq.brokers.redis.RedisBroker.enqueue",
                        lambda self, message: sent.append(message))  # fmt: skip
    with TestCase.captureOnCommitCallbacks(execute=True):
        answer = client("bob").post(f"{URL}measure/", **HTMX)
    assert answer.headers["HX-Redirect"] == f"{URL}#measure"
    pk = Measurement.objects.get().pk
    (message,) = sent
    assert (message.queue_name, message.actor_name) == ("short", "checks_measure")
    assert message.args == (pk,)


def test_unreadable_hub_ends_the_measuring_with_a_reason(shop, settings):
    asked = measuring.measurement_ask(shop, factories.user("bob"))
    Measurement.objects.filter(pk=asked.pk).update(commit="0" * 40)
    measuring.measurement_do(asked.pk)
    done = Measurement.objects.get(pk=asked.pk)
    assert done.ended_at and done.problem
    assert found(shop)["checks-prove"].state is State.UNKNOWN


# --- Facts ---------------------------------------------------------------------------------------


def test_broken_profile_is_found(shop):
    Profile.objects.create(project=shop, role="planner", backend="command", settings={})
    roles = found(shop)["roles"]
    assert roles.state is State.MISSING and "planner" in roles.why
    assert roles.link.anchor == "profile-planner"
    assert found(shop)["tests"].state is State.MISSING


def test_links_of_quotas_lead_to_them(shop):
    add = {"measure": "parallel", "period": "now", "limit": 1}
    Quota.objects.create(scope="project", project=shop, **add)
    assert_links(client("alice"))
    Quota.objects.all().delete()
    Quota.objects.create(scope="site", **add)
    Profile.objects.create(
        project=shop, role="executor", backend="command", settings={"command": ["x"]}
    )
    assert_links(client("alice"))


def test_group_that_a_person_took_apart_is_settled(shop):
    measured(shop)
    suggestion = Suggestion(("m1", "m2"), "import_cycle", ("a",), "apply")
    plan = draft(shop)
    specs, head = list(facts_of(shop).plan.specs), facts_of(shop).hub_head
    cache.set(coupling._key(plan, head, specs), coupling.Found(head, [suggestion]), 60)
    assert found(shop)["coupling"].state is State.WARNING
    with live.change(shop) as change:
        change.event(coupling.APPLIED, plans.topic_of(plan), live.SYSTEM, modules=["m1", "m2"])
    assert found(shop)["coupling"].state is State.READY


def test_stamp_of_a_backup_counts_as_a_copy(shop, settings, tmp_path):
    assert found(shop)["backup"].state is State.UNKNOWN
    stamp = tmp_path / "backup.done"
    settings.TUTTI_BACKUP_STAMP = stamp
    assert found(shop)["backup"].state is State.UNKNOWN
    stamp.touch()
    assert found(shop)["backup"].state is State.READY
