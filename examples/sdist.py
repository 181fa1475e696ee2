"""Fetch a source distribution through pip, check its hash, and unpack it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

from examples.library import Source


class SourceError(Exception):
    """The source could not be had, or is not the one that was asked for."""


def fetch(source: Source, cache: Path) -> Path:
    """Return the archive of `source` in `cache`; download it when it is not there.

    pip downloads, so index, proxy and certificates are those of this machine. pip also asks the
    build backend for metadata; that runs in a temporary directory inside the cache.
    """
    archive = cache / f"{source.name}-{source.version}.tar.gz"
    if archive.exists() and _sha256(archive) == source.sha256:
        return archive
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as name:
        found = _download(source, Path(name))
        if _sha256(found) != source.sha256:
            raise SourceError(f"{found.name} has another hash than examples/{source.name} names")
        found.replace(archive)
    return archive


def unpack(archive: Path, target: Path) -> None:
    """Unpack the one top directory of `archive` as `target`."""
    scratch = target.with_name(f"{target.name}.unpacking")
    with tarfile.open(archive) as tar:
        tar.extractall(scratch, filter="data")
    (top,) = scratch.iterdir()
    top.rename(target)
    scratch.rmdir()


def _download(source: Source, folder: Path) -> Path:
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{source.name}=={source.version} --hash=sha256:{source.sha256}\n")
    command = [
        *_pip(folder.parent),
        *("download", "--quiet", "--no-input", "--no-deps", "--require-hashes"),
        *("--no-binary", source.name, "--dest", str(folder), "--requirement", str(requirement)),
    ]
    environment = {**os.environ, "TMPDIR": str(folder), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = sorted(folder.glob(f"{source.name}-*.tar.gz"))
    if done.returncode or not found:
        raise SourceError(
            f"pip could not fetch {source.name} {source.version}; "
            f"check the connection to the package index and try again:\n{done.stderr.strip()}"
        )
    return found[0]


def _pip(cache: Path) -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    # An environment that uv made has no pip; the interpreter's own copy of it does.
    folder = cache / "pip"
    if not (folder / "bin" / "pip").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
    return [str(folder / "bin" / "python"), "-m", "pip"]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
