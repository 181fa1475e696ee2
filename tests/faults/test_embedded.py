from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from config import embedded, keeper
from config.processes import Processes
from tests.wait import until

HOLDER = """
import sys
from pathlib import Path
from config import embedded
embedded.start(Path(sys.argv[1]))
print("up", flush=True)
sys.stdin.read()
embedded.stop(Path(sys.argv[1]))
"""

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith(("linux", "darwin")), reason="the wheels are for Linux and macOS"
)


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    yield home
    while home.resolve() in embedded._holds:
        embedded.stop(home)
    until(lambda: not left(home), what="the servers to be gone")


def left(home: Path) -> list[psutil.Process]:
    """List what of the embedded servers runs for `home`."""
    servers = [("pg", "postgres"), ("valkey", "valkey-server")]
    return [each for name, program in servers for each in keeper.processes_in(home / name, program)]


def keeper_pid(home: Path) -> int:
    return int(embedded.read_state(home)["keeper"][0])


@pytest.fixture
def hold(home):
    """Start processes that hold the servers of `home`."""
    holders = []

    def start() -> subprocess.Popen[str]:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(home)],
            cwd=embedded.CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
        return holder

    yield start
    for holder in holders:
        holder.kill()
        holder.communicate()


def query(url: str, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(text)
        return cursor.fetchall() if cursor.description else []


def test_both_servers_answer_and_stop_with_the_last_user(home):
    found = embedded.start(home)
    assert query(found.database_url, "SHOW listen_addresses") == [("",)]
    with redis.Redis.from_url(found.redis_url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("port") == {"port": "0"}
    assert embedded.running(home)
    embedded.stop(home)
    assert not embedded.running(home)
    assert not left(home)
    assert not embedded.socket_dir(home.resolve()).exists()


def test_the_sockets_are_closed_to_others(home):
    embedded.start(home)
    sockets = embedded.socket_dir(home.resolve())
    assert not sockets.stat().st_mode & 0o066
    assert not (sockets / "pg").stat().st_mode & 0o077
    assert not (sockets / "valkey.sock").stat().st_mode & 0o077


def test_another_user_keeps_them_up(home, hold):
    holder = hold()
    found = embedded.start(home)
    embedded.stop(home)
    assert query(found.database_url, "SELECT 1") == [(1,)]
    holder.communicate("")
    assert not left(home)


def test_a_killed_user_leaves_nothing_and_loses_nothing(home, hold):
    holder = hold()
    query(embedded.database_url(home.resolve()), "CREATE TABLE kept AS SELECT 7 AS number")
    holder.kill()
    until(lambda: not left(home), what="the servers to stop")
    found = embedded.start(home)
    assert query(found.database_url, "SELECT number FROM kept") == [(7,)]


def test_a_killed_keeper_is_replaced(home, hold):
    hold()
    os.kill(keeper_pid(home), signal.SIGKILL)
    until(lambda: not embedded.running(home))
    found = embedded.start(home)
    assert query(found.database_url, "SELECT 1") == [(1,)]


def test_a_killed_keeper_is_replaced_for_those_who_stay(home):
    found = embedded.start(home)
    query(found.database_url, "CREATE TABLE kept AS SELECT 7 AS number")
    with Processes([], home=home):
        os.kill(keeper_pid(home), signal.SIGKILL)
        until(lambda: not embedded.running(home))
        until(lambda: embedded.running(home))
    assert query(found.database_url, "SELECT number FROM kept") == [(7,)]


def test_a_stale_pid_file_with_a_live_strangers_pid_does_not_block(home, hold):
    hold()
    processes = [psutil.Process(keeper_pid(home)), *left(home)]
    pid_file = home / "pg" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    until(lambda: not left(home))
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    found = embedded.start(home)
    assert query(found.database_url, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("program", ["postgres", "valkey-server"])
def test_a_killed_server_comes_back(home, program):
    found = embedded.start(home)
    directory = home / ("pg" if program == "postgres" else "valkey")
    old = min(keeper.processes_in(directory, program), key=lambda each: each.create_time())
    until(lambda: not psutil.pid_exists(old.pid) or psutil.time.time() - old.create_time() > 1.1)
    old.kill()

    def answers() -> bool:
        client = redis.Redis.from_url(found.redis_url)
        with client, suppress(psycopg.OperationalError, redis.ConnectionError):
            return bool(client.ping()) and query(found.database_url, "SELECT 1") == [(1,)]
        return False

    until(lambda: old.pid not in [each.pid for each in left(home)])
    until(answers, what=f"{program} to answer again")


def test_two_homes_run_side_by_side(home, tmp_path):
    other = tmp_path / "other"
    urls = [embedded.start(each).database_url for each in (home, other)]
    try:
        query(urls[0], "CREATE TABLE mine (id int)")
        assert query(urls[1], "SELECT to_regclass('mine')") == [(None,)]
    finally:
        embedded.stop(other)
    assert query(urls[0], "SELECT to_regclass('mine')::text") == [("mine",)]


def test_a_long_path_does_not_make_the_sockets_long(home):
    deep = home / ("deep" * 20) / ("deeper" * 20)
    found = embedded.start(deep)
    try:
        assert query(found.database_url, "SELECT 1") == [(1,)]
        assert str(embedded.socket_dir(deep.resolve())) in found.redis_url
    finally:
        embedded.stop(deep)
    assert not left(deep)


def test_a_prepared_socket_directory_is_refused(home, tmp_path):
    trap = embedded.socket_dir(home.resolve())
    trap.symlink_to(tmp_path)
    try:
        with pytest.raises(embedded.EmbeddedError, match="belongs to somebody else"):
            embedded.start(home)
    finally:
        trap.unlink()


def test_a_home_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(embedded.EmbeddedError, match="Set TUTTI_HOME"):
        embedded.start(tmp_path / "file" / "home")


def test_a_start_that_fails_tells_why(home):
    (home / "pg").mkdir(parents=True)
    (home / "pg" / "letter").write_text("not a cluster")
    with pytest.raises(embedded.EmbeddedError, match="no PostgreSQL cluster"):
        embedded.start(home)
    assert (home / "pg" / "letter").exists()


def test_socket_paths_fit_even_in_a_long_temporary_directory(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 30)))
    path = embedded.socket_dir(tmp_path) / "pg" / ".s.PGSQL.5432"
    assert len(str(path)) <= embedded.SOCKET_LIMIT
    with socket.socket(socket.AF_UNIX) as probe, pytest.raises(FileNotFoundError):
        probe.connect(str(path))
