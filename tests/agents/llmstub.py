"""A model API on the loopback that answers from a script, refuses, hangs, and checks the key."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Tokens of one answer, as the API reports them: in, of these cached, and out.
IN, CACHED, OUT = 1_000, 400, 50
Body = dict[str, Any]


class Refusal(Exception):
    """What a request is answered with instead of an answer."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Stub:
    """OpenAI-compatible; `script` gives an object (a tool call), text, raw bytes, or refuses."""

    def __init__(
        self, script: Callable[[Body], dict[str, Any] | str | bytes], key: str = ""
    ) -> None:
        self.script, self.key = script, key
        self.requests: list[Body] = []
        self.keys: list[str] = []
        self.go_on = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def close(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()

    def hang(self, body: Body) -> str:
        """A script that answers only when the test is over."""
        self.go_on.wait(60)
        return "too late"

    def texts(self, number: int = -1) -> str:
        """All that a request said."""
        return json.dumps(self.requests[number]["messages"])

    def _handler(stub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = self.headers.get("Authorization", "").removeprefix("Bearer ")
                stub.requests.append(body)
                stub.keys.append(key)
                try:
                    if not self.path.endswith("/v1/chat/completions"):
                        raise Refusal(404, "Not Found")
                    if stub.key and key != stub.key:
                        raise Refusal(401, f"Incorrect API key provided: {key}", "invalid_api_key")
                    said = stub.script(body)
                    self.reply(200, said if isinstance(said, bytes) else _whole(body, said), {})
                except Refusal as error:
                    told = {"message": error.message, "code": error.code or None}
                    self.reply(error.status, {"error": told}, error.headers)

            def reply(self, status: int, data: Any, headers: dict[str, str]) -> None:
                raw = data if isinstance(data, bytes) else json.dumps(data).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: Any) -> None:
                """Says nothing."""

        return Handler


def _whole(body: Body, said: dict[str, Any] | str) -> dict[str, Any]:
    if isinstance(said, str):
        message: Body = {"role": "assistant", "content": said}
    else:
        tool = body["tools"][0]["function"]["name"]
        call = {"id": "call_1", "type": "function",
                "function": {"name": tool, "arguments": json.dumps(said)}}  # fmt: skip
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    usage = {"prompt_tokens": IN, "completion_tokens": OUT, "total_tokens": IN + OUT,
             "prompt_tokens_details": {"cached_tokens": CACHED}}  # fmt: skip
    end = "stop" if isinstance(said, str) else "tool_calls"
    return {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": end}],
            "usage": usage}  # fmt: skip
