from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import psutil
import pytest

from agents import processes, sandbox
from agents.streams import Kept, Lines
from tests.living import left_behind, living
from tests.wait import until

confined_only = pytest.mark.skipif(
    sandbox.level() != sandbox.BUBBLEWRAP, reason="bubblewrap does not work on this host"
)


@pytest.fixture(params=["bubblewrap", "unconfined"])
def level(request, monkeypatch):
    """Every promise that both levels give is tested on both."""
    if request.param == "unconfined":
        monkeypatch.setenv("TUTTI_SANDBOX_LEVEL", "unconfined")
    if sandbox.level() != request.param:
        pytest.skip("bubblewrap does not work on this host")
    return request.param


@pytest.fixture
def seconds():
    """A day and more that no other process of the machine sleeps for: what its own are known by."""
    return f"98701.{uuid.uuid4().int % 10**12:012}"


def sh(command, tmp_path, **options):
    options.setdefault("timeout_seconds", 20)
    return sandbox.run(["/bin/sh", "-c", command], workspace=tmp_path, **options)


def test_a_command_ends_with_its_code_and_output(tmp_path, level):
    done = sh("echo out; echo err >&2; echo x > made; exit 3", tmp_path)
    assert (done.code, done.signal, done.reason, done.level) == (3, None, None, level)
    assert sorted(done.output.split()) == ["err", "out"]
    assert (tmp_path / "made").read_text() == "x\n"


