"""What an attempt to get out has at hand; runs inside the sandbox, before the attempt itself.

    python -I -S escape_guest.py < {"facts": …, "code": …}

Stands alone. Ends with 0 when the attempt went through and with 3 when it was refused; whether
it worked is judged outside, and by the word GOT-OUT.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os as os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

REFUSED = 3
F: dict[str, Any] = {}
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def got(what: object) -> None:
    print("GOT-OUT", what, flush=True)


def show(path: str) -> None:
    print(Path(path).read_bytes()[:20_000], flush=True)


def each(act: Callable[[Any], object], *things: object) -> None:
    """Try it with each of these; one that is refused does not keep the others."""
    for thing in things:
        try:
            act(thing)
        except (OSError, ValueError) as error:
            print("refused:", thing, error, flush=True)


def stray(**options: Any) -> subprocess.Popen[bytes]:
    """Start something that would outlive this program."""
    argv = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)", F["token"]]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL,
             "stderr": subprocess.DEVNULL}  # fmt: skip
    return subprocess.Popen(argv, **{**quiet, **options})


def connected(address: Any) -> socket.socket:
    """Connect to a path, an abstract name or a host and port."""
    is_path = isinstance(address, str)
    made = socket.socket(socket.AF_UNIX if is_path else socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(2)
    made.connect(address if is_path else tuple(address))
    return made


def listen_to(address: Any) -> None:
    print(connected(address).recv(200), flush=True)


def ask_database(at: dict[str, Any]) -> None:
    """Log in without a password."""
    words = b"\0".join(w.encode() for w in ("user", at["user"], "database", at["name"])) + b"\0\0"
    for address in at["addresses"]:
        with connected(address) as made:
            made.sendall(struct.pack("!II", len(words) + 8, 196_608) + words)
            answer = made.recv(9)
            if answer[:1] == b"R" and answer[5:9] == bytes(4):
                got(address)


def ask_valkey(at: dict[str, Any]) -> None:
    """Use it without a password."""
    for address in at["addresses"]:
        with connected(address) as made:
            made.sendall(b"PING\r\n")
            if made.recv(7).startswith(b"+PONG"):
                got(address)


def here(name: str) -> str:
    return str(Path.cwd() / name)


def git(*words: str, stdin: bytes = b"") -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@localhost")
    done = subprocess.run(["git", *identity, *words], input=stdin, capture_output=True, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace").strip()


def plant(*names: str) -> None:
    """Write the program that gives itself away when somebody outside starts it."""
    for name in names or ("evil.sh",):
        path = Path(here(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(F["plant"])
        path.chmod(0o755)


def attributes(text: str) -> None:
    """Have git obey the attributes in the tree, which the clone was made to ignore."""
    Path(".git/info/attributes").unlink()
    Path(".gitattributes").write_text(text)


def tree(*names: bytes) -> str:
    """Make a tree object whose entries have these names, unchecked."""
    blob = git("hash-object", "-w", "--stdin", stdin=b"x\n")
    rows = b"".join(b"100644 " + name + b"\0" + bytes.fromhex(blob) for name in sorted(names))
    return git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=rows)


def commit(of_tree: str, parent: str | None) -> str:
    """Make a commit object by hand, so that its tree need not be here."""
    lines = [f"tree {of_tree}", *([f"parent {parent}"] if parent else [])]
    who = "x <x@localhost> 1700000000 +0000"
    text = "\n".join([*lines, f"author {who}", f"committer {who}", "", "x", ""])
    return git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=text.encode())


def bundle(head: str, *refs: str) -> None:
    """Write a bundle of a commit and what hangs on it, as far as it is here, under these refs."""
    known = set(git("rev-list", "--objects", F["base"]).split())
    objects = [line.split()[0] for line in
               git("rev-list", "--objects", "--missing=print", head, "^" + F["base"]).splitlines()
               if line and line[0] not in "?fe"]  # fmt: skip
    wanted = "\n".join(one for one in dict.fromkeys([head, *objects]) if one not in known)
    pack = subprocess.run(["git", "pack-objects", "--stdout", "-q"], input=wanted.encode(),
                          capture_output=True, check=False).stdout  # fmt: skip
    _write(head, pack, refs or ("refs/tutti/out",))


def empty_bundle(head: str) -> None:
    pack = b"PACK" + struct.pack("!II", 2, 0)
    _write(head, pack + hashlib.sha1(pack).digest(), ("refs/tutti/out",))


def _write(head: str, pack: bytes, refs: tuple[str, ...]) -> None:
    rows = [f"-{F['base']} base", *(f"{head} {ref}" for ref in refs)]
    head_of_file = "\n".join(["# v2 git bundle", *rows, "", ""]).encode()
    Path("work.bundle").write_bytes(head_of_file + pack)


def main() -> int:
    given = json.loads(sys.stdin.buffer.read())
    F.update(given["facts"])
    try:
        exec(compile(given["code"], "escape", "exec"), globals())
    except OSError as error:
        print("refused:", error, flush=True)
        return REFUSED
    return 0


if __name__ == "__main__":
    # What is tried is written as if it stood in this file.
    import signal as signal
    import time as time

    sys.exit(main())
