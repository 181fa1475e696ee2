"""An example's own Python environment, apart from Tutti's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


class SetupError(Exception):
    """The environment could not be made."""


def create(folder: Path, *, requirements: Path, final: Path) -> None:
    """Make a virtual environment in `folder` that will work once it lies at `final`."""
    uv = _uv()
    python = folder / "bin" / "python"
    pinned = ["--require-hashes", "--requirement", str(requirements)]
    if uv:
        _run([uv, "venv", "--quiet", "--no-config", "--python", base_python(), str(folder)])
        install = [uv, "pip", "install", "--quiet", "--no-config", "--compile-bytecode"]
        _run([*install, "--python", str(python), *pinned])
    else:
        _run([base_python(), "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--no-input", *pinned])
    _move_scripts(folder, final)


def base_python() -> str:
    """The interpreter below the running environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _uv() -> str | None:
    own = Path(sys.prefix) / "bin" / "uv"
    return str(own) if own.exists() else shutil.which("uv")


def _move_scripts(folder: Path, final: Path) -> None:
    # Scripts name their interpreter by its whole path, and the folder is about to be moved.
    for path in (folder / "bin").iterdir():
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        moved = data.replace(os.fsencode(folder), os.fsencode(final))
        if moved != data and b"\0" not in data:
            path.write_bytes(moved)


def _run(command: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SetupError(f"`{' '.join(command)}` failed:\n{done.stderr.strip()}")