def test_nothing_of_the_servers_environment_is_inside(tmp_path, level, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    done = sh("env", tmp_path, env={"OWN": "1"})
    assert "OWN=1" in done.output
    assert "secret" not in done.output


@confined_only
def test_nothing_outside_can_be_read_or_written(tmp_path):
    workspace = tmp_path / "ws"
    workspace.mkdir()
    (tmp_path / "canary").write_text("secret")
    attempts = f"cat {tmp_path}/canary; echo x > /usr/x; echo x > {tmp_path}/y; ls /root /work; "
    done = sh(attempts + "cat /proc/1/environ; ls /proc | grep -c '^[0-9]'", workspace)
    assert "secret" not in done.output
    assert [p.name for p in tmp_path.iterdir() if p.name in ("x", "y")] == []
    assert not Path("/usr/x").exists()


@confined_only
def test_there_is_no_network_unless_it_is_given(tmp_path):
    code = "import socket; print(len(socket.if_nameindex()))"
    argv = [sandbox.python(), "-I", "-S", "-c", code]
    assert sandbox.run(argv, workspace=tmp_path).output.strip() == "1"
    shared = sandbox.run(argv, workspace=tmp_path, network=True).output.strip()
    assert int(shared) == len(__import__("socket").if_nameindex())


@confined_only
def test_paths_that_are_given_keep_their_names_and_rights(tmp_path):
    workspace, given, out = (tmp_path / name for name in ("ws", "given", "out"))
    for directory in (workspace, given, out):
        directory.mkdir()
    (given / "a").write_text("read me")
    command = f"cat {given}/a; echo x > {given}/a; echo y > {out}/b; pwd; id -un"
    done = sh(command, workspace, readable=[given], writable=[out])
    assert "read me" in done.output
    assert (given / "a").read_text() == "read me"
    assert (out / "b").read_text() == "y\n"
    assert str(workspace) in done.output


def test_a_virtual_environment_is_first_on_the_path(tmp_path, level):
    environment = Path(sys.prefix)
    done = sh("command -v python; python -c 'import sys; print(sys.prefix)'", tmp_path,
              environment=environment)  # fmt: skip
    assert done.output.split() == [str(environment / "bin" / "python"), str(environment)]


@confined_only
@pytest.mark.parametrize("real", ["/bin/python3", os.path.realpath(sys.executable)])
def test_a_virtual_environment_shows_nothing_beside_its_links(tmp_path, real):
    """One that was made by /bin/python3, or by a link in somebody's folder, shows neither."""
    if not Path(real).exists():
        pytest.skip(f"There is no {real}.")
    workspace, folder, environment = (tmp_path / name for name in ("ws", "own", "venv"))
    for directory in (workspace, folder / "bin", environment / "bin"):
        directory.mkdir(parents=True)
    (folder / "bin" / "python3").symlink_to(real)
    (folder / "secret").write_text("private")
    (environment / "bin" / "python").symlink_to(folder / "bin" / "python3")
    (environment / "pyvenv.cfg").write_text(f"home = {Path(os.path.realpath(real)).parent}\n")
    done = sh(f"python -c 'print(40 + 2)'; cat {folder}/secret; ls /; cat /etc/hostname",
              workspace, environment=environment)  # fmt: skip
    assert "42" in done.output
    assert "private" not in done.output
    assert not {"var", "srv", "boot"} & set(done.output.split())


@confined_only
def test_nothing_shows_the_directory_that_holds_tuttis_data(tmp_path, tutti_home):
    (tutti_home / "secret_keys").write_text("sealing")
    workspace = tmp_path / "home" / "workspaces" / "a"
    workspace.mkdir(parents=True)
    # An agent's own link, which was a virtual environment when somebody entered it.
    (workspace / "venv").symlink_to(tutti_home)
    (tmp_path / "link").symlink_to(tutti_home / "secret_keys")
    places = (Path("/"), tmp_path, tutti_home, workspace / "venv", tmp_path / "link")
    for place in (*places, tutti_home / "secret_keys"):
        done = sh(f"cat {tutti_home}/secret_keys", workspace, environment=place, readable=[place])
        assert "sealing" not in done.output and done.code


def test_a_command_that_hangs_is_ended(tmp_path, level, seconds):
    done = sh(f"sleep {seconds}", tmp_path, timeout_seconds=0.3, grace_seconds=0.5)
    assert done.reason == "timeout"
    assert done.seconds < 10
    assert left_behind(seconds) == []


def test_a_silent_command_is_ended(tmp_path, level):
    assert sh("sleep 98702", tmp_path, idle_seconds=0.3).reason == "idle"


def test_a_command_may_clean_up_after_term(tmp_path, level):
    done = sh("trap 'echo bye; exit 4' TERM; while :; do sleep 0.02; done", tmp_path,
              timeout_seconds=1)  # fmt: skip
    assert (done.code, done.reason) == (4, "timeout")
    assert "bye" in done.output


def test_ignoring_term_does_not_help(tmp_path, level):
    done = sh("trap '' TERM; while :; do sleep 0.05; done", tmp_path, timeout_seconds=1,
              grace_seconds=0.3)  # fmt: skip
    assert (done.reason, done.signal) == ("timeout", 9)


def test_daemons_end_with_the_command(tmp_path, level, seconds):
    command = (
        f"setsid sleep {seconds} >/dev/null 2>&1 & (sleep {seconds} &) ; sleep {seconds} & exit 0"
    )
    done = sh(command, tmp_path)
    assert (done.code, done.reason) == (0, None)
    assert done.seconds < 10
    assert left_behind(seconds) == []


@pytest.mark.parametrize("command", ["kill -9 0", "kill -9 -1", "kill -9 $$", "kill -9 $PPID"])
def test_a_check_that_kills_its_own_group_harms_nobody(tmp_path, command, seconds):
    if sandbox.level() != sandbox.BUBBLEWRAP:
        pytest.skip("kill -1 is for namespaces alone")
    done = sh(command + f"; sleep {seconds}", tmp_path, timeout_seconds=1, grace_seconds=0.2)
    assert done.code != 0
    assert left_behind(seconds) == []


def test_a_stop_is_obeyed_within_a_moment(tmp_path, level):
    began = time.monotonic()
    done = sh("yes", tmp_path, on_line=lambda line: None,
              stop=lambda: "cancelled" if time.monotonic() - began > 0.3 else None)  # fmt: skip
    assert done.reason == "stopped:cancelled"
    assert done.seconds < 10


def test_a_stop_is_polled_every_tenth_of_a_second(tmp_path, level):
    asked = []
    sh("sleep 0.6", tmp_path, stop=lambda: asked.append(time.monotonic()))
    assert max(b - a for a, b in itertools.pairwise(asked)) < 0.25


def test_a_hundred_megabytes_keep_head_and_tail(tmp_path, level):
    before = psutil.Process().memory_info().rss
    done = sh("echo first; yes | head -c 100000000; echo last", tmp_path, timeout_seconds=60)
    assert done.output.startswith("first")
    assert done.output.endswith("last\n")
    assert done.truncated
    assert "bytes of output left out" in done.output
    assert len(done.output) < 1_000_200
    assert psutil.Process().memory_info().rss - before < 20_000_000


def test_endless_output_is_ended(tmp_path, level):
    done = sh("yes", tmp_path, limits=sandbox.Limits(output_mb=5), timeout_seconds=60)
    assert done.reason == "output"


def test_lines_go_on_one_by_one_and_errors_are_kept(tmp_path, level):
    lines: list[bytes] = []
    done = sh("echo a; echo oops >&2; printf b", tmp_path, on_line=lines.append)
    assert lines == [b"a", b"b"]
    assert done.output == "oops\n"


def test_a_line_of_a_hundred_megabytes_is_cut(tmp_path, level):
    lines: list[bytes] = []
    done = sh("yes | tr -d '\\n' | head -c 100000000; echo; echo end", tmp_path,
              on_line=lines.append, timeout_seconds=60)  # fmt: skip
    assert len(lines) == 2
    assert len(lines[0]) < 66_000
    assert lines[1] == b"end"
    assert done.truncated


def test_the_middle_of_a_long_stream_is_dropped_but_not_its_end():
    got: list[bytes] = []
    lines = Lines(got.append, 100, 2_000)
    lines.add(b"".join(b"line %05d\n" % n for n in range(5_000)))
    lines.close()
    assert got[0] == b"line 00000"
    assert got[-1] == b"line 04999"
    assert lines.truncated
    assert len(got) < 300


def test_what_is_kept_is_bounded_and_marked():
    kept = Kept(10)
    for _ in range(1000):
        kept.add(b"x" * 1000)
    assert kept.dropped == 999_990
    assert len(kept.tail) < 70_000
    assert kept.value() == b"xxxxx\n[... 999990 bytes of output left out ...]\nxxxxx"


def test_input_larger_than_a_pipe_arrives(tmp_path, level):
    assert sh("wc -c", tmp_path, stdin=b"x" * 3_000_000).output.strip() == "3000000"


def test_a_command_that_does_not_read_its_input_is_no_trouble(tmp_path, level):
    assert sh("exit 0", tmp_path, stdin=b"x" * 3_000_000).code == 0


def test_a_tree_over_its_memory_is_ended(tmp_path, level):
    code = "x = bytearray(400_000_000); import time; time.sleep(30)"
    done = sandbox.run([sandbox.python(), "-I", "-S", "-c", code], workspace=tmp_path,
                       limits=sandbox.Limits(memory_mb=200))  # fmt: skip
    assert done.reason == "out_of_memory"


def test_a_fork_bomb_is_ended(tmp_path, level, seconds):
    bomb = f"for i in $(seq 60); do sleep {seconds} & done; wait"
    done = sh(bomb, tmp_path, limits=sandbox.Limits(processes=40))
    assert done.reason == "processes"
    assert left_behind(seconds) == []


def test_files_and_cpu_are_limited(tmp_path, level):
    limits = sandbox.Limits(file_mb=1, cpu_seconds=1)
    sh("head -c 3000000 /dev/zero > big", tmp_path, limits=limits)
    assert (tmp_path / "big").stat().st_size <= 1_048_576
    done = sh("while :; do :; done", tmp_path, limits=limits)
    assert done.code != 0
    assert done.seconds < 30
    assert done.cpu_seconds > 0.3


def test_many_threads_start_commands_at_once(tmp_path, level):
    done = []

    def work(n):
        done.append(sh(f"echo {n}", tmp_path).output.strip() == str(n))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 16


def test_no_descriptors_are_left(tmp_path, level):
    sh(":", tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        sh("echo x", tmp_path, on_line=lambda line: None)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_killed_worker_leaves_no_agent(tmp_path, level, seconds):
    code = (
        "import sys; from pathlib import Path; from agents import sandbox\n"
        f"sandbox.run(['/bin/sh', '-c', 'sleep {seconds} & exec sleep {seconds}'],"
        " workspace=Path(sys.argv[1]))"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=Path.cwd())
    # Not before both sleep: until then bubblewrap may not have tied itself to the worker yet.
    until(lambda: len(living(seconds, is_whole=True)) == 2, what="both of the agent's processes")
    left = list(Path(tempfile.gettempdir()).glob(f"tutti-scratch-{worker.pid}-*"))
    worker.kill()
    worker.wait()
    if level == "unconfined":
        processes.end_orphans()
    assert left_behind(seconds) == []
    processes.remove_scratch()
    assert left and not any(path.exists() for path in left)


def test_an_exception_of_the_listener_ends_the_command(tmp_path, level, seconds):
    def refuse(line):
        raise ValueError(line)

    with pytest.raises(ValueError, match="x"):
        sh(f"echo x; sleep {seconds}", tmp_path, on_line=refuse)
    assert left_behind(seconds) == []


def test_a_runner_runs_a_check_by_the_shell(tmp_path, level):
    (tmp_path / "a.txt").write_text("hello")
    done = sandbox.Runner()("grep -c hello a.txt && true", tree=tmp_path, timeout_seconds=5)
    assert (done.code, done.output) == (0, "1\n")


def test_a_missing_program_is_exit_127(tmp_path, level):
    assert sandbox.run(["/no/such/agent"], workspace=tmp_path).code == 127


@confined_only
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_it_works_as_an_ordinary_user(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from agents import sandbox\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(sandbox.level(), sandbox.run(['/usr/bin/id', '-un'],"
        " workspace=Path(sys.argv[1])).output)"
    )
    tmp_path.chmod(0o777)
    done = subprocess.run([sys.executable, "-c", code, "/tmp"], capture_output=True, text=True,
                          cwd=Path.cwd(), timeout=60)  # fmt: skip
    if "unconfined" in done.stdout or "Permission" in done.stderr:
        pytest.skip("this user cannot reach the interpreter's directory")
    assert done.stdout.split() == ["bubblewrap", "agent"]
