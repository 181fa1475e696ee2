"""The same stub with further APIs: Anthropic's messages, Google's, and OpenAI's responses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.agents.modelstub import Answer, Message, ModelStub, Tokens

Body = dict[str, Any]
Events = list[dict[str, Any]]


@dataclass(frozen=True)
class Api:
    """One vendor's way: the end of its path, and its bodies.

    `seen` gives the messages and the names of the tools of a request, as the first API has them;
    `whole` and `pieces` are an answer at once, and as a stream of events.
    """

    path: str
    seen: Callable[[Body], tuple[list[Message], list[str]]]
    pieces: Callable[[Answer, Tokens, str], Events]
    whole: Callable[[Answer, Tokens, str], dict[str, Any]]


class ModelApis(ModelStub):
    """Answers by the API that a request's path names; a script sees every API's messages alike."""

    @property
    def base(self) -> str:
        return self.url.removesuffix("/v1")

    def _handler(stub) -> type[BaseHTTPRequestHandler]:
        class Handler(super()._handler()):  # type: ignore[misc]
            def do_POST(self) -> None:
                path, _, _ = self.path.partition("?")
                api = next((api for api in APIS if path.endswith(api.path)), None)
                if api is None:
                    super().do_POST()
                    return
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                messages, tools = api.seen(body)
                request = {"messages": messages, "tools": tools, "model": body.get("model", path)}
                stub.requests.append(request)
                if stub.status != 200:
                    error = {"type": "error", "error": {"type": "error", "message": "Refused"}}
                    self.reply("application/json", json.dumps(error).encode(), stub.status)
                    return
                answer, tokens = stub.say(request), stub.tokens(request)
                stub.given.append((request, tokens))
                name = f"call_{len(stub.requests)}"
                if body.get("stream") or path.endswith(":streamGenerateContent"):
                    self.reply("text/event-stream", _stream(api.pieces(answer, tokens, name)))
                else:
                    data = json.dumps(api.whole(answer, tokens, name)).encode()
                    self.reply("application/json", data)

        return Handler


def _stream(events: Events) -> bytes:
    return "".join(
        (f"event: {event['type']}\n" if "type" in event else "") + f"data: {json.dumps(event)}\n\n"
        for event in events
    ).encode()


def _roles(is_tool: list[bool]) -> list[Message]:
    return [{"role": "tool" if one else "user"} for one in is_tool]


# --- Anthropic: Claude Code ------------------------------------------------------------------


def _claude_seen(body: Body) -> tuple[list[Message], list[str]]:
    parts = [message["content"] for message in body["messages"]]
    are = [isinstance(part, list) and any(one.get("type") == "tool_result" for one in part)
           for part in parts]  # fmt: skip
    return _roles(are), [tool["name"] for tool in body.get("tools", [])]


def _claude_whole(answer: Answer, tokens: Tokens, name: str) -> dict[str, Any]:
    read, cached, written = tokens
    block = (
        {"type": "text", "text": answer}
        if isinstance(answer, str)
        else {"type": "tool_use", "id": name, "name": answer[0], "input": answer[1]}
    )
    usage = {"input_tokens": read - cached, "output_tokens": written,
             "cache_read_input_tokens": cached, "cache_creation_input_tokens": 0}  # fmt: skip
    return {"id": name, "type": "message", "role": "assistant", "model": "stub",
            "content": [block], "stop_sequence": None, "usage": usage,
            "stop_reason": "end_turn" if isinstance(answer, str) else "tool_use"}  # fmt: skip


def _claude_pieces(answer: Answer, tokens: Tokens, name: str) -> Events:
    whole = _claude_whole(answer, tokens, name)
    (block,) = whole["content"]
    if isinstance(answer, str):
        empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": answer}
    else:
        empty = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(answer[1])}
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    return [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ending, "usage": whole["usage"]},
        {"type": "message_stop"},
    ]


# --- Google: Gemini CLI ----------------------------------------------------------------------


def _gemini_seen(body: Body) -> tuple[list[Message], list[str]]:
    are = [any("functionResponse" in part for part in one["parts"]) for one in body["contents"]]
    tools = [known["name"] for tool in body.get("tools", [])
             for known in tool.get("functionDeclarations", [])]  # fmt: skip
    return _roles(are), tools


def _gemini_whole(answer: Answer, tokens: Tokens, name: str) -> dict[str, Any]:
    read, cached, written = tokens
    part = (
        {"text": answer}
        if isinstance(answer, str)
        else {"functionCall": {"name": answer[0], "args": answer[1]}}
    )
    content = {"role": "model", "parts": [part]}
    return {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": read, "cachedContentTokenCount": cached,
                          "candidatesTokenCount": written, "totalTokenCount": read + written},
        "modelVersion": "stub",
    }  # fmt: skip


# --- OpenAI's responses: Codex ---------------------------------------------------------------


def _codex_seen(body: Body) -> tuple[list[Message], list[str]]:
    are = [one.get("type") == "function_call_output" for one in body["input"]]
    return _roles(are), [tool.get("name", "") for tool in body.get("tools", [])]


def _codex_pieces(answer: Answer, tokens: Tokens, name: str) -> Events:
    read, cached, written = tokens
    item: dict[str, Any] = {"id": name, "status": "completed"}
    if isinstance(answer, str):
        text = {"type": "output_text", "text": answer, "annotations": []}
        item |= {"type": "message", "role": "assistant", "content": [text]}
    else:
        item |= {"type": "function_call", "call_id": name, "name": answer[0],
                 "arguments": json.dumps(answer[1])}  # fmt: skip
    usage = {"input_tokens": read, "input_tokens_details": {"cached_tokens": cached},
             "output_tokens": written, "output_tokens_details": {"reasoning_tokens": 0},
             "total_tokens": read + written}  # fmt: skip
    whole = {"id": name, "object": "response", "output": [item], "usage": usage}
    return [
        {"type": "response.created", "response": {"id": name, "object": "response", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {**whole, "status": "completed"}},
    ]


def _codex_whole(answer: Answer, tokens: Tokens, name: str) -> dict[str, Any]:
    found: dict[str, Any] = _codex_pieces(answer, tokens, name)[-1]["response"]
    return found


APIS = (
    Api("/messages", _claude_seen, _claude_pieces, _claude_whole),
    Api(":streamGenerateContent", _gemini_seen, lambda *one: [_gemini_whole(*one)], _gemini_whole),
    Api(":generateContent", _gemini_seen, lambda *one: [_gemini_whole(*one)], _gemini_whole),
    Api("/responses", _codex_seen, _codex_pieces, _codex_whole),
)
