"""An installation in processes of its own: started, watched through its database, and proved."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import psycopg
import yaml

from config import embedded, processes
from tests import factories
from tests.acceptance import stage
from tests.wait import until

#: Short enough that a test can wait until a dead worker's runs are given up.
HASTE = {
    "TUTTI_LEASE_SECONDS": "4",
    "TUTTI_HEARTBEAT_SECONDS": "1",
    "TUTTI_SWEEP_SECONDS": "1",
    "TUTTI_TICK_SECONDS": "1",
    "TUTTI_RUN_THREADS": "6",
}
#: Runs management commands as they come, for a process of Django's takes longer to start.
CONSOLE = """
import io, json, sys, django
django.setup()
from django.core.management import call_command
from django.db import connection
for line in sys.stdin:
    said, error = io.StringIO(), ""
    try:
        for words in json.loads(line):
            call_command(*words, stdout=said)
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    connection.close()
    print(json.dumps([said.getvalue(), error]), flush=True)
"""
OWNER = ["createsuperuser", "--noinput", "--username=owner", "--email=owner@example.org"]


class Installation:
    """One TUTTI_HOME with embedded servers, which this process holds while it is open."""

    def __init__(self, home: Path, *, haste: Mapping[str, str] = HASTE) -> None:
        self.home = home.resolve()
        outer = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
        self.env = {
            **outer,
            **haste,
            "TUTTI_HOME": str(self.home),
            "TUTTI_REDIS_PREFIX": "tutti",
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        self.running: list[subprocess.Popen[bytes]] = []
        self.console: subprocess.Popen[str] | None = None

    def open(self) -> None:
        embedded.start(self.home)
        self.commands(["migrate", "-v", "0"], OWNER)

    def close(self) -> None:
        for process in self.running:
            self.end(process)
        if self.console is not None:
            self.console.communicate()
            self.console = None
        processes.end_processes([p for p, _ in processes.marked(f"{self.home}#")], seconds=5)
        embedded.stop(self.home)

    # --- Processes -------------------------------------------------------------------------------

    def commands(self, *commands: Sequence[str]) -> str:
        """Run management commands, which have to end well; returns their output."""
        if self.console is None:
            self.console = subprocess.Popen(
                [sys.executable, "-c", CONSOLE],
                cwd=embedded.CHECKOUT,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self.console.stdin is not None and self.console.stdout is not None
        self.console.stdin.write(json.dumps(commands) + "\n")
        self.console.stdin.flush()
        said, error = json.loads(self.console.stdout.readline())
        assert not error, error
        return str(said)

    def start(self, *words: str, log: str = "job") -> subprocess.Popen[bytes]:
        """Start a management command in a session of its own; its output goes to logs/."""
        return self.spawn([sys.executable, "manage.py", *words], {}, log)

    def start_worker(self, threads: int) -> subprocess.Popen[bytes]:
        """Start a further worker of the queue of runs, as on a second host."""
        program = processes.workers("runs", threads)
        return self.spawn(program.command, {**program.env, "TUTTI_HOST": "second"}, "second")

    def spawn(self, command: list[str], env: dict[str, str], log: str) -> subprocess.Popen[bytes]:
        with (self.home / "logs" / f"{log}.log").open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=embedded.CHECKOUT,
                env={**self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def said(self, log: str = "job") -> str:
        path = self.home / "logs" / f"{log}.log"
        return path.read_text(errors="replace")[-20_000:] if path.exists() else ""

    def members(self, words: str) -> list[psutil.Process]:
        """The supervised processes whose command line has `words`, without their launchers."""
        return [
            process
            for process, _ in processes.marked(f"{self.home}#")
            if words in _command_line(process)
        ]

    def worker_master(self) -> psutil.Process:
        """Dramatiq's first process for the queue of runs; its child does the work."""
        found = self.members("--queues runs")
        pids = {process.pid for process in found}
        (master,) = (process for process in found if process.ppid() not in pids)
        return master

    def worker(self) -> psutil.Process:
        """The process whose threads do runs."""
        pid = self.value("SELECT split_part(worker, ':', 2) FROM agents_run WHERE status = ANY(%s)"
                         " AND host <> 'second' LIMIT 1", ["running", "checking"])  # fmt: skip
        return psutil.Process(int(pid))

    def sandboxed(self) -> list[str]:
        """Command lines of whatever still runs in a workspace or a checkout of this home."""
        found = []
        places = (f"{self.home}/workspaces", f"{self.home}/checks")
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                line = _command_line(process)
                if process.cwd().startswith(places) or any(place in line for place in places):
                    found.append(line)
        return found

    # --- Rows ------------------------------------------------------------------------------------

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        with psycopg.connect(embedded.database_url(self.home), autocommit=True) as connection:
            yield connection

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.database() as connection:
            return connection.execute(query.encode(), values).fetchall()

    def value(self, query: str, *values: Any) -> Any:
        rows = self.rows(query, *values)
        return rows[0][0] if rows else None

    def wait_for_status(self, slug: str, statuses: Sequence[str], *, seconds: float = 60) -> None:
        """Return as soon as an agent or a gate is at work on a module in one of the statuses."""
        query = (
            b"SELECT m.slug FROM projects_module m JOIN projects_project p ON p.id = m.project_id "
            b"JOIN agents_run r ON r.module_id = m.id WHERE p.slug = %s AND m.status = ANY(%s) "
            b"AND r.status IN ('running', 'checking')"
        )
        with self.database() as connection:
            until(
                lambda: connection.execute(query, [slug, list(statuses)]).fetchone(),
                seconds=seconds,
                what=f"a module in {statuses}",
            )

    # --- Projects --------------------------------------------------------------------------------

    def team(
        self, slug: str, *modules: dict[str, Any], seconds: float = 0.8, ceiling: int = 5
    ) -> str:
        """Make a project of small modules, its plan submitted; an agent's turn takes `seconds`."""
        folder = self.home / "sources" / slug
        files = {"tests/__init__.py": ""} | {f"{part['slug']}.py": stage.STUB for part in modules}
        source = factories.source_repository(folder / "source", files)
        for part in modules:
            record(folder, part["slug"], seconds)
        plan = {
            "version": 1,
            "project": {
                "name": slug,
                "goal": "Answers.",
                "ceiling": ceiling,
                "checks": [{"run": "python3 -m unittest -q", "at": "end"}],
                "replay": {"recordings": "recordings"},
            },
            "modules": list(modules),
        }
        (folder / "tutti.yaml").write_text(yaml.safe_dump(plan))
        self.commands(
            ["project_create", slug, "--source", str(source), "--plan",
             str(folder / "tutti.yaml"), "--owner", "owner"]
        )  # fmt: skip
        return slug

    def run(self, slug: str) -> subprocess.Popen[bytes]:
        """Start the command that approves, runs and follows; it supervises workers and clock."""
        return self.start("project_run", slug, "--approve-as", "owner", "--wait", log=slug)

    def finishes(
        self, slug: str, process: subprocess.Popen[bytes], *, log: str = "", seconds: float = 180
    ) -> None:
        """Wait for the end, and prove that all is merged, once, and that nothing is left."""
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"It does not end:\n{self.said(log or slug)}") from None
        assert code == 0, self.said(log or slug)
        statuses = self.rows(
            "SELECT m.slug, m.status FROM projects_module m JOIN projects_project p "
            "ON p.id = m.project_id WHERE p.slug = %s AND m.status <> 'merged'", slug
        )  # fmt: skip
        assert statuses == []
        doubled = self.rows(
            "SELECT module_id FROM reviews_merge WHERE status = 'merged' "
            "GROUP BY module_id HAVING count(*) > 1"
        )
        assert doubled == []
        said = self.commands(["check_invariants"], ["audit_verify", slug])
        assert "No violation." in said and "chain whole" in said
        assert self.sandboxed() == []
        assert processes.marked(f"{self.home}#") == []

    def show(self, slug: str, path: str) -> str:
        """A file on the integration branch."""
        return self.git(slug, "show", f"refs/heads/tutti/integration:{path}")

    def git(self, slug: str, *words: str) -> str:
        project = self.value("SELECT id FROM projects_project WHERE slug = %s", slug)
        hub = self.home / "hubs" / f"{project}.git"
        done = subprocess.run(
            ["git", f"--git-dir={hub}", *words], capture_output=True, text=True, check=True
        )
        return done.stdout


def replayed(plan: str, *, scale: float, leave_out: str = "") -> str:
    """An example's plan file with its recordings at another speed, without the scenes named."""
    plan, speeds = re.subn(r"scale: [0-9.]+", f"scale: {scale:g}", plan)
    plan, scenes = re.subn(r"leave_out: \[.*\]", f"leave_out: [{leave_out}]", plan)
    assert (speeds, scenes) == (1, 1), "The plan file has one speed and one list of scenes."
    return plan


def record(folder: Path, name: str, seconds: float) -> None:
    """What an honest crew does for a module: the test, the code, an approval."""
    base = folder / "recordings" / "base"
    base.mkdir(parents=True, exist_ok=True)
    turns = {
        "tests": stage.Turn({f"tests/test_{name}.py": stage.proof(name)}, {"outline": name}),
        "build": stage.Turn({f"{name}.py": stage.code(name)}, {"summary": f"{name} answers."}),
        "review": stage.APPROVE,
    }
    for kind, turn in turns.items():
        lines = stage.recording(name, kind, 1, replace(turn, seconds=seconds))
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (base / f"{name}.{kind}.1.jsonl").write_text(text)


def _command_line(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def kill_group(process: psutil.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(os.getpgid(process.pid), signal.SIGKILL)
