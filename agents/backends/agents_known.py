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
    `variables` are set to a value, and the profile's model goes into `model_variable` where the
    protocol offers none. `mode` is the one in which it asks before it acts, so that the profile's
    permissions hold, or in which it can work inside the sandbox; one that an agent's version does
    not have is left out. `keys` maps the variable of an API key to the sign-in method that it makes
    possible without a person ("" where setting it is enough). `trust` says what the agent's token
    count of a turn is: exact, estimated, last_step (a part of the whole) or unknown.
    """

    title: str
    command: tuple[str, ...]
    install: str
    sign_in: str
    keys: Mapping[str, str] = field(default_factory=dict)
    env: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    model_variable: str = ""
    mode: str = ""
    trust: str = "estimated"
    note: str = ""


KNOWN: dict[str, Known] = {
    "claude": Known(
        title="Claude Code",
        command=("claude-agent-acp",),
        install="npm install -g @agentclientprotocol/claude-agent-acp@0.101.0",
        sign_in="Enter ANTHROPIC_API_KEY, or as CLAUDE_CODE_OAUTH_TOKEN what `claude setup-token` "
        "prints, as the key of the profile's provider.",
        keys={"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": ""},
        env=("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_BASE_URL"),
        # It would retry refused requests in silence for minutes; Tutti waits by itself.
        variables={"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "CLAUDE_CODE_MAX_RETRIES": "2",
                   "CLAUDE_CODE_ENABLE_PROMPT_SUGGESTION": "false", "DISABLE_AUTOUPDATER": "1"},
        mode="default",
        trust="exact",
    ),
    "codex": Known(
        title="Codex",
        command=("codex-acp",),
        install="npm install -g @agentclientprotocol/codex-acp@2.6.0",
        sign_in="Enter OPENAI_API_KEY or CODEX_API_KEY as the key of the profile's provider.",
        keys={"CODEX_API_KEY": "api-key", "OPENAI_API_KEY": "api-key"},
        env=("OPENAI_API_KEY", "CODEX_API_KEY", "CODEX_CONFIG"),
        variables={"NO_BROWSER": "1"},
        # Its own sandbox cannot start inside of Tutti's, and then every command fails.
        mode="agent-full-access",
        trust="last_step",
        note="Its tokens are those of all requests but the one for a title.",
    ),
    "gemini": Known(
        title="Gemini CLI",
        command=("gemini", "--acp"),
        install="npm install -g @google/gemini-cli@0.61.0",
        sign_in="Enter GEMINI_API_KEY as the key of the profile's provider.",
        keys={"GEMINI_API_KEY": "gemini-api-key"},
        env=("GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
        model_variable="GEMINI_MODEL",
        trust="exact",
        note="Without a model in the profile it asks another model for each prompt which to use.",
    ),
    "opencode": Known(
        title="OpenCode",
        command=("opencode", "acp"),
        install="npm install -g opencode-ai@1.18.33",
        sign_in="Enter the key that its configuration needs, e.g. ANTHROPIC_API_KEY or "
        "OPENAI_API_KEY, as the key of the profile's provider.",
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
        sign_in="Set GOOSE_PROVIDER and GOOSE_MODEL in the profile's variables, and enter the key "
        "of that service as the key of the profile's provider.",
        keys={"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "", "OPENROUTER_API_KEY": ""},
        env=("GOOSE_PROVIDER", "GOOSE_MODEL", "ANTHROPIC_API_KEY", "OPENAI_API_KEY",
             "OPENROUTER_API_KEY"),
        variables={"GOOSE_DISABLE_KEYRING": "1"},
    ),
    "qwen": Known(
        title="Qwen Code",
        command=("qwen", "--acp"),
        install="npm install -g @qwen-code/qwen-code@0.24.4",
        sign_in="Enter OPENAI_API_KEY of an account that serves its models as the key of the "
        "profile's provider, and set OPENAI_BASE_URL in the profile's variables.",
        keys={"OPENAI_API_KEY": "openai"},
        env=("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"),
        model_variable="OPENAI_MODEL",
        mode="default",
        trust="last_step",
        note="Its tokens are those of all requests but the ones in which it looks for what to "
        "remember.",
    ),
    "other": Known(
        title="another ACP agent",
        command=(),
        install="Install it on every host that runs agents, and give its command.",
        sign_in="Enter its API key as the key of the profile's provider.",
    ),
}  # fmt: skip
