"""The settings of a profile whose agent speaks the Agent Client Protocol."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.backends.agents_known import KNOWN
from agents.backends.command import given_problem

ALLOW, DENY, ASK = "allow", "deny", "ask"
POLICIES = (ALLOW, ASK, DENY)
QUALITIES = ("exact", "last_step", "estimated", "unknown")
_SECONDS = {
    "timeout_seconds": 3600.0,
    "idle_seconds": 300.0,
    "start_seconds": 120.0,
    "ask_seconds": 300.0,
    "cancel_seconds": 10.0,
}


@dataclass(frozen=True)
class Settings:
    """A profile's settings, whole: what it says itself, over what is known of its agent."""

    title: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    keys: Mapping[str, str]
    readable: tuple[Path, ...]
    install: str
    sign_in: str
    trust: str
    #: The variable that chooses the model, where the protocol does not.
    model_variable: str = ""
    permissions: str = "allow"
    mode: str = ""
    #: The mode without one in the profile, where the agent has it.
    usual_mode: str = ""
    options: Mapping[str, str | bool] = field(default_factory=dict)
    auth_method: str = ""
    memory_mb: int | None = None
    output_mb: int = 200
    timeout_seconds: float = 3600.0
    idle_seconds: float = 300.0
    start_seconds: float = 120.0
    ask_seconds: float = 300.0
    cancel_seconds: float = 10.0

    @property
    def shown(self) -> str:
        """The command as people read it."""
        return " ".join(self.command)


def problem(settings: Mapping[str, Any]) -> str | None:
    """What is wrong with a profile's settings, as a sentence; None when nothing is."""
    agent = settings.get("agent", "other")
    if agent not in KNOWN:
        return f"There is no agent {agent}; choose one of {', '.join(sorted(KNOWN))}."
    if not settings.get("command") and not KNOWN[agent].command:
        return 'Give the command as a list of words, e.g. {"command": ["my-agent", "acp"]}.'
    if not _is_words(settings.get("command", [])):
        return "command is a list of texts."
    if found := given_problem(dict(settings)):
        return found
    options = settings.get("options", {})
    if not isinstance(options, dict) or not all(
        isinstance(v, str | bool) for v in options.values()
    ):
        return 'options is an object of the agent\'s options, e.g. {"effort": "high"}.'
    if settings.get("permissions", "allow") not in POLICIES:
        return f"permissions is one of {', '.join(POLICIES)}."
    for name in _SECONDS:
        value = settings.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            return f"{name} is a number of seconds above 0."
    if settings.get("trust", "exact") not in QUALITIES:
        return f"trust is one of {', '.join(QUALITIES)}."
    for name in ("memory_mb", "output_mb"):
        value = settings.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            return f"{name} is a whole number of megabytes above 0."
    return None


def read(settings: Mapping[str, Any], secrets: Mapping[str, str]) -> Settings:
    """The settings in force, with the keys of the account; they must have no problem."""
    known = KNOWN[settings.get("agent", "other")]
    command = tuple(settings.get("command") or known.command)
    names = [*known.env, *settings.get("env", [])]
    passed = {name: os.environ[name] for name in names if name in os.environ}
    title = known.title if known.command else Path(command[0]).name
    given = {name: settings[name] for name in (*_SECONDS, "memory_mb", "output_mb", "permissions",
             "mode", "options", "auth_method") if name in settings}  # fmt: skip
    return Settings(
        title=title,
        command=command,
        environment={**known.variables, **passed, **settings.get("variables", {}), **secrets},
        keys=known.keys,
        readable=tuple(Path(path) for path in settings.get("readable", [])),
        install=known.install,
        sign_in=known.sign_in,
        trust=str(settings.get("trust", known.trust)),
        model_variable=known.model_variable,
        usual_mode=known.mode,
        **given,
    )


def _is_words(value: Any) -> bool:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return is_list and all(isinstance(word, str) and "\0" not in word for word in value)
