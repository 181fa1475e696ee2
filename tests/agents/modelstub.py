"""A model API on the loopback: OpenAI-compatible, answering as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Message = dict[str, Any]
#: Text, or a tool's name and arguments.
Answer = str | tuple[str, dict[str, Any]]
#: From the messages of a request to the answer.
Script = Callable[[list[Message]], Answer]

PROMPT_TOKENS, ANSWER_TOKENS = 1_000, 50
#: Tokens of one answer: in, of these cached, and out.
Tokens = tuple[int, int, int]


class ModelStub:
    """Serves until closed. `status` other than 200 is what every request is answered with."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.status = 200
        self.requests: list[dict[str, Any]] = []
        #: What each answer said that it cost, beside its request.
        self.given: list[tuple[dict[str, Any], Tokens]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def tokens(self, body: dict[str, Any]) -> Tokens:
        """What the answer to a request costs."""
        return PROMPT_TOKENS, 0, ANSWER_TOKENS

    def say(self, body: dict[str, Any]) -> Answer:
        """What a request is answered with."""
        # A request without tools is the agent's own, for a title.
        return self.script(body["messages"]) if body.get("tools") else "A title"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """One answer, as the choice's message."""
        found = self.say(body)
        if isinstance(found, str):
            return {"role": "assistant", "content": found}
        name, arguments = found
        call = {"index": 0, "id": f"call_{len(self.requests)}", "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)}}  # fmt: skip
        return {"role": "assistant", "content": None, "tool_calls": [call]}

    def _handler(stub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.requests.append(body)
                if stub.status != 200:
                    error = {"error": {"message": "Too Many Requests", "code": stub.status}}
                    self.reply("application/json", json.dumps(error).encode(), stub.status)
                    return
                message, tokens = stub.answer(body), stub.tokens(body)
                stub.given.append((body, tokens))
                if body.get("stream"):
                    self.reply("text/event-stream", _stream(message, tokens))
                else:
                    self.reply("application/json", json.dumps(_whole(message, tokens)).encode())

            def reply(self, kind: str, data: bytes, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                """Says nothing."""

        return Handler


def _end(message: Message) -> str:
    return "tool_calls" if message.get("tool_calls") else "stop"


def _usage(tokens: Tokens) -> dict[str, Any]:
    read, cached, written = tokens
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _whole(message: Message, tokens: Tokens) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": _end(message)}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "stub",
            "choices": [choice], "usage": _usage(tokens)}  # fmt: skip


def _stream(message: Message, tokens: Tokens) -> bytes:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "stub"}
    chunks = [
        {**head, "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": _end(message)}]},
        {**head, "choices": [], "usage": _usage(tokens)},
    ]
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()
