"""The main job with agents that exist: OpenCode writes tests and code, a model API judges."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Sum

from agents import figures
from agents.models import Channel, Run
from agents.services.profiles import profile_set
from agents.services.recovery import check_invariants
from agents.workspaces import Workspace
from projects import plancontent
from projects.models import Plan
from projects.services.plans import open_plan
from projects.services.projects import project_create
from reviews.audit import verify
from reviews.models import CheckResult
from tests import factories
from tests.acceptance.stage import Stage, overlaps
from tests.agents.llmstub import IN, OUT, Stub
from tests.agents.modelstub import Answer, ModelStub, Tokens
from tests.agents.test_acp_opencode import PRICE, config, program  # noqa: F401 - a fixture
from tests.browser.conftest import daphne, server, tutti_home  # noqa: F401 - fixtures

pytestmark = pytest.mark.timeout(600)

GOAL = "Receipts: money in euros, and labels that fit their column."
FILES = {"README.md": "# Shop\n", "shop/__init__.py": "", "tests/__init__.py": ""}
MODULES = ("labels", "money")
PROVIDES = {"money": "shop.money.euros(cents)", "labels": "shop.labels.fit(text, width)"}
TESTS = {
    "money": """import unittest

from shop import money


class EurosTest(unittest.TestCase):
    def test_cents_have_two_places(self):
        self.assertEqual(money.euros(105), "1.05 EUR")
""",
    "labels": """import unittest

from shop import labels


class FitTest(unittest.TestCase):
    def test_what_is_short_stays(self):
        self.assertEqual(labels.fit("milk", 8), "milk")

    def test_what_is_long_is_cut(self):
        self.assertEqual(labels.fit("buttermilk", 8), "butterm~")
""",
}
EUROS = 'return f"{cents // 100}.{cents % 100:02d} EUR"'
FIT = 'return text if len(text) <= width else text[: width - 1] + "~"'
STUB = "raise NotImplementedError"


def tool(name: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return name, arguments


def said(**answer: Any) -> str:
    return f"Done.\n{json.dumps({'tutti': answer})}"


def code(module: str) -> str:
    return f"shop/{module}.py"


def test(module: str) -> str:
    return f"tests/test_{module}.py"


test.__test__ = False  # type: ignore[attr-defined]


def check(module: str) -> str:
    return f"python3 -m unittest -q tests.test_{module}"


def written(module: str) -> list[Answer]:
    """A planner's steps: it reports, and writes the module's tests."""
    return [
        tool("tutti_report_progress", message=f"I write the tests of {module}.", percent=50),
        tool("write", filePath=test(module), content=TESTS[module]),
        said(outline=f"Fill in {PROVIDES[module]}."),
    ]


#: What OpenCode's model orders, step by step, in the conversation of one run.
STEPS: dict[tuple[str, str], list[Answer]] = {
    ("money", "PLANNING"): written("money"),
    ("labels", "PLANNING"): written("labels"),
    ("money", "EXECUTION"): [
        tool("read", filePath=code("money")),
        tool("edit", filePath=code("money"), oldString=STUB, newString=EUROS),
        tool("bash", command=check("money"), description="Run the tests"),
        said(summary="Cents become euros."),
    ],
    ("labels", "EXECUTION"): [
        tool("bash", command=f"sed -i 's/{STUB}/return text/' {code('labels')}",
             description="Fill in the body"),
        said(summary="Labels fit."),
        # The gate was red: its findings are the next prompt of the same session.
        tool("read", filePath=code("labels")),
        tool("edit", filePath=code("labels"), oldString="return text", newString=FIT),
        said(summary="Labels that are too long are cut."),
    ],
}  # fmt: skip


class Crew(ModelStub):
    """The model of every OpenCode: it answers by the assignment that it finds in the request.

    The first requests of two executors are answered when both are there, so that two agents are
    at work at one moment or none.
    """

    def __init__(self, agent: Path) -> None:
        super().__init__(lambda _: "I was told nothing.")
        self.agent = agent
        self.both = threading.Barrier(2, action=self.look)
        #: The agents that were alive when both executors had asked: pid and working directory.
        self.alive: dict[int, str] = {}

    def look(self) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "exe").readlink() == self.agent:
                    self.alive[int(process.name)] = str((process / "cwd").readlink())
            except OSError:
                continue

    def say(self, body: dict[str, Any]) -> Answer:
        key, step = whose(body), steps_before(body)
        if key is None or not body.get("tools"):
            return super().say(body)
        if key[1] == "EXECUTION" and step == 0:
            self.both.wait(90)
        return STEPS[key][step]

    def tokens(self, body: dict[str, Any]) -> Tokens:
        """No two steps cost the same, so that a sum shows which of them it holds."""
        step = steps_before(body)
        return 1_000 + 100 * step, 400 * bool(step), 50 + step

    def gave(self, module: str, role: str) -> list[Tokens]:
        """Tokens of each step of a module's agents in a role, titles left out."""
        return [tokens for body, tokens in self.given
                if body.get("tools") and whose(body) == (module, role)]  # fmt: skip


