"""A small team's project with recorded agents, and a crew of threads that really runs it."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.db import connection

from agents import pipeline, scheduler, tasks
from agents.models import Request, Run
from agents.services.runs import run_claim
from projects import planfile
from projects.hub import Hub, integration_ref, module_ref
from projects.models import Event, Module, Plan
from projects.services.plans import plan_approve, plan_import, plan_submit
from projects.services.projects import ceiling_set, project_create, settings_set
from reviews.models import Finding, Review
from tests import factories

ROLES = {"tests": "planner", "build": "executor"}
STUB = "def answer():\n    raise NotImplementedError\n"
CREW = 8
TICK_SECONDS = 1.0


def code(name: str) -> str:
    return f'def answer():\n    return "{name}"\n'


def proof(name: str) -> str:
    return f"""import unittest

import {name}


class AnswerTest(unittest.TestCase):
    def test_answer(self):
        self.assertEqual({name}.answer(), "{name}")
"""


def check(name: str) -> str:
    return f"python3 -m unittest -q tests.test_{name}"


def part(name: str, **values: Any) -> dict[str, Any]:
    """One module of the plan: owns its file, and its planner writes its test."""
    return {
        "slug": name,
        "title": f"The {name}",
        "brief": f"Answer with {name}.",
        "owns": [f"{name}.py"],
        "tests": [f"tests/test_{name}.py"],
        "checks": [check(name)],
        **values,
    }


def given(name: str, **values: Any) -> dict[str, Any]:
    """A module whose test the team wrote: `Stage` puts it into the repository."""
    return part(name, tests={"paths": [f"tests/test_{name}.py"], "given": True}, **values)


def need(module: str, kind: str) -> dict[str, str]:
    return {"module": module, "kind": kind}


# --- Recorded turns ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """What an agent does in one turn of `seconds`: files to write, its answer and exit code."""

    files: dict[str, str] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    restore: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.05
    exit_code: int = 0


def verdict(name: str, **findings: str) -> Turn:
    """A review; `findings` are path (without its ending) and message."""
    found = [{"path": f"{p}.py", "line": 1, "message": text} for p, text in findings.items()]
    return Turn(result={"verdict": name, "summary": f"I say {name}.", "findings": found})


APPROVE = verdict("approve")


@dataclass
class Stage:
    """A repository with a file and, when given, a test for each module; and its project."""

    folder: Path
    owner: User
    modules: list[dict[str, Any]]
    head: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    slug: str = "team"

    def __post_init__(self) -> None:
        files = {"tests/__init__.py": "", "README": "A team's words.\n"}
        for module in self.modules:
            name = module["slug"]
            files[f"{name}.py"] = STUB
            if isinstance(module["tests"], dict):
                files[f"tests/test_{name}.py"] = proof(name)
        self.source = factories.source_repository(self.folder / "source", {**files, **self.files})
        for module in self.modules:
            self.play_all(module["slug"])
        self.project = project_create(slug=self.slug, source=str(self.source), owner=self.owner)
        self.plan = self.submit(self.modules)

    # Recordings

    def play_all(self, name: str) -> None:
        """What an honest crew does: the test, the code, an approval."""
        self.play(name, "tests", Turn({f"tests/test_{name}.py": proof(name)},
                                      {"outline": f"Return {name}."}))  # fmt: skip
        self.play(name, "build", Turn({f"{name}.py": code(name)}, {"summary": f"{name} answers."}))
        self.play(name, "review", APPROVE)

    def play(self, module: str, kind: str, *turns: Turn) -> None:
        """Replace what a module's agent does in its turns of this kind; the last one repeats."""
        base = self.folder / "recordings" / "base"
        base.mkdir(parents=True, exist_ok=True)
        stem = f"{module.replace('/', '~')}.{kind}"
        for old in base.glob(f"{stem}.*.jsonl"):
            old.unlink()
        for number, turn in enumerate(turns, start=1):
            lines = recording(module, kind, number, turn)
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (base / f"{stem}.{number}.jsonl").write_text(text, encoding="utf-8")

    # Plans

    def submit(self, modules: list[dict[str, Any]], **head: Any) -> Plan:
        """Import a plan as the owner and put it up for approval."""
        replay = {"recordings": "recordings", "scale": 1.0}
        self.head = {**self.head, **head}
        ceiling = self.head.get("ceiling", 5)
        file = planfile.PlanFile.model_validate(
            {"version": 1, "project": {"name": "Team", "goal": "Answers.", "replay": replay,
                                       **self.head}, "modules": modules}
        )  # fmt: skip
        policies = file.project.policies.model_dump(mode="json")
        settings_set(project=self.project, by=self.owner, policies=policies)
        if ceiling != self.project.ceiling:
            ceiling_set(project=self.project, ceiling=ceiling, by=self.owner)
        plan = plan_import(self.project, file, self.owner)
        plan_submit(plan, self.owner)
        self.project.refresh_from_db()
        return plan

    def approve(self) -> None:
        plan_approve(self.plan, self.owner, self.plan.digest)

    def run(self) -> None:
        """Approve, and work until nothing moves any more."""
        self.approve()
        self.work()

    def work(self, *, seconds: float = 60) -> None:
        """Claim and do queued runs, as workers and the clock do, until none is left."""
        deadline = time.monotonic() + seconds
        with ThreadPoolExecutor(CREW) as crew:
            taken: set[tuple[int, int]] = set()
            busy: set[Future[None]] = set()
            ticked = 0.0
            while True:
                assert time.monotonic() < deadline, f"Still at work: {self.statuses()}"
                started = 0
                # Runs that end start the next ones; the clock is for what becomes due.
                if not busy or time.monotonic() - ticked > TICK_SECONDS:
                    started, ticked = scheduler.tick(), time.monotonic()
                queued = set(self.project.runs.filter(status="queued").values_list("pk", "fence"))
                busy |= {crew.submit(_do, *message) for message in queued - taken}
                taken |= queued
                if not busy and not started:
                    break
                done, busy = wait(busy, timeout=0.05, return_when=FIRST_COMPLETED)
                for one in done:
                    one.result()
        self.plan.refresh_from_db()
        self.project.refresh_from_db()

    def step(self) -> None:
        """Do the oldest queued run, and nothing that it starts."""
        scheduler.tick()
        run_id, fence = self.project.runs.filter(status="queued").values_list("pk", "fence")[0]
        run = run_claim(run_id, fence)
        assert run is not None
        pipeline.execute(run)

    # What became of it

    @property
    def hub(self) -> Hub:
        return Hub(self.project.hub_path)

    @property
    def merged_head(self) -> str:
        return str(self.hub.head(integration_ref()))

    def merged_file(self, path: str) -> str | None:
        """A file of the integration branch."""
        found = self.hub.read(self.merged_head, path)
        return None if found is None else found.decode()

    def branch_file(self, slug: str, path: str) -> str | None:
        """A file of a module's branch."""
        head = self.hub.head(module_ref(self.plan.number, slug))
        found = self.hub.read(str(head), path)
        return None if found is None else found.decode()

    def module(self, slug: str) -> Module:
        return Module.objects.select_related("project", "contract", "plan").get(
            project=self.project, slug=slug
        )

    def statuses(self) -> dict[str, str]:
        return dict(Module.objects.filter(project=self.project).values_list("slug", "status"))

    def runs(self, slug: str, kind: str) -> list[Run]:
        rows = Run.objects.filter(project=self.project, module__slug=slug, kind=kind)
        return list(rows.order_by("number"))

    def findings(self, slug: str, source: str = "") -> list[Finding]:
        rows = Finding.objects.filter(project=self.project, module__slug=slug).order_by("pk")
        return list(rows.filter(source=source) if source else rows)

    def verdicts(self, slug: str) -> list[str]:
        rows = Review.objects.filter(project=self.project, module__slug=slug).order_by("pk")
        return list(rows.values_list("verdict", flat=True))

    def request(self, slug: str) -> Request:
        return Request.objects.get(module__slug=slug, answered_at__isnull=True)

    def events(self, kind: str) -> list[Event]:
        return list(Event.objects.filter(project=self.project, kind=kind).order_by("number"))

    def path_of(self, slug: str) -> list[str]:
        """The statuses that a module went through, in order."""
        rows = Event.objects.filter(project=self.project, topic=self.module(slug).topic)
        return [row.data["to"] for row in rows.order_by("number") if "to" in row.data]


