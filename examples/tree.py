"""The base of an example: its source without bodies and tests, as one reproducible commit."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from examples import stub
from examples.library import Library

DATE = "2025-01-01T00:00:00+0000"
IDENTITY = {"NAME": "Tutti examples", "EMAIL": "examples@tutti.invalid", "DATE": DATE}


def write_base(library: Library, *, upstream: Path, base: Path, python: Path) -> None:
    """Copy `upstream` to `base`, take out the bodies and the tests, and add the plan."""
    shutil.copytree(upstream, base)
    kept = stub.called_at_import(
        upstream,
        sorted(set(library.import_names())),
        import_root=library.source.import_root,
        python=python,
    )
    for path in library.owned:
        source = (upstream / path).read_text(encoding="utf-8")
        keep_lines = kept.get((upstream / path).resolve(), set())
        (base / path).write_text(stub.stub_source(source, keep_lines=keep_lines), encoding="utf-8")
    for path in [*library.written_tests, *library.source.absent]:
        (base / path).unlink()
    shutil.copy(library.folder / "tutti.yaml", base / "tutti.yaml")


def commit_base(library: Library, repo: Path) -> str:
    """Make `repo` a git repository with one commit on main, and return the commit's id."""
    git(repo, "init", "--quiet", "--template=", "--initial-branch=main")
    git(repo, "add", "--all", "--force")
    message = f"{library.source.name} {library.source.version} without its function bodies"
    git(repo, "commit", "--quiet", "--no-verify", "--message", message)
    return git(repo, "rev-parse", "HEAD").strip()


def git(repo: Path, *arguments: str) -> str:
    """Run git in `repo` with nothing of the user's configuration."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    }
    for person in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{person}_{key}": value for key, value in IDENTITY.items()}
    options = ["-c", "core.autocrlf=false", "-c", "core.hooksPath=/dev/null"]
    command = ["git", *options, *arguments]
    done = subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"git {arguments[0]} failed in {repo}: {done.stderr.strip()}")
    return done.stdout
