"""Prepare an example: a real library without its bodies, its recordings and its environment.

    python -m examples.prepare boltons [--home .tutti] [--force]

Everything lands in `<home>/examples/<name>/`, moved there in one step when it is whole.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples import environment, record, sdist, tree
from examples.library import HERE, Library

NAMES = ("boltons", "itsdangerous", "marshmallow")


@dataclass(frozen=True)
class Prepared:
    """Where a prepared example lies."""

    path: Path
    repo: Path
    plan_file: Path
    recordings: Path
    upstream: Path
    environment: Path


def prepare(name: str, home: Path, *, force: bool = False) -> Prepared:
    """Make `<home>/examples/<name>/` unless it is there already, and say where its parts are.

    Raises ValueError for an unknown name and SourceError when the source cannot be had.
    """
    if name not in NAMES:
        raise ValueError(f"no example named {name!r}; there are {', '.join(NAMES)}")
    target = home.resolve() / "examples" / name
    digest = _digest(name)
    if not force and _is_current(target, digest):
        return _prepared(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target.parent / f".{name}.lock"):
        # Somebody else may have prepared it while this process waited for the lock.
        if force or not _is_current(target, digest):
            _build(name, target, cache=_cache(home), digest=digest)
    return _prepared(target)


def _build(name: str, target: Path, *, cache: Path, digest: str) -> None:
    partial = target.parent / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    library = Library.load(name)
    upstream, repo, venv = partial / "upstream", partial / "repo", partial / "venv"
    sdist.unpack(sdist.fetch(library.source, cache), upstream)
    pinned = library.folder / "requirements.txt"
    environment.create(venv, requirements=pinned, final=target / "venv")
    tree.write_base(library, upstream=upstream, base=repo, python=venv / "bin" / "python")
    record.write_all(library, upstream=upstream, base=repo, recordings=partial / "recordings")
    tree.commit_base(library, repo)
    (partial / "prepared.json").write_text(json.dumps({"digest": digest}))
    _swap(partial, target)


def _swap(partial: Path, target: Path) -> None:
    old = target.parent / f".{target.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _prepared(target: Path) -> Prepared:
    repo = target / "repo"
    return Prepared(
        path=target,
        repo=repo,
        plan_file=repo / "tutti.yaml",
        recordings=target / "recordings",
        upstream=target / "upstream",
        environment=target / "venv",
    )


def _is_current(target: Path, digest: str) -> bool:
    try:
        found = json.loads((target / "prepared.json").read_text())
    except (OSError, ValueError):
        return False
    # The environment points at its interpreter, which an upgrade may have taken away.
    return bool(found.get("digest") == digest and (target / "venv" / "bin" / "python").exists())


def _digest(name: str) -> str:
    inputs = [*HERE.glob("*.py"), *(path for path in (HERE / name).iterdir() if path.is_file())]
    digest = hashlib.sha256(f"{sys.version} {environment.base_python()}".encode())
    for path in sorted(inputs):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _cache(home: Path) -> Path:
    return Path(os.environ.get("TUTTI_CACHE") or home / "cache").resolve()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare an example of Tutti.")
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], default=[], metavar="NAME")
    default_home = os.environ.get("TUTTI_HOME") or HERE.parent / ".tutti"
    parser.add_argument("--home", type=Path, default=Path(default_home))
    parser.add_argument("--force", action="store_true", help="prepare again from the source")
    arguments = parser.parse_args()
    for name in arguments.names or NAMES:
        print(prepare(name, arguments.home, force=arguments.force).path)


if __name__ == "__main__":
    main()