def _do(run_id: int, fence: int) -> None:
    try:
        tasks.run_execute(run_id, fence)
    finally:
        connection.close()


def recording(module: str, kind: str, number: int, turn: Turn) -> list[dict[str, Any]]:
    """The lines of one recorded turn."""
    role = ROLES.get(kind, "orchestrator")
    head = {"format": "tutti-recording/1", "module": module, "role": role, "kind": kind,
            "number": number, "backend": "replay", "model": "recorded", "scene": None}  # fmt: skip
    written = [{"event": "write", "path": p, "content": text} for p, text in turn.files.items()]
    put_back = [{"event": "restore", "path": p, "ref": ref} for p, ref in turn.restore.items()]
    usage = {"event": "usage", "input_tokens": 100, "output_tokens": 10, "quality": "exact"}
    answer = {"event": "result", "data": turn.result}
    done: list[dict[str, Any]] = [
        {"event": "message", "text": f"{kind} of {module}"},
        *written,
        *put_back,
        usage,
        answer,
    ]
    at: list[dict[str, Any]] = [{"at": turn.seconds, **event} for event in done]
    return [head, *at, {"at": turn.seconds, "event": "exit", "code": turn.exit_code}]


def overlaps(runs: list[Run]) -> int:
    """The most of these runs that were at work at one moment."""
    moments: dict[Any, int] = defaultdict(int)
    for run in runs:
        assert run.started_at and run.ended_at
        moments[run.started_at] += 1
        moments[run.ended_at] -= 1
    most = now = 0
    for _, step in sorted(moments.items()):
        now += step
        most = max(most, now)
    return most
