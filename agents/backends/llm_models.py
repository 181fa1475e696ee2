"""A profile's model string as a model of pydantic-ai, with the account's key."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
from genai_prices.data_snapshot import get_snapshot
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model
from pydantic_ai.providers import Provider, infer_provider_class

#: Bytes of one answer of a server of one's own; what is longer ends the turn.
LARGEST_ANSWER = 20_000_000
#: Prefixes that say "OpenAI-compatible" and are no part of a model's name at a URL of one's own.
COMPATIBLE = ("openai", "openai-chat", "openai-compatible", "ollama", "vllm", "litellm")


class ModelError(ValueError):
    """A model string, URL or key that no request can be made with; says what to change."""


class TooLong(httpx2.ReadError):
    """An answer that does not end."""


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self.stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self.stream:
            size += len(chunk)
            if size > LARGEST_ANSWER:
                raise TooLong(f"the answer is longer than {LARGEST_ANSWER // 1_000_000} MB")
            yield chunk

    async def aclose(self) -> None:
        await self.stream.aclose()


class _Transport(httpx2.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        # Packed, a small answer could become one that no memory holds.
        request.headers["accept-encoding"] = "identity"
        response = await super().handle_async_request(request)
        if response.headers.pop("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.ReadError("the answer is packed, though that was not asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream)
        return response


def client() -> httpx2.AsyncClient:
    """A client for servers of one's own: it follows nothing elsewhere, and answers are bounded."""
    return httpx2.AsyncClient(transport=_Transport(), follow_redirects=False, timeout=None)


def build(
    name: str,
    settings: Mapping[str, Any],
    secrets: Mapping[str, str],
    http: httpx2.AsyncClient | None = None,
) -> Model:
    """The model that a profile names. Raises ModelError.

    With `base_url` it is any OpenAI-compatible server; else `provider:model`. The key is the
    account's, or that of a variable of the server that the profile names in `env`.
    """
    key = _key(settings, secrets)
    if url := settings.get("base_url"):
        return _compatible(name, str(url), key, http)
    kind, _, model = name.partition(":")
    if not model or kind == "test":
        raise ModelError(
            f"The model {name!r} is not known. Write provider:model, e.g. "
            "anthropic:claude-sonnet-5-5, or give base_url in the profile's settings."
        )
    if kind in COMPATIBLE[2:]:
        raise ModelError(
            f"Say where {kind} serves the model: give base_url in the profile's settings, e.g. "
            '{"base_url": "http://127.0.0.1:11434/v1"}.'
        )
    try:
        return infer_model(name, lambda provider: _provider(provider, key))
    except ImportError as error:
        raise ModelError(f"{kind} needs a library that is not installed here: {error}.") from error
    except (UserError, ValueError) as error:
        raise ModelError(f"The model {name!r} can't be used: {error}") from error


def _compatible(name: str, url: str, key: str | None, http: httpx2.AsyncClient | None) -> Model:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    kind, _, model = name.partition(":")
    if model and kind in COMPATIBLE:
        name = model
    if not name:
        raise ModelError("Name the model of the profile; the server at base_url lists them.")
    # Without a key of the profile's own, the library would send the server's to any URL.
    provider = OpenAICompatibleProvider(
        "openai-compatible", base_url=url, api_key=key or "none", http_client=http
    )
    return OpenAIChatModel(name, provider=provider)


def _provider(kind: str, key: str | None) -> Provider[Any]:
    made: Any = infer_provider_class(kind)
    if "api_key" not in inspect.signature(made.__init__).parameters:
        return made()  # type: ignore[no-any-return]
    if key is None:
        raise ModelError(
            f"There is no key for {kind}. Enter it at the profile's provider on the site's page, or"
            ' name the server\'s variable that holds it, e.g. {"env": ["OPENAI_API_KEY"]}.'
        )
    return made(api_key=key)  # type: ignore[no-any-return]


def _key(settings: Mapping[str, Any], secrets: Mapping[str, str]) -> str | None:
    if secrets:
        return next(iter(secrets.values()))
    names = settings.get("env", [])
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def is_priced(settings: Mapping[str, Any]) -> bool:
    """Whether the library's price is that of the place that was asked.

    It knows models by their names, which a server of one's own may give to anything.
    """
    url = settings.get("base_url")
    if not url:
        return True
    try:
        get_snapshot().find_provider(None, None, str(url))
    except LookupError:
        return False
    return True
