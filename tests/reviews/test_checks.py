from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agents import sandbox
from reviews.checks import (
    CheckOutcome,
    Exited,
    Kind,
    outcome_of,
    red_verdict,
    retry_red,
    run_checks,
)

ENVIRONMENT = Path(sys.prefix)

FILES = {
    "test_red.py": "def test_a(): assert 0\ndef test_b(): pass\n",
    "test_green.py": "def test_a(): pass\n",
    "test_syntax.py": "def test(:\n",
    "test_import.py": "import no_such_thing\ndef test_a(): pass\n",
    "test_empty.py": "",
    "test_fixture.py": (
        "import pytest\n@pytest.fixture\ndef f(): raise NotImplementedError\ndef test_a(f): pass\n"
    ),
    "unit_red.py": (
        "import unittest\nclass T(unittest.TestCase):\n"
        "    def test_a(self): raise NotImplementedError\n    def test_b(self): self.fail()\n"
    ),
}
PYTEST = "python -m pytest -q -p no:cacheprovider"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, source in FILES.items():
        (tmp_path / name).write_text(source)
    return tmp_path


def check(tree: Path, command: str, seconds: float = 60) -> CheckOutcome:
    (found,) = run_checks(
        [command], tree, sandbox.Runner(), environment=ENVIRONMENT, timeout_seconds=seconds
    )
    return found


@pytest.mark.parametrize(
    ("command", "kind", "is_red"),
    [
        (f"{PYTEST} test_red.py", "failed", True),
        (f"{PYTEST} test_green.py", "passed", False),
        (f"{PYTEST} test_syntax.py", "collection_error", False),
        (f"{PYTEST} test_import.py", "collection_error", False),
        (f"{PYTEST} test_empty.py", "no_tests", False),
        (f"{PYTEST} test_fixture.py", "error", True),
        (f"{PYTEST} nothing_here.py", "no_tests", False),
        (f"{PYTEST} --no-such-option", "error", False),
        ("python -m unittest unit_red", "failed", True),
        ("python -m unittest test_import", "collection_error", False),
        ("no-such-command", "not_found", False),
        ("kill -9 $$", "killed", False),
        ("false", "failed", True),
        ("true", "passed", False),
    ],
)
def test_real_commands_are_told_apart(tree: Path, command: str, kind: str, is_red: bool) -> None:
    outcome = check(tree, command)
    assert (outcome.kind, outcome.ok) == (kind, kind == "passed"), outcome.output
    assert red_verdict([outcome])[0] is is_red


def test_check_that_hangs_is_ended(tree: Path) -> None:
    outcome = check(tree, "tail -f /dev/null", seconds=0.5)
    assert outcome.kind == "timeout" and not red_verdict([outcome])[0]


@dataclass
class Ended:
    code: int | None = 1
    signal: int | None = None
    seconds: float = 0.1
    output: str = ""
    truncated: bool = False
    reason: str | None = None


@pytest.mark.parametrize(
    ("ended", "kind"),
    [
        (Ended(None, reason="out_of_memory"), Kind.OUT_OF_MEMORY),
        (Ended(None, reason="output"), Kind.KILLED),
        (Ended(None, reason="stopped:cancelled"), Kind.KILLED),
        (Ended(137), Kind.KILLED),
        (Ended(126), Kind.NOT_FOUND),
        (Ended(1, output="python: No module named pytest"), Kind.NOT_FOUND),
        (Ended(0, output="Ran 0 tests in 0.000s\n\nOK"), Kind.NO_TESTS),
        (Ended(5, output="\nRan 0 tests in 0.000s\n\nNO TESTS RAN"), Kind.NO_TESTS),
        (Ended(1, output="\nFAILED (errors=2)"), Kind.ERROR),
        (Ended(1, output="==== 2 failed, 1 error in 0.5s ===="), Kind.FAILED),
        (Ended(2, output="E   SyntaxError: bad"), Kind.COLLECTION_ERROR),
        (Ended(1, output="odd"), Kind.FAILED),
    ],
)
def test_endings_are_told_apart(ended: Ended, kind: Kind) -> None:
    assert outcome_of("python -m pytest", ended).kind == kind


def test_red_gate_speaks_of_each_check() -> None:
    red = outcome_of("a", Ended(output="1 failed, 2 passed in 0.1s"))
    green = outcome_of("b", Ended(0))
    assert red_verdict([red]) == (True, "Red as it should be before the code: 1 failed, 2 passed.")
    good, sentence = red_verdict([red, green])
    assert not good and "`b` is green before any code was written: it proves nothing" in sentence
    assert red_verdict([]) == (
        False,
        "No check ran, so nothing is proved. Give the module a check.",
    )


@dataclass
class Scripted:
    """A runner that ends as told, one command after the other."""

    codes: list[int]
    asked: list[str] = field(default_factory=list)

    def __call__(self, command: str, *, extra_readable: Sequence[Path] = (), **_) -> Exited:
        self.asked.append(command)
        return Ended(self.codes.pop(0))


def test_later_checks_run_after_a_red_one_but_none_after_a_stop() -> None:
    runner = Scripted([1, 0])
    found = run_checks(["a", "b"], Path(), runner)
    assert [one.ok for one in found] == [False, True]
    assert run_checks(["a"], Path(), runner, stop=lambda: "cancelled") == []


def test_retry_tells_flaky_from_red() -> None:
    first = run_checks(["green", "flaky", "red"], Path(), Scripted([0, 1, 1]))
    runner = Scripted([0, 1])
    found = retry_red(first, lambda command: run_checks([command], Path(), runner))
    assert runner.asked == ["flaky", "red"]
    assert [(one.ok, one.flaky) for one in found] == [(True, False), (True, True), (False, False)]
    assert retry_red(first, lambda command: []) == first
