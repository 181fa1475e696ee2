from __future__ import annotations

import csv
import io
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from agents.economicspage import MODULES
from agents.runlist import PAGE
from projects.models import Module, Plan
from tests import factories as make

KINDS = {"tests": "planner", "build": "executor", "review": "orchestrator", "merge": ""}


def ended(module: Module, kind: str, begin: int, seconds: int = 10, **values):
    """A run that began so many seconds after the plan's approval and ended."""
    zero = module.plan.decided_at
    assert zero is not None
    agent = seconds if KINDS.get(kind) else 0
    tokens = {"input_tokens": 100, "output_tokens": 10} if agent else {}
    defaults = {
        "role": KINDS.get(kind, "executor"),
        "needs_slot": bool(KINDS.get(kind, "x")),
        "started_at": zero + timedelta(seconds=begin),
        "ended_at": zero + timedelta(seconds=begin + seconds),
        "agent_seconds": agent,
        "gate_seconds": seconds - agent,
        "backend": "command",
        **tokens,
    }
    return make.run(module, kind, values.pop("status", "succeeded"), **{**defaults, **values})


def finished_plan(project, modules: int = 2, *, number_of_kinds: int = 4) -> Plan:
    zero = timezone.now() - timedelta(hours=1)
    plan = make.plan(project, decided_at=zero, finished_at=zero + timedelta(seconds=60))
    for place in range(modules):
        module = make.module(plan, f"m{place}", Module.Status.MERGED)
        for turn, kind in enumerate(list(KINDS)[:number_of_kinds]):
            ended(module, kind, 10 * turn)
    return plan


@pytest.fixture
def project(db):
    return make.project()


@pytest.fixture
def plan(project):
    return finished_plan(project)


def get(client, name="economics", **query):
    client.force_login(make.user("bob"))
    return client.get(reverse(f"agents:{name}", args=["shop"]), query)


def test_page_shows_figures_tables_and_pictures_with_their_tables(client, plan):
    html = get(client).content.decode()
    assert '<b id="wall">60.0 s</b>' in html and '<b id="sequential">80.0 s</b>' in html
    assert '<b id="merged">2 of 2</b>' in html
    assert html.count("<svg") == html.count("The same as a table") == 4
    assert html.count("<title>") > 4 and html.count("<desc>") == 4
    assert "style=" not in html
    assert 'id="replayed"' not in html


def test_every_figure_links_to_its_runs(client, plan):
    html = get(client).content.decode()
    runs = reverse("agents:runs", args=["shop"])
    links = {
        "role": "planner",
        "purpose": "rework",
        "kind": "merge",
        "module": "m0",
        "parallel": "1",
    }
    for name, value in links.items():
        assert f"{runs}?plan=1&amp;{name}={value}" in html, name
        assert get(client, "runs", **{name: value, "plan": "1"}).status_code == 200


def test_unpriced_and_unknown_are_said_and_never_zero(client, plan):
    html = get(client).content.decode()
    assert '<b id="money">unpriced (6 runs)</b>' in html
    module = Module.objects.get(slug="m0")
    ended(module, "build", 30, input_tokens=None, output_tokens=None, cost=Decimal("1.25"))
    html = get(client).content.decode()
    assert '<b id="money">1.2500 USD, 6 runs unpriced</b>' in html
    assert '<b id="tokens">660, unknown for 1 run</b>' in html


def test_a_replay_is_labelled(client, plan):
    ended(Module.objects.get(slug="m0"), "build", 30, backend="replay")
    assert 'id="replayed"' in get(client).content.decode()


def test_parallel_that_did_not_pay_is_flagged_with_its_reason(client, project):
    plan = finished_plan(project, 1)
    assert "Parallel did not pay" in get(client).content.decode()
    assert plan.number == 1


def test_a_project_without_an_approved_plan_says_what_to_do(client, project):
    assert 'id="no-plan"' in get(client).content.decode()
    make.plan(project, Plan.Status.DRAFT)
    html = get(client).content.decode()
    assert 'id="no-plan"' in html and reverse("projects:plan", args=["shop"]) in html
    assert get(client, "economics-download").status_code == 404


@pytest.mark.parametrize("number", ["2", "0", "x", "-1", "9" * 30])
def test_a_plan_that_is_not_there_is_404(client, plan, number):
    assert get(client, plan=number).status_code == 404


def test_a_running_plan_follows_by_itself_and_a_finished_one_stands(client, plan):
    assert 'id="live" data-topic' not in get(client).content.decode()
    Plan.objects.update(finished_at=None)
    html = get(client).content.decode()
    assert 'id="live" data-topic="p/' in html and "figures so far" in html


