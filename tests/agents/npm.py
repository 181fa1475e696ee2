"""Agents from npm, installed once into a cache directory: TUTTI_CACHE, else the temporary one.

`python -m tests.agents.npm` fetches all of them beforehand.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

_MACHINE = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
#: Agents run on this one, whatever the system has.
NODE = f"node-linux-{_MACHINE}@24.9.0"
OPENCODE = "opencode-ai@1.18.33"
CLAUDE = "@agentclientprotocol/claude-agent-acp@0.101.0"
CODEX = "@agentclientprotocol/codex-acp@2.6.0"
GEMINI = "@google/gemini-cli@0.61.0"
QWEN = "@qwen-code/qwen-code@0.24.4"
PACKAGES = (NODE, OPENCODE, CLAUDE, CODEX, GEMINI, QWEN)
MISSING = "npm is missing, and with it every agent that it installs"


def installed(package: str) -> Path:
    """The directory of an npm package with all that it needs; skips where npm is missing."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(MISSING)
    return _fetched(npm, package)


def node() -> Path:
    """The directory of a Node.js that every agent of PACKAGES runs on; its program is in bin."""
    return installed(NODE) / "node_modules" / NODE.partition("@")[0]


def program(package: str, pattern: str) -> Path:
    """A file of a package that has one for this machine, by a pattern below its node_modules."""
    found = sorted(
        (installed(package) / "node_modules").glob(pattern), key=lambda one: len(str(one))
    )
    assert found, f"{package} has no program for this machine"
    return found[0]


def _fetched(npm: str, package: str) -> Path:
    cache = Path(os.environ.get("TUTTI_CACHE") or Path(tempfile.gettempdir(), "tutti-cache"))
    place = cache / package.replace("/", "~")
    place.mkdir(parents=True, exist_ok=True)
    with (cache / "npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / ".done").exists():
            argv = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", package]
            done = subprocess.run(argv, cwd=place, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, (
                f"npm could not install {package}. Is its registry reached from here (npm ping)? "
                f"It says: {done.stderr[-2000:]}"
            )
            (place / ".done").touch()
    return place


def main() -> None:
    """Fetch every package that is not there yet, and say how long each took."""
    npm = shutil.which("npm")
    if npm is None:
        print(f"{MISSING}: their tests will be skipped.")
        return
    for package in PACKAGES:
        began = time.monotonic()
        print(f"{package}: {_fetched(npm, package)} ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
