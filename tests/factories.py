"""Rows for tests: a project with its people, an approved plan, modules, runs, reviews, a hub."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.db.models import F
from django.utils import timezone

from agents.models import Request, Run, RunLog
from projects import hub as hubs
from projects import planfile
from projects.models import (
    Contract,
    Dependency,
    Membership,
    Module,
    Plan,
    Project,
    Role,
)
from projects.services import plans
from projects.services.projects import DEFAULT_POLICIES
from reviews.models import CheckResult, Finding, Merge, Review

SHA = "{:040x}".format


def user(name: str, **values: Any) -> User:
    """A person without a password (hashing one takes longer than most tests): use force_login."""
    found, _ = User.objects.get_or_create(
        username=name, defaults={"email": f"{name}@example.org", **values}
    )
    return found


def project(slug: str = "shop", people: Mapping[str, str] | None = None, **values: Any) -> Project:
    """A project without a hub; alice owns it, bob is a member, unless `people` says otherwise."""
    made = Project.objects.create(
        slug=slug,
        name=values.pop("name", slug.title()),
        source=values.pop("source", "/nowhere"),
        policies=values.pop("policies", DEFAULT_POLICIES),
        **values,
    )
    for name, role in (people or {"alice": Role.OWNER, "bob": Role.MEMBER}).items():
        Membership.objects.create(project=made, user=user(name), role=role)
    return made


def plan(project: Project, status: str = Plan.Status.APPROVED, **values: Any) -> Plan:
    number = Plan.objects.filter(project=project).count() + 1
    if status == Plan.Status.APPROVED:
        now = timezone.now()
        values = {
            "digest": "d" * 64,
            "approved_digest": "d" * 64,
            "decided_at": now,
            "prepared_at": now,
            "decided_by": Membership.objects.filter(project=project).order_by("pk")[0].user,
            **values,
        }
    return Plan.objects.create(project=project, number=number, status=status, **values)


def module(plan: Plan, slug: str, status: str = Module.Status.WAITING, **values: Any) -> Module:
    """A module with a contract of its own: it owns `<slug>/`."""
    contract = {
        "brief": f"Build {slug}.",
        "owns": [f"{slug}/"],
        "tests": [f"tests/{slug}/"],
        "provides": [f"{slug.replace('/', '_')}.main()"],
        "checks": ["python -m pytest -q"],
        **values.pop("contract", {}),
    }
    made = Module.objects.create(
        project=plan.project, plan=plan, slug=slug, title=slug.title(), status=status, **values
    )
    made.contract = Contract.objects.create(module=made, plan=plan, title=made.title, **contract)
    made.save()
    return made


def need(
    dependent: Module, needs: Module, kind: str = Dependency.Kind.CONTRACT, gates: str = ""
) -> Dependency:
    """A need that counts, as approving the plan leaves it."""
    contract = dependent.contract
    assert contract is not None
    starts = kind != Dependency.Kind.CONTRACT
    gate = gates or (Dependency.Gates.START if starts else Dependency.Gates.FINISH)
    counter = "needs_to_start" if gate == Dependency.Gates.START else "needs_to_finish"
    setattr(dependent, counter, getattr(dependent, counter) + 1)
    dependent.save(update_fields=[counter])
    return Dependency.objects.create(contract=contract, needs=needs, kind=kind, gates=gate)


def run(module: Module, kind: str = "build", status: str = "running", **values: Any) -> Run:
    """A run with its slot, when its status is one of an agent at work."""
    number = Run.objects.filter(module=module, kind=kind).count() + 1
    holds = values.pop("holds_slot", status in Run.HOLDING)
    defaults = {
        "role": "executor",
        "backend": "replay",
        "model": "recorded-fast",
        "sandbox": "bubblewrap",
        "started_at": timezone.now(),
    }
    if holds:
        Project.objects.filter(pk=module.project_id).update(active_runs=F("active_runs") + 1)
    return Run.objects.create(
        project=module.project,
        plan=module.plan,
        module=module,
        kind=kind,
        number=number,
        status=status,
        holds_slot=holds,
        **{**defaults, **values},
    )


def log(run: Run, *texts: str) -> None:
    newest = RunLog.objects.filter(run=run).count()
    RunLog.objects.bulk_create(
        RunLog(run=run, sequence=place, at=timezone.now(), kind="message", data={"text": text})
        for place, text in enumerate(texts, start=newest + 1)
    )


def request(run: Run, kind: str = Request.Kind.COUPLED, **values: Any) -> Request:
    assert run.module is not None
    return Request.objects.create(
        project=run.project,
        module=run.module,
        run=run,
        kind=kind,
        question=values.pop("question", "May I?"),
        **values,
    )


def review(module: Module, verdict: str = Review.Verdict.APPROVE, **values: Any) -> Review:
    """A review of what the module is at."""
    if not module.head_commit:
        module.head_commit = SHA(2)
        module.save(update_fields=["head_commit"])
    return Review.objects.create(
        project=module.project,
        module=module,
        verdict=verdict,
        base_commit=values.pop("base_commit", SHA(1)),
        head_commit=values.pop("head_commit", module.head_commit),
        model=values.pop("model", "recorded-strong"),
        **values,
    )


def finding(module: Module, message: str = "Wrong.", **values: Any) -> Finding:
    """A finding that the module still has to answer, unless `batch` says otherwise."""
    batch = values.pop("batch", None)
    if batch is None:
        batch = module.open_findings or Finding.objects.filter(project=module.project).count() + 1
        module.open_findings = batch
        module.save(update_fields=["open_findings"])
    return Finding.objects.create(
        project=module.project,
        module=module,
        batch=batch,
        source=values.pop("source", "check"),
        message=message,
        **values,
    )


def check(module: Module, *, ok: bool = True, **values: Any) -> CheckResult:
    defaults = {
        "phase": "green",
        "command": "python -m pytest -q",
        "commit": SHA(2),
        "exit_code": 0 if ok else 1,
        "kind": "passed" if ok else "failed",
        "seconds": 1.5,
    }
    return CheckResult.objects.create(
        project=module.project, module=module, ok=ok, **{**defaults, **values}
    )


def merge(module: Module, status: str = Merge.Status.TESTING, **values: Any) -> Merge:
    ended = None if status in (Merge.Status.TESTING, Merge.Status.SWAPPING) else timezone.now()
    defaults = {
        "branch": hubs.integration_ref(),
        "base_commit": SHA(1),
        "head_commit": SHA(2),
        "ended_at": ended,
    }
    return Merge.objects.create(
        project=module.project, module=module, status=status, **{**defaults, **values}
    )


# --- Real repositories ---------------------------------------------------------------------------


def git(directory: Path, *args: str) -> str:
    """Run git in a test's own repository, apart from the user's configuration."""
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(directory),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "alice",
        "GIT_AUTHOR_EMAIL": "alice@example.org",
        "GIT_COMMITTER_NAME": "alice",
        "GIT_COMMITTER_EMAIL": "alice@example.org",
    }
    done = subprocess.run(
        ["git", *args], cwd=directory, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def source_repository(directory: Path, files: Mapping[str, str]) -> Path:
    """A team's repository with one commit on main."""
    directory.mkdir(parents=True, exist_ok=True)
    git(directory, "init", "-q", "-b", "main")
    commit(directory, files, "Begin.")
    return directory


