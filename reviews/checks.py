"""Check commands: run through a runner that is handed down, and told apart by how they end."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

Stop = Callable[[], str | None]

CHECK_SECONDS: Final = 600.0
"""How long a check may take unless the caller says otherwise."""


class Exited(Protocol):
    """How a command ended: exit code or signal, seconds, its output, and why it was ended.

    `reason` is None, "timeout", "stopped:…", "output" or "out_of_memory".
    """

    @property
    def code(self) -> int | None: ...
    @property
    def signal(self) -> int | None: ...
    @property
    def seconds(self) -> float: ...
    @property
    def output(self) -> str: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def reason(self) -> str | None: ...


class Runner(Protocol):
    """Runs one shell command in a tree, confined; fulfilled by agents.sandbox."""

    def __call__(
        self,
        command: str,
        *,
        tree: Path,
        timeout_seconds: float,
        environment: Path | None,
        stop: Stop,
        extra_readable: Sequence[Path] = (),
    ) -> Exited: ...


class Kind(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"  #: tests ran into errors outside their assertions, or the tool itself did
    COLLECTION_ERROR = "collection_error"  #: the tests could not be loaded
    NO_TESTS = "no_tests"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"
    NOT_FOUND = "not_found"  #: the command, or the test tool, does not exist


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What one check did; `flaky` when it was red and then green on the same tree."""

    command: str
    exit_code: int | None
    seconds: float
    output: str
    ok: bool
    kind: str
    flaky: bool = False


def never() -> str | None:
    """A stop that never stops."""
    return None


def run_checks(
    commands: Sequence[str],
    tree: Path,
    runner: Runner,
    *,
    environment: Path | None = None,
    stop: Stop = never,
    timeout_seconds: float = CHECK_SECONDS,
) -> list[CheckOutcome]:
    """Run each command in `tree`, the later ones even when one is red; none after a stop."""
    outcomes = []
    for command in commands:
        if stop() is not None:
            break
        exited = runner(
            command,
            tree=tree,
            timeout_seconds=timeout_seconds,
            environment=environment,
            stop=stop,
        )
        outcomes.append(outcome_of(command, exited))
    return outcomes


def retry_red(
    outcomes: Sequence[CheckOutcome], run: Callable[[str], Sequence[CheckOutcome]]
) -> list[CheckOutcome]:
    """Run once more what was red: what is green now was flaky, and says so.

    Seconds are those of both tries; where the second could not run, the first one stands.
    """
    settled = []
    for outcome in outcomes:
        again = [] if outcome.ok else run(outcome.command)
        settled += [
            replace(one, seconds=outcome.seconds + one.seconds, flaky=one.ok) for one in again
        ] or [outcome]
    return settled


def outcome_of(command: str, exited: Exited) -> CheckOutcome:
    """The outcome of a command that ended."""
    kind = classify(command, exited)
    return CheckOutcome(
        command=command,
        exit_code=exited.code,
        seconds=exited.seconds,
        output=exited.output,
        ok=kind is Kind.PASSED,
        kind=kind,
    )


_COUNT = re.compile(r"\b(\d+) (passed|failed|errors?|skipped|deselected|xfailed|xpassed)\b")
_PYTEST_END = re.compile(r"(?:^|\n)=*\s*(?=[^\n]*\b(?:\d+ \w+|no tests ran)\b)([^\n]*) in [\d.:]+")
_COLLECTION = re.compile(
    r"ERROR collecting |errors? during collection|ImportError while loading conftest"
    r"|unittest\.loader\._FailedTest|Failed to import test module"
)
_NO_FILE = re.compile(r"ERROR: (?:file or directory )?not found: ")
_NO_TOOL = re.compile(
    r"No module named '?(?:pytest|unittest|tox|nox)\b|: (?:command )?not found$", re.M
)
_UNITTEST = re.compile(r"(?:^|\n)Ran (\d+) tests? in ")
_UNITTEST_END = re.compile(r"(?:^|\n)FAILED \(([^)]*)\)")