def test_modules_are_paged_and_sorted(client, project):
    plan = finished_plan(project, MODULES + 5, number_of_kinds=1)
    ended(Module.objects.get(slug="m29"), "build", 20, seconds=99)
    first = get(client).content.decode()
    table = first.split('id="modules"')[1].split("</table>")[0]
    assert table.count("<tr>") == MODULES + 1 and table.index("m29") < table.index("m0<")
    assert "Page 1 of 2" in first
    assert "Page 2 of 2" in get(client, page="2", sort="tokens").content.decode()
    assert "Page 2 of 2" in get(client, page="99", sort="nonsense").content.decode()
    assert plan.number == 1


def test_a_page_of_many_modules_takes_as_many_queries_as_one_of_few(client, project):
    finished_plan(project, 2)
    other = make.project("large")
    finished_plan(other, 40)
    client.force_login(make.user("bob"))
    counts = []
    for slug in ("shop", "large", "shop", "large"):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            answer = client.get(reverse("agents:economics", args=[slug]))
        assert answer.status_code == 200
        counts.append(len(queries))
    assert counts[2] == counts[3] <= 25
    assert counts[0] == counts[1]


def test_tables_as_csv(client, plan):
    answer = get(client, "economics-download", plan="1")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert answer["Content-Type"].startswith("text/csv")
    total = next(row for row in rows if row["group"] == "total")
    assert (total["runs"], total["input_tokens"], total["cost"]) == ("8", "600", "")
    for group in ("role", "kind", "purpose", "module"):
        found = [int(row["input_tokens"]) for row in rows if row["group"] == group]
        assert sum(found) == 600, group


def test_runs_as_csv_with_the_lists_filters(client, plan):
    answer = get(client, "runs-download", plan="1", role="planner")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert [row["kind"] for row in rows] == ["tests", "tests"]
    merges = get(client, "runs-download", kind="merge").content.decode()
    assert next(csv.DictReader(io.StringIO(merges)))["input_tokens"] == ""


def test_no_cell_of_a_csv_is_a_formula(client, plan):
    ended(Module.objects.get(slug="m0"), "build", 30, model="=HYPERLINK(1)", reason="@x")
    text = get(client, "runs-download").content.decode()
    assert ",'=HYPERLINK(1)," in text and "'@x" in text


def listed(client, **query) -> list[str]:
    html = get(client, "runs", **query).content.decode()
    return [part.split('"')[0] for part in html.split('<tr id="run-')[1:]]


def test_the_list_of_runs_filters_by_everything(client, plan):
    module = Module.objects.get(slug="m0")
    again = ended(module, "build", 40, parallel_only=True, status="failed")
    own = make.run(module, "build", "interrupted", started_at=None, ended_at=None)
    own.module = None
    own.kind, own.role = "finish", ""
    own.save()
    assert len(listed(client)) == 10
    assert listed(client, purpose="rework", plan="1") == [str(again.pk)]
    assert len(listed(client, purpose="code")) == 2
    assert len(listed(client, purpose="coordination")) == 3
    assert listed(client, purpose="plan") == listed(client, purpose="nonsense") == []
    assert listed(client, parallel="1") == listed(client, status="failed") == [str(again.pk)]
    assert listed(client, module="-") == [str(own.pk)]
    assert len(listed(client, role="none")) == 3
    assert listed(client, status="active") == []
    assert listed(client, plan="9") == []
    assert len(listed(client, module="m1", kind="tests")) == 1


def test_the_list_of_runs_is_paged(client, plan):
    module = Module.objects.get(slug="m0")
    for _ in range(PAGE):
        ended(module, "recheck", 1)
    first = listed(client)
    assert len(first) == PAGE
    assert len(listed(client, before=first[-1])) == 8
    assert "Older" in get(client, "runs").content.decode()


def test_api_tells_the_figures_and_the_plans(client, plan):
    client.force_login(make.user("bob"))
    found = client.get("/api/projects/shop/economics?plan=1").json()
    assert found["totals"]["wall_seconds"] == 60 and found["total"]["cost"] is None
    assert found["by_role"]["planner"]["input_tokens"] == 200
    assert list(found["what_if"]) == [str(n) for n in range(1, 21)]
    (row,) = client.get("/api/projects/shop/economics/plans").json()
    assert (row["number"], row["runs"], row["tokens"], row["cost"]) == (1, 8, 660, None)
    assert client.get("/api/projects/shop/economics?plan=3").status_code == 404
    assert client.get("/api/projects/shop/economics?plan=0").status_code == 422


def test_strangers_learn_nothing(client, plan):
    client.force_login(make.user("charlie"))
    for name in ("economics", "economics-download", "runs", "runs-download"):
        assert client.get(reverse(f"agents:{name}", args=["shop"])).status_code == 404


def test_the_board_links_to_the_economics_of_a_finished_plan(client, plan):
    html = get(client, "board").content.decode()
    assert reverse("agents:economics", args=["shop"]) + "?plan=1" in html
