"""Try a profile's backend once, as a run would: start it, ask for one word, and note what it says.

What is found are facts, a JSON object: sandbox (level), program (its path), agent, version,
protocol, models, modes, options (of the agent, by name), opened_at (seconds until its session was
open), first_at (until its first words), seconds, answer,
input_tokens, output_tokens, quality, source, cost and currency (as the agent says them), money (as
it counts here). A fact that nobody told is missing.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings

from agents import confinement, sandbox
from agents.backends import KINDS, acp_settings
from agents.backends.base import BackendError, Outcome, Stop, Turn
from agents.backends.command import search_path
from agents.backends.events import Words
from agents.models import Profile
from projects.text import clean_text

#: Asks for as little as an agent can say; nothing of it needs a tool.
PROMPT = (
    "This is a test of whether you can be reached. Use no tools, change no files, and answer with "
    "this one word: ready"
)
#: A test's own limits, where the profile allows more.
SECONDS = {"timeout_seconds": 120.0, "idle_seconds": 90.0, "start_seconds": 120.0}
LONGEST_ANSWER = 500
GIT_SECONDS = 20.0

Tell = Callable[[dict[str, Any]], None]


@contextmanager
def place() -> Iterator[tuple[Path, Path]]:
    """An empty repository and a home for one test, both gone afterwards.

    Some agents work only in a repository; it is made inside the sandbox, as an agent's own would.
    """
    folder = Path(settings.TUTTI_HOME) / "checks"
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="test-", dir=folder))
    try:
        workspace, home = root / "tree", root / "home"
        workspace.mkdir()
        home.mkdir()
        sandbox.run(["git", "init", "--quiet", "."], workspace=workspace,
                    timeout_seconds=GIT_SECONDS)  # fmt: skip
        yield workspace, home
    finally:
        shutil.rmtree(root, ignore_errors=True)


def try_out(
    profile: Profile, secrets: dict[str, str], environment: Path | None, tell: Tell, stop: Stop
) -> Outcome:
    """Start the profile's backend and let it say one word; `tell` gets facts as they are found.

    Raises BackendError with the sentence that a run would end with.
    """
    if why := confinement.refusal():
        raise BackendError(why, kind="sandbox", owner="tutti", permanent=True)
    if problem := KINDS[profile.backend].problem(profile.settings):
        raise BackendError(problem, kind="settings", owner="tutti", permanent=True)
    is_started = profile.backend != "llm"
    tell({"sandbox": sandbox.level() if is_started else "none"})
    if is_started and (program := program_of(profile, environment)):
        tell({"program": program})
    with place() as (workspace, home):
        ear = _Ear(tell, Words(secrets.values(), workspace))
        turn = _turn(profile, secrets, environment, workspace, home)
        try:
            outcome = KINDS[profile.backend].run(turn, ear.hear, stop)
        except BackendError as error:
            tell(_used(error))
            raise
    ear.ended(outcome)
    return outcome


def _turn(
    profile: Profile,
    secrets: dict[str, str],
    environment: Path | None,
    workspace: Path,
    home: Path,
) -> Turn:
    limits = {
        name: min(most, float(profile.settings.get(name, most)))
        for name, most in SECONDS.items()
        if profile.backend != "llm" or name == "timeout_seconds"
    }
    return Turn(
        text=PROMPT,
        module="test",
        kind="test",
        role=profile.role,
        number=1,
        model=profile.model,
        workspace=workspace,
        home=home,
        settings={**profile.settings, **limits},
        environment=environment,
        network=bool(profile.settings.get("network", False)),
        secrets=secrets,
    )


def program_of(profile: Profile, environment: Path | None) -> str:
    """Where this host has the program that the profile starts; empty when it has none."""
    readable = [Path(path) for path in profile.settings.get("readable", [])]
    command = profile.settings.get("command")
    if profile.backend == "acp":
        command = acp_settings.read(profile.settings, {}).command
    path = search_path([*readable, *_own_folders()], environment)
    return shutil.which(command[0], path=path) or "" if command else ""


def _own_folders() -> list[Path]:
    """The interpreter of Tutti itself exists in every sandbox."""
    return [Path(sys.base_prefix)]


def _used(error: BackendError) -> dict[str, Any]:
    """What a turn used that failed; nothing where nobody knows."""
    used = error.usage
    return {} if used.input_tokens is None and used.cost is None else _tokens(used)


def _tokens(usage: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(usage).items() if value not in (None, "")}


class _Ear:
    """Turns what a backend says into facts."""

    def __init__(self, tell: Tell, words: Words) -> None:
        self.tell, self.words = tell, words
        self.began = time.monotonic()
        self.opened = self.began
        self.said: list[str] = []

    def hear(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "session":
            self.opened = time.monotonic()
            known = ("agent", "version", "protocol", "models", "modes", "options")
            found = {name: data[name] for name in known if data.get(name)}
            self.tell(found | {"opened_at": self._since(self.began)})
        elif kind == "message":
            if not self.said:
                self.tell({"first_at": self._since(self.opened)})
            if sum(map(len, self.said)) < LONGEST_ANSWER:
                self.said.append(str(data.get("text", "")))

    def ended(self, outcome: Outcome) -> None:
        """The whole answer, and what it took."""
        answer = "".join(self.said) or str(outcome.result.get("word", ""))
        facts = {"seconds": round(outcome.seconds, 2), **_tokens(outcome.usage)}
        if text := clean_text(self.words.text(answer).strip(), LONGEST_ANSWER):
            facts["answer"] = text
            if not self.said:
                facts["first_at"] = self._since(self.began)
        self.tell(facts)

    def _since(self, moment: float) -> float:
        return round(time.monotonic() - moment, 2)