def classify(command: str, exited: Exited) -> Kind:
    """Tell how a command ended, reading what pytest and unittest say."""
    if exited.reason == "timeout":
        return Kind.TIMEOUT
    if exited.reason == "out_of_memory":
        return Kind.OUT_OF_MEMORY
    if exited.reason is not None or exited.signal is not None or exited.code is None:
        return Kind.KILLED
    if exited.code in (126, 127):
        return Kind.NOT_FOUND
    if exited.code > 128 and not _counts(exited.output):
        return Kind.KILLED  # A shell says "killed by signal N" as 128 + N.
    if exited.code == 0:
        return Kind.NO_TESTS if _ran_nothing(exited.output) else Kind.PASSED
    return _red_kind(command, exited.code, exited.output)


def _ran_nothing(output: str) -> bool:
    ran = _UNITTEST.findall(output)
    return bool(ran) and all(count == "0" for count in ran)


def _red_kind(command: str, code: int, output: str) -> Kind:
    if _COLLECTION.search(output):
        return Kind.COLLECTION_ERROR
    counts = _counts(output)
    if counts.get("failed"):
        return Kind.FAILED
    if counts.get("error"):
        return Kind.ERROR
    if _NO_TOOL.search(output):
        return Kind.NOT_FOUND
    if "pytest" in command or "py.test" in command:
        return _pytest_kind(code, output)
    return Kind.NO_TESTS if _ran_nothing(output) else Kind.FAILED


def _pytest_kind(code: int, output: str) -> Kind:
    if code == 5 or (code == 4 and _NO_FILE.search(output)):
        return Kind.NO_TESTS
    if code == 2 and re.search(r"^E?\s*(?:SyntaxError|IndentationError)", output, re.M):
        return Kind.COLLECTION_ERROR
    return Kind.FAILED if code == 1 else Kind.ERROR


def _counts(output: str) -> dict[str, int]:
    """{"failed": 2, "passed": 1} from the last summary line of pytest or unittest."""
    found: dict[str, int] = {}
    ends = _PYTEST_END.findall(output)
    if ends:
        for number, word in _COUNT.findall(ends[-1]):
            found[word.rstrip("s") if word.startswith("error") else word] = int(number)
    for end in _UNITTEST_END.findall(output):
        for word, number in re.findall(r"(failures|errors)=(\d+)", end):
            found["failed" if word == "failures" else "error"] = int(number)
    return found


_REFUSED: Final = {
    Kind.PASSED: "is green before any code was written: it proves nothing. Write tests that fail"
    " until the module does what its contract says",
    Kind.COLLECTION_ERROR: "could not load its tests. Mend the tests' own syntax and imports, and"
    " use only what exists or what the contract declares; they must be collected and then fail",
    Kind.NO_TESTS: "found no tests. Write them where the check looks for them",
    Kind.TIMEOUT: "did not end in time. Tests must fail quickly instead of waiting",
    Kind.OUT_OF_MEMORY: "used up its memory before it could fail",
    Kind.KILLED: "was killed before it could fail",
    Kind.NOT_FOUND: "could not start: its command or test tool is not installed for the checks",
}


def _refusal(outcome: CheckOutcome) -> str | None:
    kind = Kind(outcome.kind)
    if kind is Kind.ERROR and not _counts(outcome.output):
        return "ended by an error of the test tool itself, before any test ran"
    return _REFUSED.get(kind)


def red_verdict(outcomes: Sequence[CheckOutcome]) -> tuple[bool, str]:
    """The red gate: every check must fail by tests that ran; and the sentence that says so."""
    if not outcomes:
        return False, "No check ran, so nothing is proved. Give the module a check."
    refused = [(outcome.command, _refusal(outcome)) for outcome in outcomes]
    bad = [f"`{command}` {why}." for command, why in refused if why]
    if bad:
        return False, " ".join(bad)
    return True, f"Red as it should be before the code: {'; '.join(map(say, outcomes))}."


def say(outcome: CheckOutcome) -> str:
    """How a check ended, for people: "7 failed, 2 passed", else its kind in words."""
    counts = _counts(outcome.output)
    parts = [f"{counts[word]} {word}" for word in ("failed", "error", "passed") if counts.get(word)]
    return ", ".join(parts) or str(outcome.kind).replace("_", " ")
