"""Agents that speak the Agent Client Protocol, and how each is started, signed in and installed.

Data alone: profiles name one by its key, forms offer them, docs/agents.md describes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Known:
    """One ready-made agent.

    `command` is what starts it in ACP mode; `env` are variables of the server that it may have,
    `variables` are set to a value. `keys` maps the variable of an API key to the sign-in method
    that it makes possible without a person ("" where setting it is enough). `trust` says what the
    agent's token count of a turn is: exact, last_step, estimated or unknown.
    """

    title: str
    command: tuple[str, ...]
    install: str
    sign_in: str
    keys: Mapping[str, str] = field(default_factory=dict)
    env: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    trust: str = "estimated"
    note: str = ""


KNOWN: dict[str, Known] = {
    "claude": Known(
        title="Claude Code",
        command=("claude-agent-acp",),
        install="npm install -g @zed-industries/claude-agent-acp",
        sign_in="Set ANTHROPIC_API_KEY, or the token that `claude setup-token` prints as "
        "CLAUDE_CODE_OAUTH_TOKEN.",
        keys={"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": ""},
        env=("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_BASE_URL"),
        variables={"DISABLE_AUTOUPDATER": "1"},
        trust="exact",
    ),
    "codex": Known(
        title="Codex",
        command=("codex-acp",),
        install="npm install -g @zed-industries/codex-acp",
        sign_in="Set OPENAI_API_KEY or CODEX_API_KEY.",
        keys={"CODEX_API_KEY": "codex-api-key", "OPENAI_API_KEY": "openai-api-key"},
        env=("OPENAI_API_KEY", "CODEX_API_KEY", "OPENAI_BASE_URL"),
        trust="last_step",
        note="It reports the tokens of its latest request alone, or none.",
    ),
    "gemini": Known(
        title="Gemini CLI",
        command=("gemini", "--acp"),
        install="npm install -g @google/gemini-cli",
        sign_in="Set GEMINI_API_KEY.",
        keys={"GEMINI_API_KEY": "gemini-api-key"},
        env=("GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
        variables={"GEMINI_CLI_DISABLE_AUTO_UPDATE": "1"},
    ),
    "opencode": Known(
        title="OpenCode",
        command=("opencode", "acp"),
        install="npm install -g opencode-ai@1.18.33",
        sign_in="Set the key of the provider that its configuration names, e.g. "
        "ANTHROPIC_API_KEY or OPENAI_API_KEY.",
        keys={"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "", "OPENROUTER_API_KEY": ""},
        env=("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY",
             "OPENCODE_CONFIG_CONTENT"),
        variables={"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"},
        trust="last_step",
        note="It reports the tokens of a turn's last step alone; its cost is that of all steps.",
    ),
    "goose": Known(
        title="Goose",
        command=("goose", "acp"),
        install="See https://block.github.io/goose for the installer of its command line.",
        sign_in="Set GOOSE_PROVIDER, GOOSE_MODEL and the key of that provider.",
        keys={"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "", "OPENROUTER_API_KEY": ""},
        env=("GOOSE_PROVIDER", "GOOSE_MODEL", "ANTHROPIC_API_KEY", "OPENAI_API_KEY",
             "OPENROUTER_API_KEY"),
        variables={"GOOSE_DISABLE_KEYRING": "1"},
    ),
    "qwen": Known(
        title="Qwen Code",
        command=("qwen", "--acp"),
        install="npm install -g @qwen-code/qwen-code",
        sign_in="Set OPENAI_API_KEY, OPENAI_BASE_URL and OPENAI_MODEL of an account that serves "
        "its models.",
        keys={"OPENAI_API_KEY": "openai"},
        env=("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"),
    ),
    "other": Known(
        title="another ACP agent",
        command=(),
        install="Install it on every host that runs agents, and give its command.",
        sign_in="Set the variables that hold its API key.",
    ),
}  # fmt: skip
