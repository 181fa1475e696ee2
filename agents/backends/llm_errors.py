"""What a model API refused, as the error of the turn, and whose it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from pydantic import ValidationError
from pydantic_ai import exceptions as ai

from agents.backends.base import BackendError
from agents.backends.command import refused
from agents.backends.events import Words
from agents.backends.llm_models import ModelError
from agents.backends.troubles import PROVIDER_KINDS, Trouble, trouble_of
from projects.text import clean_text

#: Answers that a model gets in all before the turn ends.
MOST_ANSWERS = 5

_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (ai.ModelAuthenticationError, "signed_out"),
    (ai.ModelQuotaExceededError, "exhausted"),
    (ai.ModelRateLimitError, "rate_limited"),
    (ai.ModelTimeoutError, "overloaded"),
    (ai.RunTimedOut, "overloaded"),
    (ai.ModelUnavailableError, "overloaded"),
    (ai.ModelServerError, "overloaded"),
)


def error_of(error: BaseException, model: str, where: str, words: Words) -> BackendError:
    """The turn's error; `where` is the URL or provider that was asked."""
    if isinstance(error, ModelError):
        return _settings(str(error))
    said = words.text(clean_text(_said(error), 500)).strip().rstrip(".")
    if said.startswith(("Failed to decode response", "Invalid response from")):
        return _settings(
            f"{where} does not answer as a model API does ({said.splitlines()[0]}). Look at the "
            "URL in the role's profile; of an OpenAI-compatible server it mostly ends in /v1."
        )
    for made, kind in _KINDS:
        if isinstance(error, made):
            return refused(_trouble(error, kind, said), words)
    if isinstance(error, ai.ModelNotFoundError):
        return _settings(
            f"{where} knows no model {model!r} ({said}). Correct the model's name or the URL in "
            "the role's profile."
        )
    if isinstance(error, ai.ModelConnectionError) and "certificate" in said.lower():
        return _settings(
            f"{where} could not be asked, for its certificate is not trusted ({said}). Let that "
            "server show one of a known authority, or start Tutti with SSL_CERT_FILE naming the "
            "file of your own authority; a server on this host itself needs no https."
        )
    if isinstance(error, ai.ModelConnectionError):
        return _settings(
            f"{where} could not be reached ({said}). Look at the URL in the role's profile and "
            "whether the server runs."
        )
    if isinstance(error, ai.ModelContextWindowExceededError):
        return _settings(
            f"What {model} was sent is longer than it reads ({said}). Choose a model with a longer"
            " context for this role, or make the module smaller."
        )
    if isinstance(error, ai.UnexpectedModelBehavior):
        return BackendError(_unfit(error, model, said), kind="answer")
    if isinstance(error, ai.ModelAPIError):
        if (trouble := trouble_of(said, datetime.now(UTC))).is_provider:
            return refused(trouble, words)
        return _settings(f"{where} refused the request: {said}. Look at the role's profile.")
    if isinstance(error, ai.UserError | ValueError | ImportError):
        return _settings(f"The profile's model can't be asked: {said}.")
    return BackendError(f"The model could not be asked: {said}.", kind="internal", owner="tutti")


def _settings(sentence: str) -> BackendError:
    return BackendError(sentence, kind="settings", owner="tutti", permanent=True)


def _trouble(error: BaseException, kind: str, said: str) -> Trouble:
    body = getattr(error, "body", None)
    text = f"{said} {body if isinstance(body, str) else json.dumps(body, default=str)}"
    found = trouble_of(text[:5_000], datetime.now(UTC), kind="" if kind == "rate_limited" else kind)
    if found.kind not in PROVIDER_KINDS:
        found = Trouble(kind, said)
    after = getattr(error, "retry_after", None)
    return Trouble(
        found.kind,
        f"{said}.",
        after if after is not None else found.retry_after,
        found.resets_at,
    )


def _unfit(error: ai.UnexpectedModelBehavior, model: str, said: str) -> str:
    cause = error.__cause__
    while cause is not None and not isinstance(cause, ValidationError) and cause.__cause__:
        cause = cause.__cause__
    why = said
    if isinstance(cause, ValidationError):
        first = cause.errors(include_url=False)[0]
        why = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    elif isinstance(cause, Exception):
        why = clean_text(str(cause), 500).strip() or said
    if "exceeded maximum" in said.lower():
        said = f"Its last of {MOST_ANSWERS} answers was wrong in: {why}"
    return (
        f"The answer of {model} fits nothing that this role can use. {said}. Choose another model "
        "for this role, set output to prompted or native in its profile, or raise max_tokens."
    )


def _said(error: BaseException) -> str:
    if isinstance(error, ai.ModelAPIError) and isinstance(error.body, dict):
        inner = error.body.get("error", error.body)
        message = inner.get("message") if isinstance(inner, dict) else None
        if isinstance(message, str) and message.strip():
            status = getattr(error, "status_code", None)
            return f"{status}: {message}" if status else message
    cause = error.__cause__ or error.__context__
    text = str(error) or type(error).__name__
    if isinstance(error, ai.ModelConnectionError) and cause is not None:
        deepest = cause
        while deepest.__cause__ or deepest.__context__:
            deepest = deepest.__cause__ or deepest.__context__  # type: ignore[assignment]
        text = f"{text}: {deepest}"
    return text
