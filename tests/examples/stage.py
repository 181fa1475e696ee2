from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from agents.backends import recordings
from examples.library import Library, tests
from examples.prepare import Prepared
from examples.tree import git

PLAYER = Path(recordings.__file__).with_name("replay_player.py")


def play(recording: Path, clone: Path, *, scale: float = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(PLAYER), "--scale", str(scale)]
    with recording.open() as file:
        return subprocess.run(command, cwd=clone, stdin=file, capture_output=True, text=True)


@dataclass(frozen=True)
class Stage:
    """A clone of an example's base in which recordings are played, with its refs as promised."""

    prepared: Prepared
    library: Library
    clone: Path

    @classmethod
    def open(cls, prepared: Prepared, clone: Path) -> Stage:
        git(clone.parent, "clone", "--quiet", "--no-local", str(prepared.repo), str(clone))
        stage = cls(prepared, Library.load(prepared.path.name), clone)
        stage.mark("base")
        return stage

    def mark(self, name: str) -> None:
        git(self.clone, "add", "--all", "--force")
        git(self.clone, "commit", "--quiet", "--allow-empty", "--message", name)
        git(self.clone, "update-ref", f"refs/tutti/{name}", "HEAD")

    def turns(self, slug: str, kind: str, leave_out: list[str] | None = None) -> list[Path]:
        try:
            return recordings.sequence(self.prepared.recordings, slug, kind, leave_out or [])
        except recordings.RecordingError:
            return []

    def play(self, path: Path) -> dict[str, Any]:
        done = play(path, self.clone)
        assert done.returncode == 0, done.stdout
        return recordings.read(path).result

    def scene(self, scene: str, name: str) -> dict[str, Any]:
        folder = self.prepared.recordings / "scenes" / scene
        return self.play(folder / f"{name}.jsonl")

    def base(self, name: str) -> dict[str, Any]:
        return self.play(self.prepared.recordings / "base" / f"{name}.jsonl")

    def put_tests(self, slug: str) -> None:
        for path in tests(self.library.module(slug)):
            self.take(path)
        self.mark("tests")

    def take(self, path: str) -> None:
        target = self.clone / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((self.prepared.upstream / path).read_bytes())

    def same(self, path: str) -> bool:
        found, true = self.clone / path, self.prepared.upstream / path
        return found.exists() and found.read_bytes() == true.read_bytes()

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        search = f"{self.prepared.environment / 'bin'}{os.pathsep}{os.defpath}"
        return subprocess.run(
            shlex.split(command),
            cwd=self.clone,
            # A file put back within the same second would be taken from its stale bytecode.
            env={
                "PATH": search,
                "HOME": str(self.clone.parent),
                "LC_ALL": "C.UTF-8",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
        )

    def green(self, slug: str) -> bool:
        checks = self.library.module(slug)["checks"]
        return all(self.run(check).returncode == 0 for check in checks)

    def failing_files(self, command: str) -> set[str]:
        """Run pytest once over many files; say which of them have a failure or an error."""
        report = self.clone.parent / "report.xml"
        self.run(f"{command} --continue-on-collection-errors --tb=no --junitxml={report}")
        failing = set()
        for case in ElementTree.parse(report).iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                # A file that cannot be collected has its path in `name`, without a class.
                dotted = f"{case.get('classname') or ''}.{case.get('name') or ''}".strip(".").split(
                    "."
                )
                failing |= {"/".join(dotted[:n]) + ".py" for n in range(1, len(dotted) + 1)}
        return failing
