"""Claude Code, Codex, Gemini CLI and Qwen Code, as npm has them, over the Agent Client Protocol."""

from __future__ import annotations

import pytest

from agents import sandbox
from agents.backends.base import BackendError
from tests.agents.modelstub import ANSWER_TOKENS, PROMPT_TOKENS
from tests.agents.realagents import Crew

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def crew(request, tutti_home, tmp_path):
    found = Crew(request.param, tmp_path)
    yield found
    found.close()


@pytest.mark.parametrize(
    ("crew", "title", "quality", "asks", "refused"),
    [
        ("claude", "Claude Agent", "exact", True, True),
        ("codex", "Codex", "last_step", False, True),
        ("gemini", "Gemini CLI", "exact", True, False),
        ("qwen", "Qwen Code", "last_step", True, False),
    ],
    indirect=["crew"],
)
def test_it_works_says_what_it_used_and_goes_on_in_its_session(crew, title, quality, asks, refused):
    first = crew.turn()
    assert first.sandbox == sandbox.level()
    assert crew.hello.read_text() == "hello\n"
    assert first.result == {"summary": "hello is there"}
    assert crew.of("session")[0]["agent"] == title
    assert [data["answer"] for data in crew.of("permission")] == ["allow"] * asks
    assert first.usage.quality == quality
    used = first.usage.input_tokens, first.usage.output_tokens
    if quality == "exact":
        assert used == crew.given(with_titles=True)
    else:
        # It leaves out what it asks beside its work.
        assert used == (2 * PROMPT_TOKENS, 2 * ANSWER_TOKENS)

    crew.hello.unlink()
    again = crew.turn()
    assert again.session == first.session
    assert crew.hello.exists()
    # Each turn is counted by itself.
    assert again.usage.input_tokens == first.usage.input_tokens

    if refused:
        crew.stub.status = 429
        with pytest.raises(BackendError, match="too fast") as caught:
            crew.turn()
        assert (caught.value.kind, caught.value.owner) == ("rate_limited", "provider")


@pytest.mark.parametrize("crew", ["claude", "codex"], indirect=True)
def test_without_a_key_it_says_what_to_do(crew):
    with pytest.raises(BackendError, match=f"needs sign-in.*Enter .*{crew.real.key}") as caught:
        crew.turn(signed_in=False, variables={})
    assert (caught.value.kind, caught.value.owner) == ("signed_out", "provider")