def commit(directory: Path, files: Mapping[str, str | bytes], message: str = "Change.") -> str:
    for path, content in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        raw = content if isinstance(content, bytes) else content.encode()
        target.write_bytes(raw)
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "--allow-empty", "-m", message)
    return git(directory, "rev-parse", "HEAD")


def hub(project: Project, source: Path) -> hubs.Hub:
    """Make the project's hub of a repository; TUTTI_HOME has to be the test's own."""
    project.source = str(source)
    project.save()
    shutil.rmtree(project.hub_path, ignore_errors=True)
    return hubs.Hub.create(project.hub_path, str(source), "main", roots=[source.parent])


def submitted_plan(project: Project, by: User, modules: int = 2) -> Plan:
    """A valid plan, put up for approval; the project needs its hub with files `m1.py`, `m2.py` …"""
    parts = [
        {"slug": f"m{n}", "title": f"M{n}", "owns": [f"m{n}.py"], "tests": [f"tests/test_m{n}.py"],
         "provides": [f"m{n}.main()"], "checks": ["true"]}
        for n in range(1, modules + 1)
    ]  # fmt: skip
    file = planfile.PlanFile.model_validate(
        {
            "version": 1,
            "project": {"name": project.name, "goal": "Ship.", "checks": [{"run": "true"}]},
            "modules": parts,
        }
    )
    made = plans.plan_import(project, file, by)
    plans.plan_submit(made, by)
    return made
