"""What an agent over ACP costs Tutti: a turn, the way to the first prompt, memory of each run.

    python -m tests.benchmarks.agents

prints the memory of this process with one and with many runs at work, as one line of JSON: in a
process of its own, for what another measurement left free would hide what a run takes.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.rows import Row, median, percentile, row

COMMAND = "python -m tests.benchmarks --only agents"
CHECKOUT = Path(__file__).parents[2]
AGENT = CHECKOUT / "tests" / "agents" / "acp_agent.py"
BRIDGE = CHECKOUT / "agents" / "backends" / "mcp_bridge.py"
MB = 1024 * 1024
#: What an agent does in one turn: some updates, a permission and its answer; a long text.
TURNS = {"ordinary": "steps edit:owned.txt write", "of 2,000 chunks of text": "trickle"}
TURNS_OF_ONE = 8
#: Runs at work at once where memory is measured, as many as the test's crew has threads.
LIVE = 8
PARTS = ("clone", "sandbox start", "initialize", "session/new")


def rows(repetitions: int, starts: int) -> Iterator[Row]:
    yield from turn_rows(repetitions)
    yield from start_rows(starts)
    yield from memory_rows()


# --- A turn --------------------------------------------------------------------------------------


def turn_rows(repetitions: int) -> Iterator[Row]:
    """The same turns of the same agent: through Tutti's backend, and by the bare library."""
    for name, text in TURNS.items():
        bare, ours = [], []
        for _ in range(repetitions):
            with tempfile.TemporaryDirectory() as folder:
                bare.append(_bare_turns(Path(folder), text))
            with tempfile.TemporaryDirectory() as folder:
                ours.append(_our_turns(Path(folder).resolve(), text))
        wall = median([o[0] / b[0] for o, b in zip(ours, bare, strict=True)])
        cpu = median([o[1] / b[1] for o, b in zip(ours, bare, strict=True)])
        what = f"acp: a turn, {name}"
        yield row(f"{what}, Tutti / bare library", wall, "x", COMMAND, most=1.5)
        yield row(f"{what}, CPU time without the agent's, Tutti / bare library", cpu, "x", COMMAND)
        yield row(what, median([o[0] for o in ours]) * 1000, "ms", COMMAND)


