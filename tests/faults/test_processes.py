from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from django.conf import settings

from config import embedded, processes
from config.processes import ProcessError, Processes, Program
from tests.faults import actors
from tests.wait import until

SUPERVISOR = """
import sys
from pathlib import Path
from config.processes import Program, serve
home, *scripts = sys.argv[1:]
serve(
    [Program(f"p{n}", [sys.executable, "-c", text]) for n, text in enumerate(scripts)],
    home=Path(home),
)
"""

WAITS = "import time; print('ready', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + WAITS
#: Starts a process that leaves the group and the session, as a daemon does.
DAEMON = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {WAITS!r}], start_new_session=True)
{WAITS}
"""


@pytest.fixture
def home(tmp_path):
    home = (tmp_path / "home").resolve()
    yield home
    processes.end_processes(family(home), seconds=0)


def family(home) -> list[psutil.Process]:
    return [process for process, _ in processes.marked(f"{home}#")]


@pytest.fixture
def supervise(home):
    started = []

    def start(*scripts: str, expect: int) -> subprocess.Popen[str]:
        supervisor = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(home), *scripts],
            cwd=embedded.CHECKOUT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(supervisor)
        assert supervisor.stdout is not None
        for _ in range(expect):
            assert supervisor.stdout.readline().endswith("ready\n")
        return supervisor

    yield start
    for supervisor in started:
        supervisor.kill()
        supervisor.communicate()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(home, supervise, sign):
    supervisor = supervise(WAITS, DAEMON, expect=3)
    assert len(family(home)) == 3
    os.killpg(supervisor.pid, sign)
    supervisor.wait(20)
    assert not family(home)


def test_a_second_ctrl_c_ends_the_stubborn(home, supervise):
    supervisor = supervise(STUBBORN, WAITS, expect=2)
    os.killpg(supervisor.pid, signal.SIGINT)
    until(lambda: len(family(home)) == 1)
    os.killpg(supervisor.pid, signal.SIGINT)
    supervisor.wait(10)
    assert not family(home)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of the death")
def test_children_die_with_a_killed_supervisor(home, supervise):
    supervisor = supervise(WAITS, WAITS, expect=2)
    supervisor.kill()
    until(lambda: not family(home))


def test_what_outlived_a_killed_supervisor_is_stopped_at_the_next_start(home, supervise):
    supervisor = supervise(STUBBORN, expect=1)
    supervisor.kill()
    supervisor.wait()
    assert len(family(home)) == 1
    assert processes.stop_leftovers(home, seconds=0.2) == 1
    assert not family(home)


def test_leftovers_of_a_live_supervisor_are_nobodys(home, supervise):
    supervise(WAITS, expect=1)
    assert processes.stop_leftovers(home) == 0
    assert len(family(home)) == 1


def test_a_killed_process_is_started_again(home):
    with Processes([Program("one", [sys.executable, "-c", WAITS])], home=home) as running:
        first = until(lambda: running.pids().get("one", 0))
        os.kill(first, signal.SIGKILL)
        second = until(lambda: running.pids().get("one", first) != first and running.pids()["one"])
        running.check()
        assert psutil.pid_exists(second)
    assert not family(home)


def test_a_process_that_never_stays_up_is_named_with_its_last_words(home, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 2)
    program = Program("broken", [sys.executable, "-c", "raise SystemExit('no such thing')"])
    with Processes([program], home=home) as running:
        until(lambda: running.children[0].is_hopeless())
        with pytest.raises(ProcessError, match=r"broken does not stay up(.|\n)*no such thing"):
            running.check()


def test_another_port_is_taken_when_the_wanted_one_is_not_free():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert processes.free_port(port) != port
        assert processes.wait_for_port("127.0.0.1", port, seconds=1)
    assert processes.free_port(port) == port
    assert not processes.wait_for_port("127.0.0.1", port, seconds=0.1)


def test_a_worker_dies_with_its_killed_master_and_comes_back(home, services, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", settings.DATABASE_URL)
    monkeypatch.setenv("REDIS_URL", settings.REDIS_URL)
    first, second = tmp_path / "first", tmp_path / "second"
    program = processes.workers("faults", 2, actors="tests.faults.actors")
    with Processes([program], home=home) as running:
        actors.sign.send(str(first))
        worker = psutil.Process(
            int(until(lambda: first.exists() and first.read_text(), seconds=60))
        )
        master = running.pids()["faults"]
        assert worker.ppid() == master
        os.kill(master, signal.SIGKILL)
        until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
        actors.sign.send(str(second))
        assert int(until(lambda: second.exists() and second.read_text(), seconds=60)) != worker.pid
    assert not family(home)