def whose(body: dict[str, Any]) -> tuple[str, str] | None:
    """The module and role that a request to OpenCode's model is for."""
    text = json.dumps(body["messages"])
    module = re.search(r"# The module\\n(\w+):", text)
    role = re.search(r"You are the (PLANNING|EXECUTION) agent", text)
    return (module[1], role[1]) if module and role else None


def steps_before(body: dict[str, Any]) -> int:
    return sum(message["role"] == "assistant" for message in body["messages"])


@dataclass
class Judge:
    """The orchestrator's model: it cuts the goal, and has one module mended before it approves."""

    fixed: bool = False

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps(body["messages"])
        if "# The change to judge" in text:
            if "shop/labels.py" not in text.partition("# The change to judge")[2] or self.fixed:
                return {"verdict": "approve", "summary": "Good.", "findings": []}
            found = {"path": code("labels"), "line": 2, "message": "Say it with a real ellipsis."}
            return {"verdict": "fix", "summary": "Almost.", "findings": [found]}
        if "# Findings that you have to answer" in text:
            self.fixed = True
            edit = {"path": code("labels"), "search": FIT, "replace": f"{FIT}  # Cut."}
            return {"summary": "Said.", "edits": [edit]}
        checks = [{"run": "python3 -m unittest -q", "at": "end"}]
        plan = {"modules": proposed(), "project": {"checks": checks}}
        return {"summary": "Two that share nothing.", "plan": plan}


def proposed() -> list[dict[str, Any]]:
    return [
        {
            "slug": name,
            "title": name.title(),
            "brief": f"Write {name}.",
            "owns": [code(name)],
            "tests": [test(name)],
            "provides": [PROVIDES[name]],
            "checks": [check(name)],
        }
        for name in MODULES
    ]


class Job(Stage):
    """A team's repository with a goal, and nobody who cut it yet."""

    def __post_init__(self) -> None:
        self.source = factories.source_repository(self.folder / "source", FILES)
        self.project = project_create(
            slug="shop", source=str(self.source), owner=self.owner, goal=GOAL
        )

    def played_by(self, crew: Crew, judge: Stub) -> None:
        """OpenCode plans with one model and builds with another; a model API judges."""
        values = {
            "agent": "opencode",
            "command": [str(crew.agent), "acp"],
            "readable": [str(crew.agent.parent)],
            "variables": {"OPENCODE_CONFIG_CONTENT": config(crew.url, "allow", "allow")},
            "network": True,
        }
        root = factories.user("root", is_superuser=True)
        profile_set(self.project, "planner", "acp", "stub/big", values, root)
        profile_set(self.project, "executor", "acp", "stub/small", values, root)
        profile_set(self.project, "orchestrator", "llm", "judge-1",
                    {"base_url": judge.url}, root)  # fmt: skip


@pytest.fixture
def crew(program):  # noqa: F811
    found = Crew(program)
    yield found
    found.close()


@pytest.fixture
def judge():
    found = Stub(Judge())
    yield found
    found.close()


@pytest.fixture
def job(server, settings, tmp_path, alice, crew, judge):  # noqa: F811
    settings.TUTTI_URL = server.url
    made = Job(tmp_path, alice, [], slug="shop")
    made.played_by(crew, judge)
    return made


def test_a_goal_is_cut_edited_approved_built_by_two_agents_at_once_reviewed_and_merged(
    job, crew, judge, client, alice
):
    client.force_login(alice)
    asked_for_and_edited(job, client)
    job.work(seconds=240)
    assert job.statuses() == dict.fromkeys(MODULES, "merged"), reasons(job)
    built_at_once(job, crew)
    found_red_and_mended(job)
    reviewed(job)
    merged(job)
    reported(job)
    counted(job, crew, judge, client)
    assert check_invariants() == []
    assert verify(job.project) == ""


def asked_for_and_edited(job, client):
    """The plan's way: proposed by a model, changed by a person in its form, and approved."""
    url = "/projects/shop/plan/"
    assert client.post(f"{url}propose/").status_code == 302
    job.plan = open_plan(job.project)
    job.work()
    assert job.statuses() == dict.fromkeys(MODULES, "draft"), reasons(job)
    html = client.get(f"{url}modules/money/edit/").content.decode()
    form = {**proposed()[1], "brief": "Euros with two places.", "priority": "0",
            "seen": html.split('name="seen" value="')[1].split('"')[0]}  # fmt: skip
    form |= {name: form[name][0] for name in ("owns", "tests", "provides", "checks")}
    assert client.post(f"{url}modules/money/edit/", form).status_code == 302
    assert client.post(f"{url}submit/").status_code == 302
    job.plan.refresh_from_db()
    assert job.plan.status == Plan.Status.SUBMITTED
    assert "Euros with two places." in plancontent.plan_file(job.plan).modules[1].brief
    answer = client.post(f"{url}approve/", {"digest": job.plan.digest})
    assert answer.status_code == 302
    job.plan.refresh_from_db()
    assert (job.plan.status, job.plan.decided_by) == (Plan.Status.APPROVED, job.owner)


