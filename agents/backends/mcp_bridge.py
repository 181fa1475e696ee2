"""Speak MCP on stdin and stdout for an agent that only starts programs, and HTTP to Tutti.

    python -I -S mcp_bridge.py

Stands alone: it runs inside the sandbox with the standard library only. TUTTI_MCP_URL and
TUTTI_MCP_TOKEN say where to and as whom.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

SECONDS = 120.0


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
    url, body = os.environ["TUTTI_MCP_URL"], json.dumps(message).encode()
    request = urllib.request.Request(url, body, headers, method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=SECONDS) as response:
            text = response.read()
    except urllib.error.HTTPError as error:
        text = error.read() if error.code == 400 else b""
        if not text.startswith(b'{"jsonrpc"'):
            return _failed(message, f"Tutti answered {error.code}: the run may have ended.")
    except OSError as error:
        return _failed(message, f"Tutti can't be reached: {error}")
    if "id" not in message or not text.strip():
        return None
    answer: dict[str, Any] = json.loads(text)
    return answer


def _failed(message: dict[str, Any], reason: str) -> dict[str, Any] | None:
    if "id" not in message:
        return None
    error = {"code": -32000, "message": reason}
    return {"jsonrpc": "2.0", "id": message["id"], "error": error}


if __name__ == "__main__":
    main()