def _measured(prompt: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one turn by the clock and of this process's CPU, after one that warms up."""
    prompt()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(TURNS_OF_ONE):
        prompt()
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    return seconds[0] / TURNS_OF_ONE, seconds[1] / TURNS_OF_ONE


def _our_turns(folder: Path, text: str) -> tuple[float, float]:
    from agents import sandbox
    from agents.backends.acp import AcpBackend
    from agents.backends.base import Kept, Turn

    workspace, home = folder / "ws", folder / "home"
    workspace.mkdir()
    home.mkdir()
    command = [sandbox.python(), "-I", "-S", str(AGENT)]
    settings = {"command": command, "readable": [str(AGENT)]}
    kept, said = Kept(), list[object]()
    turn = Turn(text, "m", "build", "executor", 1, "", workspace, home, settings,
                owns=("owned.txt",), kept=kept)  # fmt: skip
    try:
        found = _measured(
            lambda: AcpBackend().run(turn, lambda *event: said.append(event), lambda: None)
        )
    finally:
        kept.close()
    assert any("1999" in str(event) or "I think" in str(event) for event in said)
    return found


class _Client:
    """The least that a program must do with the library to drive this agent."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        self.said.append(update)

    async def request_permission(self, options: Sequence[Any], **_: Any) -> Any:
        from acp.schema import AllowedOutcome, RequestPermissionResponse

        (chosen,) = (one.option_id for one in options if one.kind == "allow_once")
        return RequestPermissionResponse(
            outcome=AllowedOutcome(outcome="selected", option_id=chosen)
        )


def _bare_turns(folder: Path, text: str) -> tuple[float, float]:
    import acp

    from agents import sandbox

    client = _Client()
    words = ("-I", "-S", str(AGENT))
    with asyncio.Runner() as runner:
        started = acp.spawn_agent_process(client, sandbox.python(), *words, cwd=folder,  # type: ignore[arg-type]
                                          env={"HOME": str(folder)})  # fmt: skip
        conn, _ = runner.run(started.__aenter__())
        try:
            runner.run(conn.initialize(protocol_version=acp.PROTOCOL_VERSION))
            session = runner.run(conn.new_session(cwd=str(folder), mcp_servers=[]))
            prompt: list[Any] = [acp.text_block(text)]
            found = _measured(
                lambda: runner.run(conn.prompt(session_id=session.session_id, prompt=prompt))
            )
        finally:
            runner.run(started.__aexit__(None, None, None))
    assert client.said
    return found


# --- From a run's start to its first prompt ------------------------------------------------------


def start_rows(starts: int) -> Iterator[Row]:
    """One run after another on a machine that does nothing else, from its claim to the agent."""
    found: dict[str, list[float]] = defaultdict(list)
    folder = Path(tempfile.mkdtemp(prefix="tutti-starts-")).resolve()
    try:
        for number in range(starts + 1):
            parts = _start(folder / str(number), f"starts-{number}")
            # The first one imports what the others find.
            for name, seconds in parts.items() if number else ():
                found[name].append(seconds * 1000)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    what = "acp: start of a run to its first prompt"
    yield row(f"{what}, p50", percentile(found["all"], 0.5), "ms", COMMAND)
    yield row(f"{what}, p95", percentile(found["all"], 0.95), "ms", COMMAND)
    for name in (*PARTS, "the rest"):
        yield row(f"{what}: {name}, p50", percentile(found[name], 0.5), "ms", COMMAND)


def _start(folder: Path, slug: str) -> dict[str, float]:
    """Seconds of one run's start, in all and part by part."""
    stage = _stage(folder, slug, ["a"], "right", network=True)
    stage.approve()
    with _watched() as marks:
        run = _built(stage)
    assert run.started_at is not None
    parts = {
        "clone": marks["clone.end"] - marks["clone"],
        "sandbox start": marks["sandbox.end"] - marks["sandbox"],
        "initialize": marks["session/new"] - marks["initialize"],
        "session/new": marks["session/prompt"] - marks["session/new"],
    }
    whole = marks["session/prompt"] - run.started_at.timestamp()
    return {**parts, "all": whole, "the rest": whole - sum(parts.values())}


def _built(stage: Any) -> Any:
    """Do the project's runs, each when its time comes, until its module is built."""
    from agents import pipeline, scheduler
    from agents.services import runs

    while not (found := stage.runs("a", "build")) or found[0].is_active:
        scheduler.tick()
        for pk, fence in stage.project.runs.filter(status="queued").values_list("pk", "fence"):
            if (run := runs.run_claim(pk, fence)) is not None:
                pipeline.execute(run)
    assert found[0].status == "succeeded", found[0].reason
    return found[0]


@contextmanager
def _watched() -> Iterator[dict[str, float]]:
    """The moments (seconds since 1970) at which a run's first turn gets on."""
    from agents import sandbox, workspaces
    from agents.backends import acp_wire

    marks: dict[str, float] = {}

    def around(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def outer(*words: Any, **values: Any) -> Any:
            began = time.time()
            made = inner(*words, **values)
            marks[name], marks[f"{name}.end"] = began, time.time()
            return made

        return outer

    send = acp_wire.Wire.send

    async def sent(wire: acp_wire.Wire, message: dict[str, Any]) -> None:
        marks.setdefault(str(message.get("method")), time.time())
        await send(wire, message)

    places: list[tuple[Any, str, Any]] = [
        (workspaces.Workspace, "prepare", around("clone", workspaces.Workspace.prepare)),
        (sandbox, "start", around("sandbox", sandbox.start)),
        (acp_wire.Wire, "send", sent),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _ in places]
    try:
        for place, name, made in places:
            setattr(place, name, made)
        yield marks
    finally:
        for place, name, made in before:
            setattr(place, name, made)


def _stage(folder: Path, slug: str, names: Sequence[str], *words: str, **settings: Any) -> Any:
    """A project whose modules have their tests, and whose executors are ACP agents."""
    from agents import sandbox
    from agents.services.profiles import profile_set
    from tests import factories
    from tests.acceptance.stage import Stage, given

    folder.mkdir(parents=True)
    owner = factories.user("alice")
    stage = Stage(folder, owner, [given(name) for name in names], {"ceiling": 1}, {}, slug)
    command = [sandbox.python(), "-I", "-S", str(AGENT), "build=.", *words]
    values = {"command": command, "readable": [str(AGENT), str(folder)], **settings}
    root = factories.user("root", is_superuser=True)
    profile_set(stage.project, "executor", "acp", "small", values, root)
    return stage


# --- Memory --------------------------------------------------------------------------------------


def memory_rows() -> Iterator[Row]:
    """What each further run takes beside its agent: of the worker, of its sandbox, of the bridge.

    Proportional sizes: a page that n processes share counts for each of them as an nth.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.agents"],
        cwd=CHECKOUT, stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    bridge = _bridge_mb()
    what = "acp: memory of a run without its agent"
    worker, walls = found["worker_mb"], found["sandbox_mb"]
    yield row(f"{what}: worker and sandbox", worker + walls, "MB", COMMAND, most=8)
    yield row(f"{what}: with the bridge of an agent that has no MCP over HTTP",
              worker + walls + bridge, "MB", COMMAND, most=8)  # fmt: skip
    yield row(f"{what}: growth of the worker alone", worker, "MB", COMMAND)
    yield row(f"{what}: its sandbox's own processes alone", walls, "MB", COMMAND)
    yield row(f"{what}: its share of PostgreSQL", found["database_mb"], "MB", COMMAND)
    yield row("acp: the worker with one run at work", found["base_mb"], "MB", COMMAND)


def _bridge_mb() -> float:
    """One of several bridges after its first message; nobody answers at the other end."""
    env = {"TUTTI_MCP_URL": "http://127.0.0.1:9/mcp", "TUTTI_MCP_TOKEN": "t"}
    argv = [os.path.realpath(sys.executable), "-I", "-S", str(BRIDGE)]
    started = [
        subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(LIVE)
    ]
    try:
        for process in started:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}\n')
            process.stdin.flush()
            assert b"can't be reached" in process.stdout.readline()
        return sum(_pss(psutil.Process(process.pid)) for process in started) / LIVE / MB
    finally:
        for process in started:
            process.kill()
            process.wait()


def measure_memory() -> dict[str, float]:
    """Sizes in MB: of this process with one run at work, and of what each further one adds."""
    with tempfile.TemporaryDirectory(prefix="tutti-memory-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        _stage(folder / "first", "memory-first", ["a"], "right", network=True).run()
        go = folder / "all" / "go"
        names = [f"m{number}" for number in range(LIVE)]
        stage = _stage(folder / "all", "memory", names, "right", f"holds={go}", network=True)
        stage.approve()
        # The crew's threads may have to end before the process does.
        crew = threading.Thread(target=stage.work, kwargs={"seconds": 300})
        crew.start()
        try:
            return _compare(stage)
        finally:
            go.touch()
            crew.join()


def _compare(stage: Any) -> dict[str, float]:
    from django.db import connection

    from agents.models import Run
    from projects.services.projects import ceiling_set
    from tests.wait import until

    active = Run.objects.filter(project=stage.project, status__in=Run.ACTIVE)
    at_work = active.filter(kind="build", status="running").exclude(session="")

    def prompted(count: int) -> Callable[[], bool]:
        # Gates would count as well; they are over once nothing but these runs is at work.
        return lambda: at_work.count() == count == active.count()

    until(prompted(1), seconds=60, what="one run at work")
    one = _sizes()
    ceiling_set(project=stage.project, ceiling=LIVE, by=stage.owner)
    until(prompted(LIVE), seconds=120, what=f"{LIVE} runs at work")
    many = _sizes()
    connection.close()
    more = LIVE - 1
    return {"base_mb": one["worker"], **{f"{name}_mb": (many[name] - one[name]) / more
            for name in ("worker", "sandbox", "database")}}  # fmt: skip


def _sizes() -> dict[str, float]:
    """MB of this process, of the sandboxes' own processes, and of all PostgreSQL."""
    sandboxes = 0
    for process in psutil.Process().children(recursive=True):
        if not any(str(AGENT) == word for word in process.cmdline()[:4]):
            sandboxes += _pss(process)
    servers = (p for p in psutil.process_iter(["name"]) if p.info["name"] == "postgres")
    return {
        "worker": _pss(psutil.Process()) / MB,
        "sandbox": sandboxes / MB,
        "database": sum(map(_pss, servers)) / MB,
    }


def _pss(process: psutil.Process) -> int:
    return int(process.memory_full_info().pss)


if __name__ == "__main__":
    import django

    django.setup()
    print(json.dumps(measure_memory()))
