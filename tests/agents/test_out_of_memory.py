"""An agent that memory ended says so, whoever's limit it was."""

from __future__ import annotations

import itertools

import pytest

from agents import machine, sandbox
from agents.backends.base import BackendError, Turn
from agents.backends.command import CommandBackend

GREEDY = "held = []\nwhile True: held.append(b'x' * 10_000_000)"
KILLED = "import os, time; time.sleep(0.2); os.kill(os.getpid(), 9)"


def turn(tmp_path, script, **settings):
    workspace, home = tmp_path / "clone", tmp_path / "home"
    for folder in (workspace, home):
        folder.mkdir()
    return Turn(
        text="Work.", module="m", kind="build", role="executor", number=1, model="m",
        workspace=workspace, home=home,
        settings={"command": ["python3", "-c", script], "timeout_seconds": 30, **settings},
    )  # fmt: skip


def refused(tmp_path, script, **settings):
    with pytest.raises(BackendError) as caught:
        CommandBackend().run(turn(tmp_path, script, **settings), lambda *_: None, lambda: None)
    return caught.value


def test_its_profiles_limit(tmp_path):
    error = refused(tmp_path, GREEDY, memory_mb=150)
    assert (error.kind, error.owner) == ("out_of_memory", "agent")
    assert "Out of memory" in str(error) and "of the 150 MB that its profile allows" in str(error)
    assert "Raise memory_mb" in str(error)


def test_the_kernels_choice_when_the_machine_had_no_more(tmp_path, monkeypatch):
    kills = itertools.count(7)
    monkeypatch.setattr(machine, "oom_kills", lambda: next(kills))
    error = refused(tmp_path, KILLED)
    assert (error.kind, error.owner) == ("out_of_memory", "tutti")
    assert "this machine had no more" in str(error) and "give the machine more" in str(error)


def test_a_kill_near_the_limit_counts_as_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "oom_kills", lambda: None)
    script = f"held = b'x' * 145_000_000; {KILLED}"
    assert refused(tmp_path, script, memory_mb=160).kind == "out_of_memory"


def test_any_other_kill_is_no_success(tmp_path):
    error = refused(tmp_path, KILLED)
    assert error.kind == "signal" and "by signal 9" in str(error)


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", True])
def test_a_limit_is_a_whole_number_of_megabytes(value):
    problem = CommandBackend().problem({"command": ["true"], "memory_mb": value})
    assert problem == "memory_mb is a whole number of megabytes above 0."


def test_what_a_command_took_is_measured_with_its_children(tmp_path):
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    child = "held = b'x' * 80_000_000; import time; time.sleep(0.4)"
    ended = sandbox.run(["python3", "-c", script, child], workspace=tmp_path)
    assert ended.code == 0 and 76 < (ended.memory_peak_mb or 0) < 300
