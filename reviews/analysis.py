"""Run reviews/scripts/analyse.py on a tree, through a runner, and read what it found."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import shlex
import sys
import sysconfig
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from projects.globs import Files
from reviews.checks import Exited, Runner, Stop, never

SCRIPT: Final = Path(__file__).resolve().parent / "scripts" / "analyse.py"
ANALYSIS_SECONDS: Final = 120.0
LARGEST_ANSWER: Final = 50_000_000
MOST_FILES: Final = 200_000

_SKIPPED = frozenset({".git", ".hg", "__pycache__", "node_modules", ".venv", ".tox"})


class AnalysisError(RuntimeError):
    """The analysis did not come to an end; says what happened and, where known, on which file."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


def analyse(
    job: dict[str, Any],
    tree: Path,
    runner: Runner,
    *,
    environment: Path | None = None,
    stop: Stop = never,
) -> dict[str, Any]:
    """The answer of the script to a job; raises AnalysisError."""
    with tempfile.TemporaryDirectory(prefix="tutti-analysis-") as folder:
        asked = Path(folder) / "job.json"
        asked.write_text(json.dumps(job), encoding="utf-8")
        exited = runner(
            _command(asked),
            tree=tree,
            timeout_seconds=ANALYSIS_SECONDS,
            environment=environment,
            stop=stop,
            extra_readable=_readable(Path(folder)),
        )
    return _answer(exited)


def _site_packages() -> list[str]:
    paths = sysconfig.get_paths()
    return list(dict.fromkeys((paths["purelib"], paths["platlib"])))


def _interpreter() -> Path:
    return Path(sys.executable).resolve()


def _command(asked: Path) -> str:
    # Tutti's own interpreter and libraries: the project's environment has no griffe, and an agent
    # may have planted one.
    words = [_interpreter(), "-I", "-S", "-B", SCRIPT, asked, *_site_packages()]
    return shlex.join(str(word) for word in words)


def _readable(folder: Path) -> list[Path]:
    shared = [SCRIPT.parent.parent / name for name in ("stubs.py", "signatures.py")]
    places = [folder, SCRIPT.parent, *shared, Path(sys.base_prefix)]
    places += [Path(place) for place in _site_packages()]
    interpreter = _interpreter()
    if not interpreter.is_relative_to(sys.base_prefix):
        places.append(interpreter)
    return places


def _answer(exited: Exited) -> dict[str, Any]:
    lines = exited.output.splitlines()
    chunks = [line[7:] for line in lines if line.startswith("tutti1:")]
    last = [line[9:] for line in lines if line.startswith("tutti-at:")]
    where = f" in {last[-1]}" if last else ""
    if exited.code != 0 or "tutti1." not in lines:
        how = exited.reason or (f"signal {exited.signal}" if exited.signal else "")
        tail = next((line for line in reversed(lines) if line and line[:5] != "tutti"), "")
        raise AnalysisError(
            f"The code could not be analysed{where} ({how or tail[:300] or 'no answer'}).",
            last[-1] if last else "",
        )
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(base64.b64decode("".join(chunks)), LARGEST_ANSWER)
        answer: dict[str, Any] = json.loads(text)
    except (binascii.Error, zlib.error, ValueError, RecursionError) as error:
        raise AnalysisError(f"The answer of the code analysis is unreadable: {error}.") from None
    return answer


def python_files(tree: Path) -> Files:
    """The Python files of a checkout, by name alone; nothing is opened or followed."""
    return Files(path for path, _ in zip(_walk(tree), range(MOST_FILES), strict=False))


def _walk(tree: Path) -> Iterator[str]:
    for folder, below, names in os.walk(tree):
        below[:] = sorted(name for name in below if name not in _SKIPPED)
        for name in names:
            if name.endswith(".py"):
                yield Path(folder, name).relative_to(tree).as_posix()


_PACKAGE = re.compile(r"^(?:src/|lib/)?([A-Za-z_]\w*)/__init__\.py$")


def packages(files: Files) -> list[str]:
    """The top-level packages among files, as grimp wants them named."""
    found = (_PACKAGE.match(path) for path in files.paths)
    return sorted({match[1] for match in found if match})
