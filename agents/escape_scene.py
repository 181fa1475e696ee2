"""A small Tutti of its own to break out into, and the judge of whether somebody did.

It holds two projects' hubs, three modules' workspaces, keys, a server process and sockets. All that
must stay unknown holds the same random text, so that learning any of it shows.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from django.conf import settings

from agents import confinement, escape_guest, sandbox, scoping, syscalls
from agents.escapes import Escape, Judge, Where
from agents.workspaces import Workspace
from projects import git, intake, owndata
from projects.git import GitError
from projects.hub import Hub, init, integration_ref, module_ref

GUEST = Path(escape_guest.__file__)
SECONDS = 20.0
LIMITS = sandbox.Limits(memory_mb=250, cpu_seconds=20, file_mb=50, processes=60, tmp_mb=50)
MAX_BUNDLE = 1_000_000
AUTHOR = ("agent", "agent@localhost")
PLANT = """#!/bin/sh
echo planted > {outside}/planted
cat {secret} > {outside}/stolen
cat {secret} >> {clone}/stolen
exit 0
"""


@dataclass
class Tried:
    """What one attempt left to judge: its output, how it ended, and what the hub took."""

    output: str = ""
    reason: str | None = None
    code: int | None = 0
    head: str | None = None
    refusal: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether an attempt was held: `breaches` says how it got out, `broken` that it never ran."""

    escape: Escape
    breaches: tuple[str, ...] = ()
    broken: str = ""
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        """Whether nothing got out, and the attempt was really made."""
        return not self.breaches and not self.broken

    @property
    def line(self) -> str:
        """The attempt in one line that ends with the verdict."""
        said = "; ".join(self.breaches) or (f"could not be tried: {self.broken}" if self.broken
                                            else "")  # fmt: skip
        start = f"{self.escape.group}/{self.escape.name}: {self.escape.tries}"
        return f"{start}{f' ({said})' if said else ''} ... {'held' if self.held else 'escaped'}"


