"""Coding agents of other people's making, each started as its users would, against the stub."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.backends.acp import AcpBackend
from agents.backends.base import Backend, Kept, Outcome, Turn
from agents.backends.command import CommandBackend
from tests.agents import npm
from tests.agents.modelapis import ModelApis
from tests.agents.modelstub import Answer, Message

DONE = 'It is written.\n{"tutti": {"summary": "hello is there"}}'
MODEL = "stub-1"


@dataclass(frozen=True)
class Real:
    """An agent: what installs it, the variable of its key, and what leads it to the stub.

    `argv` is its command line for the command backend, whose output is in `format`; `folder` holds
    its program, below the package. `written` is what its model calls to write a file.
    """

    package: str
    key: str
    variables: Callable[[ModelApis], dict[str, str]]
    argv: Callable[[ModelApis], list[str]]
    format: str
    written: str = "write_file"
    folder: str = "node_modules"


def _codex(stub: ModelApis) -> dict[str, Any]:
    return {"name": "Stub", "base_url": stub.url, "env_key": "OPENAI_API_KEY",
            "wire_api": "responses"}  # fmt: skip


def _codex_argv(stub: ModelApis) -> list[str]:
    given = ",".join(f"{name}={json.dumps(value)}" for name, value in _codex(stub).items())
    return ["codex", "exec", "--json", "--skip-git-repo-check", "--model", "{model}",
            "--dangerously-bypass-approvals-and-sandbox", "-c", "model_provider=stub",
            "-c", f"model_providers.stub={{{given}}}", "-"]  # fmt: skip


REAL = {
    "claude": Real(
        npm.CLAUDE,
        "ANTHROPIC_API_KEY",
        lambda stub: {"ANTHROPIC_BASE_URL": stub.base},
        lambda _: ["claude", "-p", "--output-format", "stream-json", "--verbose",
                   "--permission-mode", "acceptEdits", "--model", "{model}"],
        "claude-stream-json",
        "Write",
        "node_modules/@anthropic-ai/claude-agent-sdk-linux-*[!l]",
    ),
    "codex": Real(
        npm.CODEX,
        "OPENAI_API_KEY",
        lambda stub: {"CODEX_CONFIG": json.dumps({"model_provider": "stub", "model": MODEL,
                      "model_providers": {"stub": _codex(stub)}})},
        _codex_argv,
        "codex-json",
        "exec_command",
    ),
    "gemini": Real(
        npm.GEMINI,
        "GEMINI_API_KEY",
        lambda stub: {"GOOGLE_GEMINI_BASE_URL": stub.base, "GEMINI_CLI_TRUST_WORKSPACE": "true"},
        lambda _: ["gemini", "--output-format", "stream-json", "--approval-mode", "yolo",
                   "--model", "{model}"],
        "gemini-stream-json",
    ),
    "qwen": Real(
        npm.QWEN,
        "OPENAI_API_KEY",
        lambda stub: {"OPENAI_BASE_URL": stub.url},
        lambda _: ["qwen", "--auth-type", "openai", "--model", "{model}",
                   "--output-format", "stream-json", "--approval-mode", "yolo"],
        "claude-stream-json",
    ),
}  # fmt: skip


class Crew:
    """One run's turns of a real agent in a workspace of its own."""

    def __init__(self, agent: str, folder: Path) -> None:
        self.agent, self.real = agent, REAL[agent]
        self.stub = ModelApis(self.script)
        self.workspace, self.home = folder / "ws", folder / "agent"
        self.workspace.mkdir()
        self.home.mkdir()
        self.kept = Kept()
        self.events: list[tuple[str, dict[str, Any]]] = []

    def close(self) -> None:
        self.kept.close()
        self.stub.close()

    @property
    def hello(self) -> Path:
        return self.workspace / "hello.txt"

    def script(self, messages: list[Message]) -> Answer:
        """First write the file, then say what was done."""
        if messages[-1]["role"] == "tool":
            return DONE
        if self.real.written == "exec_command":
            return "exec_command", {"cmd": "echo hello > hello.txt"}
        return self.real.written, {"file_path": str(self.hello), "content": "hello\n"}

    def turn(self, *, signed_in: bool = True, **settings: Any) -> Outcome:
        """One prompt over the protocol."""
        values = {"agent": self.agent, "variables": self.real.variables(self.stub), **settings}
        # Codex names its models itself.
        model = "" if self.agent in ("claude", "codex") else MODEL
        return self._turn(AcpBackend(), model, values, signed_in=signed_in)

    def command(self) -> Outcome:
        """One prompt to its command line."""
        values = {"command": self.real.argv(self.stub), "format": self.real.format,
                  "variables": self.real.variables(self.stub), "timeout_seconds": 120}  # fmt: skip
        return self._turn(CommandBackend(), MODEL, values, signed_in=True)

    def _turn(
        self, backend: Backend, model: str, values: dict[str, Any], *, signed_in: bool
    ) -> Outcome:
        place = npm.installed(self.real.package)
        folders = [npm.node(), place, *place.glob(self.real.folder)]
        values["readable"] = [str(folder) for folder in folders]
        key = {self.real.key: "sk-ant-api03-no-key-at-all"} if signed_in else {}
        turn = Turn("Write hello.txt.", "m", "build", "executor", 1, model, self.workspace,
                    self.home, values, network=True, owns=("hello.txt",), kept=self.kept,
                    secrets=key)  # fmt: skip
        return backend.run(turn, lambda *event: self.events.append(event), lambda: None)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [data for name, data in self.events if name == kind]

    def given(self, *, with_titles: bool) -> tuple[int, int]:
        """Tokens in and out that the stub gave to the agent so far."""
        rows = [tokens for body, tokens in self.stub.given if body.get("tools") or with_titles]
        return sum(read for read, _, _ in rows), sum(written for _, _, written in rows)