def built_at_once(job, crew):
    """Two processes, each in a clone of its own, were at work when both had asked."""
    places = sorted(crew.alive.values())
    clones = [str(Workspace.of(job.project.pk, name).path) for name in MODULES]
    assert len(crew.alive) >= 2 and set(places) >= set(clones), crew.alive
    builds = [run for name in MODULES for run in job.runs(name, "build")]
    assert overlaps(builds) == 2
    sent = json.dumps([body["messages"] for body, _ in crew.given])
    assert "Euros with two places." in sent, "what the person wrote reached the agents"


def found_red_and_mended(job):
    for name in MODULES:
        (tests,) = job.runs(name, "tests")
        assert (tests.status, tests.backend, tests.model) == ("succeeded", "acp", "stub/big")
        assert tests.sandbox == job.runs(name, "build")[0].sandbox
    phases = checked("money")
    assert phases == [("red", False), ("green", True), ("merge", True)], phases
    (build,) = job.runs("labels", "build")
    assert (build.turns, build.model) == (2, "stub/small")
    assert "FAIL" in build.assignments[1]["follow_up"]


def checked(module):
    rows = CheckResult.objects.filter(module__slug=module).order_by("pk")
    return list(rows.values_list("phase", "ok"))


def reviewed(job):
    assert job.verdicts("money") == ["approve"]
    assert job.verdicts("labels") == ["fix", "approve"]
    (fix,) = job.runs("labels", "fix")
    assert (fix.backend, fix.status) == ("llm", "succeeded")


def merged(job):
    assert EUROS in job.merged_file(code("money"))
    assert f"{FIT}  # Cut." in job.merged_file(code("labels"))
    assert [job.merged_file(test(name)) for name in MODULES] == [TESTS[name] for name in MODULES]
    given = {*FILES, *map(code, MODULES), *map(test, MODULES)}
    assert set(job.hub.files(job.merged_head)) == given, "nothing of OpenCode's own came in"
    assert job.plan.finished_at is not None
    (end,) = CheckResult.objects.filter(project=job.project, phase="end")
    assert end.ok


def reported(job):
    """OpenCode found Tutti's tools by itself, and used one."""
    for name in MODULES:
        (run,) = job.runs(name, "tests")
        notes = [row.data["text"] for row in run.log.filter(kind="progress")]
        assert notes == [f"I write the tests of {name}. (50 %)"]
    channels = Channel.objects.filter(run__project=job.project)
    assert [channel.run.pk for channel in channels if channel.connected_at is None] == []
    assert len(channels) == 4


def counted(job, crew, judge, client):
    """What is shown is what the stubs gave out, or says that it is less."""
    asked = Run.objects.filter(project=job.project, role="orchestrator")
    assert {run.usage_quality for run in asked} == {"exact"}
    told = asked.aggregate(read=Sum("input_tokens"), written=Sum("output_tokens"))
    given = len(judge.requests)
    assert told == {"read": IN * given, "written": OUT * given}
    for name in MODULES:
        for kind, role in (("tests", "PLANNING"), ("build", "EXECUTION")):
            (run,) = job.runs(name, kind)
            gave = crew.gave(name, role)
            cost = sum(price(*tokens) for tokens in gave)
            # It tells the last step of each turn alone, and the money of all of them.
            assert run.usage_quality == "last_step"
            ends = [one for one, step in zip(gave, STEPS[name, role], strict=True)
                    if isinstance(step, str)]  # fmt: skip
            assert run.input_tokens == sum(read for read, _, _ in ends)
            assert run.output_tokens == sum(written for _, _, written in ends)
            assert float(run.cost) == pytest.approx(cost, abs=0.000002)
            shown = client.get(f"/projects/shop/runs/{run.pk}/").content.decode()
            assert f"at least {run.input_tokens}, {run.output_tokens} " in shown
            assert f"{run.cost:.4f} USD" in shown
    finished = figures.summary(job.plan)
    assert finished is not None and finished.runs_with_part == 4
    assert finished.sequential_seconds == pytest.approx(figures.figures(job.plan).sequential)
    assert client.get("/projects/shop/economics/").content.decode().count("at least ") > 4
    assert "at least " in client.get("/projects/shop/board/").content.decode()


def price(read: int, cached: int, written: int) -> float:
    paid = (read - cached) * PRICE["input"] + cached * PRICE["cache_read"]
    return (paid + written * PRICE["output"]) / 1_000_000


def reasons(job):
    rows = Run.objects.filter(project=job.project).order_by("pk")
    return [(row.kind, row.module and row.module.slug, row.status, row.reason) for row in rows]
