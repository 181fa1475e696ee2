"""Speak MCP on stdin and stdout for an agent that only starts programs, and HTTP to Tutti.

    python -I -S mcp_bridge.py

Stands alone: it runs inside the sandbox with the standard library only. TUTTI_MCP_URL and
TUTTI_MCP_TOKEN say where to and as whom.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

SECONDS = 120.0
LONGEST_ANSWER = 50_000_000


def main() -> None:
    version = ""
    for line in sys.stdin:
        if not line.strip():
            continue
        message = json.loads(line)
        answer = forward(message, version)
        if answer is None:
            continue
        result = answer.get("result")
        if message.get("method") == "initialize" and isinstance(result, dict):
            version = str(result.get("protocolVersion", ""))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def forward(message: dict[str, Any], version: str) -> dict[str, Any] | None:
    """The server's answer to one message; None for what needs none."""
    headers = {
        "Authorization": f"Bearer {os.environ['TUTTI_MCP_TOKEN']}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    if version:
        headers["MCP-Protocol-Version"] = version
    try:
        status, text = post(os.environ["TUTTI_MCP_URL"], headers, json.dumps(message).encode())
    except (OSError, ValueError) as error:
        return _failed(message, f"Tutti can't be reached: {error}")
    is_told = status == 400 and text.startswith(b'{"jsonrpc"')
    if status >= 300 and not is_told:
        return _failed(message, f"Tutti answered {status}: the run may have ended.")
    if "id" not in message or not text.strip():
        return None
    answer: dict[str, Any] = json.loads(text)
    return answer


def post(url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """Status and body of the answer. Raises OSError, or ValueError for what is no answer.

    The standard library's own client would double the memory of this process, of which every run
    may have one; version 1.0 of HTTP has no chunks and ends with the connection.
    """
    scheme, _, rest = url.partition("://")
    place, _, path = rest.partition("/")
    # A port follows the last colon, but for those of an address in brackets.
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        host, port = place, ""
    sent = {"Host": place, "Content-Length": str(len(body)), "Connection": "close", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    number = int(port) if port else 443 if scheme == "https" else 80
    with socket.create_connection((host.strip("[]"), number), SECONDS) as plain:
        link = _secured(plain, host) if scheme == "https" else plain
        link.sendall(f"POST /{path} HTTP/1.0\r\n{head}\r\n".encode() + body)
        received = bytearray()
        while chunk := link.recv(1 << 16):
            received += chunk
            if len(received) > LONGEST_ANSWER:
                raise ValueError("its answer does not end")
    first, _, answer = bytes(received).partition(b"\r\n\r\n")
    return int(first.split()[1]), answer


def _secured(plain: socket.socket, host: str) -> socket.socket:
    import ssl

    return ssl.create_default_context().wrap_socket(plain, server_hostname=host.strip("[]"))


def _failed(message: dict[str, Any], reason: str) -> dict[str, Any] | None:
    if "id" not in message:
        return None
    error = {"code": -32000, "message": reason}
    return {"jsonrpc": "2.0", "id": message["id"], "error": error}


if __name__ == "__main__":
    main()