@dataclass
class Scene:
    """The things to break out into; made by `scene`."""

    folder: Path
    canary: str = field(default_factory=lambda: f"canary-{secrets.token_hex(12)}")
    token: str = field(default_factory=lambda: f"stray-{secrets.token_hex(6)}")
    facts: dict[str, Any] = field(default_factory=dict)
    victim: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.hub = Hub(self.folder / "hubs" / "1.git")
        self.other_hub = Hub(self.folder / "hubs" / "2.git")
        self.own, self.other = (Workspace(self.folder / "workspaces" / "1" / n) for n in
                                ("core", "other"))  # fmt: skip
        self.environment = self.folder / "venv"
        self.program = self.folder / "agent" / GUEST.name

    # Making it

    def build(self) -> None:
        """Write every file of the scene and note the facts that an attacker may know."""
        for path in ("outside", "venv/bin", "agent", "run"):
            (self.folder / path).mkdir(parents=True)
        for name in ("secret_keys", "venv/bin/activate", "outside/secret"):
            (self.folder / name).write_text(self.canary)
        shutil.copy(GUEST, self.program)
        base = _fill(self.hub, {"a.py": b"one\n"})
        foreign = _fill(self.other_hub, {"secret.txt": self.canary.encode()})
        mine = self.hub.commit_files(base, {"secret.txt": self.canary.encode()}, "Other")
        self.hub.swap(module_ref(1, "other"), mine, None)
        self.other.prepare(self.hub, mine)
        self.own.prepare(self.hub, base)
        (self.other.home / "session").write_text(self.canary)
        tree = git.run("rev-parse", f"{foreign}^{{tree}}", repo=self.other_hub.path).text
        self.facts |= {
            "base": base, "foreign": foreign, "foreign_tree": tree, "token": self.token,
            "other_clone": str(self.other.path), "other_home": str(self.other.home),
            "hub": str(self.hub.path), "other_hub": str(self.other_hub.path),
            "home": str(settings.TUTTI_HOME), "folder": self.folder.parent.name,
            "secret": str(self.folder / "outside" / "secret"), "program": str(self.program),
            "environment": str(self.environment), "server": os.getpid(),
            "key_files": [str(self.folder / "secret_keys"),
                          *(str(Path(settings.TUTTI_HOME, n)) for n in
                            ("secret_keys", "secret_key")),
                          str(Path(settings.BASE_DIR, ".env"))],
            "plant": PLANT.format(outside=self.folder / "outside", clone=self.own.path,
                                  secret=self.folder / "outside" / "secret"),
            "database": _database(), "valkey": _valkey(), **_calls(),
        }  # fmt: skip

    def start_victim(self) -> None:
        """Have a process that stands for the server, with the secret in its environment."""
        argv = [sandbox.python(), "-I", "-S", "-c", "import time; time.sleep(3600)"]
        self.victim = subprocess.Popen(argv, env={"CANARY": self.canary})
        self.facts["victim"] = self.victim.pid

    # Trying and judging

    def attempt(self, escape: Escape) -> Verdict:
        """Try one way out and judge it. A risky one counts as escaped where nothing confines."""
        if escape.is_risky and sandbox.level() != sandbox.BUBBLEWRAP:
            return Verdict(escape, ("nothing would stop it here; not tried",))
        began = time.monotonic()
        self.own.prepare(self.hub, self.facts["base"])
        before = self._outside()
        tried = self._inside(escape)
        if tried.code not in (0, escape_guest.REFUSED) and "Traceback" in tried.output:
            return Verdict(escape, broken=tried.output.strip().splitlines()[-1])
        if escape.where in (Where.WORK, Where.BUNDLE):
            self._hand_over(escape, tried)
        breaches = tuple(self._breaches(escape, tried, before))
        return Verdict(escape, breaches, seconds=time.monotonic() - began)

    def _inside(self, escape: Escape) -> Tried:
        """Run the attempt as the guest that it is for."""
        given = json.dumps({"facts": self.facts, "code": escape.code}).encode()
        done = sandbox.run(
            [sandbox.python(), "-I", "-S", str(self.program)],
            workspace=self.own.path,
            writable=[] if escape.where == Where.CHECK else [self.own.home],
            readable=[self.program],
            env={} if escape.where == Where.CHECK else {"HOME": str(self.own.home)},
            network=escape.where == Where.AGENT,
            environment=self.environment,
            stdin=given,
            timeout_seconds=SECONDS,
            grace_seconds=0.5,
            limits=LIMITS,
        )
        return Tried(done.output, done.reason, done.code)

    def _hand_over(self, escape: Escape, tried: Tried) -> None:
        """Do with the work what follows a turn: commit, bundle, and into the hub."""
        bundle: Path | None = self.own.out / "work.bundle"
        try:
            if escape.where == Where.BUNDLE:
                (self.own.path / "work.bundle").rename(self.own.out / "work.bundle")
            else:
                bundle = self.own.checkpoint("Work", AUTHOR, max_bytes=MAX_BUNDLE)
            if bundle:
                tried.head = intake.take(
                    self.hub, bundle, module_ref(1, "core"), expected_base=self.facts["base"],
                    max_bytes=MAX_BUNDLE,
                )  # fmt: skip
        except GitError as error:
            tried.refusal = f"{error} {error.stderr}"
            tried.output += tried.refusal
            return
        if tried.head:
            changes = self.hub.changes(self.facts["base"], tried.head)
            texts = [self.hub.read(tried.head, c.path) for c in changes if c.new_mode == "100644"]
            # What an agent may see, it may hand over; the scene's plants name the secret's path.
            tried.output += "".join((text or b"").decode("utf-8", "replace") for text in texts)

    def _breaches(self, escape: Escape, tried: Tried, before: dict[str, Any]) -> Iterator[str]:
        """Look at all that could have gone wrong, whatever was tried."""
        if self.canary in tried.output or "GOT-OUT" in tried.output:
            told = [line for line in tried.output.splitlines() if "GOT-OUT" in line]
            yield told[0].removeprefix("GOT-OUT ")[:100] if told else "it learned a secret"
        after = self._outside()
        if changed := sorted(name for name in {*before, *after}
                             if before.get(name) != after.get(name)):  # fmt: skip
            yield f"changed {', '.join(changed[:3])}"
        if self._is_hurt():
            yield "the server's process was hurt"
            self.end_victim()
            self.start_victim()
        if left := _processes_with(self.token):
            for process in left:
                process.kill()
            yield f"{len(left)} of its processes live on"
        # On a busy host the memory of many processes may be seen before their number.
        limits = (escape.reason, "out_of_memory")
        if escape.judge == Judge.UNENDED and tried.reason not in limits:
            yield f"it ended by {tried.reason or 'itself'}, not for its {escape.reason}"
        yield from self._wrongly_taken(escape, tried)

    def _wrongly_taken(self, escape: Escape, tried: Tried) -> Iterator[str]:
        if self.hub.has(self.facts["foreign"]):
            yield "the hub holds another project's commit"
        if tried.head is None:
            return
        if escape.where == Where.BUNDLE:
            yield "the hub took it"
        for change in self.hub.changes(self.facts["base"], tried.head):
            if change.new_mode in ("120000", "160000") or ".git" in change.path.split("/"):
                yield f"the hub took {change.path} of mode {change.new_mode}"

    def _outside(self) -> dict[str, Any]:
        """Size, time, mode of each file that is not the guest's own, and refs of the hubs."""
        skipped = {self.own.path, self.own.home, self.own.tmp, self.own.out,
                   self.hub.path / "objects"}  # fmt: skip
        found: dict[str, Any] = {}
        for root, directories, files in os.walk(self.folder):
            directories[:] = [d for d in directories if Path(root, d) not in skipped]
            for name in files:
                path = Path(root, name)
                seen = path.lstat()
                found[str(path.relative_to(self.folder))] = (seen.st_size, seen.st_mtime_ns,
                                                             seen.st_mode)  # fmt: skip
        state = self.own.directory / "state.json"
        for own in (state, self.hub.path / module_ref(1, "core")):
            found.pop(str(own.relative_to(self.folder)), None)
        return found | {f"{path} for everybody": True for path in self._programs_for_all()}

    def _programs_for_all(self) -> Iterator[str]:
        """Programs in the clone that run as their owner, where others could start them."""
        if not self.own.directory.stat().st_mode & stat.S_IXOTH:
            return
        for path in self.own.path.iterdir():
            if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID):
                yield path.name

    def _is_hurt(self) -> bool:
        assert self.victim is not None
        if self.victim.poll() is not None:
            return True
        return psutil.Process(self.victim.pid).status() in (
            psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP,
        )  # fmt: skip

    def end_victim(self) -> None:
        if self.victim is not None:
            self.victim.kill()
            self.victim.wait()


