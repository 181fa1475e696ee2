"""Agents from npm, installed once into a cache directory: TUTTI_CACHE, else the temporary one."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def installed(package: str) -> Path:
    """The directory of an npm package with all that it needs; skips where npm is missing."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is missing, and with it every agent that it installs")
    cache = Path(os.environ.get("TUTTI_CACHE") or Path(tempfile.gettempdir(), "tutti-cache"))
    place = cache / package.replace("/", "~")
    place.mkdir(parents=True, exist_ok=True)
    with (cache / "npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / ".done").exists():
            argv = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", package]
            done = subprocess.run(argv, cwd=place, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, f"npm could not install {package}: {done.stderr[-2000:]}"
            (place / ".done").touch()
    return place