@contextmanager
def scene() -> Iterator[Scene]:
    """Set up a scene below TUTTI_HOME, with its process, sockets and keys; take all away after."""
    # Below a folder that guests may be shown, for their program and environment lie in the scene.
    home = Path(settings.TUTTI_HOME) / owndata.OPEN[1]
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="escapes-", dir=home))
    # The guests' own walls must hold, not this one.
    folder.chmod(0o755)
    made = Scene(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(made.own.remove)
        made.build()
        stack.callback(made.end_victim)
        made.start_victim()
        stack.enter_context(_sockets(made))
        stack.enter_context(_kernel_things(made))
        yield made


@contextmanager
def _sockets(made: Scene) -> Iterator[None]:
    """Listen by path, by abstract name and by TCP, and tell the secret to everybody who comes."""
    short = Path(tempfile.mkdtemp(prefix="tutti-e-"))
    (short / "left").write_text(made.canary)
    abstract = f"tutti-{secrets.token_hex(6)}"
    listeners = []
    for family, address in ((socket.AF_UNIX, str(short / "s")), (socket.AF_UNIX, f"\0{abstract}"),
                            (socket.AF_INET, ("127.0.0.1", 0))):  # fmt: skip
        listener = socket.socket(family)
        listener.bind(address)
        listener.listen()
        threading.Thread(target=_serve, args=(listener, made.canary), daemon=True).start()
        listeners.append(listener)
    made.facts |= {"socket": str(short / "s"), "abstract": abstract,
                   "tmp_file": str(short / "left"),
                   "port": listeners[-1].getsockname()[1]}  # fmt: skip
    previous = os.environ.get("TUTTI_ESCAPE")
    os.environ["TUTTI_ESCAPE"] = made.canary
    try:
        yield
    finally:
        os.environ.pop("TUTTI_ESCAPE")
        if previous is not None:
            os.environ["TUTTI_ESCAPE"] = previous
        for listener in listeners:
            # Closing alone does not wake the thread that waits in accept.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        shutil.rmtree(short, ignore_errors=True)


def _serve(listener: socket.socket, text: str) -> None:
    while True:
        try:
            caller, _ = listener.accept()
        except OSError:
            return
        with caller, contextlib.suppress(OSError):
            caller.sendall(text.encode())


@contextmanager
def _kernel_things(made: Scene) -> Iterator[None]:
    """Put a key into this thread's key ring and make shared memory, as far as the host lets us."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    name, number = f"tutti-{secrets.token_hex(6)}", secrets.randbelow(2**30) + 1
    made.facts |= {"key": name, "shared_memory": number}
    secret = made.canary.encode()
    key = -1
    if "add_key" in made.facts:
        add = made.facts["add_key"]
        key = libc.syscall(add, b"user", name.encode(), secret, len(secret), -3)
    memory = libc.shmget(number, 4096, 0o1600)
    try:
        yield
    finally:
        if key >= 0:
            libc.syscall(made.facts["keyctl"], 3, ctypes.c_long(key))
        if memory >= 0:
            libc.shmctl(memory, 0, None)


def _fill(hub: Hub, files: dict[str, bytes]) -> str:
    """Make a hub with one commit on its integration branch; returns the commit."""
    init(hub.path)
    root = hub.commit_tree(git.EMPTY_TREE, [], "Start", author=AUTHOR, trailers={})
    first = hub.commit_files(root, files, "First")
    hub.swap(integration_ref(), first, None)
    return first


def _calls() -> dict[str, int]:
    """Numbers of system calls on this machine; on an unknown one those of x86-64, which fail."""
    machine = platform.machine()
    table = syscalls.NUMBERS.get(machine, syscalls.NUMBERS["x86_64"])
    clone = syscalls.CLONING.get(machine, syscalls.CLONING["x86_64"])[0]
    return {**table, "clone": clone, "perf": table["perf_event_open"]}


def _database() -> dict[str, Any]:
    found = settings.DATABASES["default"]
    host, port = found["HOST"] or "localhost", int(found["PORT"] or 5432)
    address = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else [host, port]
    return {"user": found["USER"], "name": found["NAME"], "addresses": [address]}


def _valkey() -> dict[str, Any]:
    parts = urlsplit(settings.REDIS_URL)
    if parts.scheme == "unix":
        return {"addresses": [parts.path]}
    return {"addresses": [[parts.hostname or "localhost", parts.port or 6379]]}


def _processes_with(token: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if token in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def host_facts() -> list[tuple[str, str]]:
    """What holds on this host, as names and sentences."""
    root = " (root; an account of its own is better)" if os.getuid() == 0 else ""
    found = [
        ("level", f"{sandbox.level()}{f': {confinement.why()}' if confinement.why() else ''}"),
        ("bubblewrap", confinement.bubblewrap() or "not found"),
        ("kernel", f"{platform.system()} {platform.release()} on {platform.machine()}"),
        ("user", f"uid {os.getuid()}{root}"),
    ]
    if sandbox.level() != sandbox.BUBBLEWRAP:
        return [*found, ("runs", confinement.refusal() or "start all the same, with a badge:"
                         " TUTTI_ALLOW_UNCONFINED says so")]  # fmt: skip
    scoped = "refused by Landlock" if scoping.is_known() else (
        "reachable: Landlock can refuse them from Linux 6.12 on")  # fmt: skip
    filtered = "filtered" if syscalls.program(platform.machine()) else (
        f"not filtered: their numbers on {platform.machine()} are not known")  # fmt: skip
    return [
        *found,
        ("system calls", filtered),
        ("abstract sockets for agents with network", scoped),
        ("metadata address for agents with network", _metadata()),
    ]


def _metadata() -> str:
    try:
        with socket.create_connection(("169.254.169.254", 80), timeout=1):
            return "reachable: block it by the host's firewall"
    except OSError:
        return "does not answer"
