"""A small agent that speaks the Agent Client Protocol, and misbehaves when it is told to.

    python -I -S acp_agent.py [WORD …]

Stands alone: it runs inside the sandbox with the standard library only. Words at its start and the
words of a prompt say what it does; see ACTS. Each prompt ends with an answer of the role's form.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

STATE = Path(os.environ.get("HOME", "/tmp")) / "sessions.json"
WORDS = sys.argv[1:]
session_id = ""
servers: list[Any] = []
cancelled = False
cost = 0.0
number = 0


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def update(kind, /, **values):
    send(
        {
            "method": "session/update",
            "params": {"sessionId": session_id, "update": {"sessionUpdate": kind, **values}},
        }
    )


def say(text, kind="agent_message_chunk"):
    update(kind, content={"type": "text", "text": text})


def receive():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def call(method, params):
    """Ask the client, and go on answering meanwhile only to its answer and to a cancel."""
    global cancelled, number
    number += 1
    mine = f"agent-{number}"
    send({"id": mine, "method": method, "params": params})
    while True:
        message = receive()
        if message.get("id") == mine:
            return message.get("result", message.get("error"))
        if message.get("method") == "session/cancel":
            cancelled = True


def sleep_for_ever():
    while True:
        time.sleep(60)


def wait_for_cancel():
    while receive().get("method") != "session/cancel":
        pass


def ask(kind, path):
    options = [
        {"optionId": "n2", "name": "No, never", "kind": "reject_always"},
        {"optionId": "y1", "name": "Yes", "kind": "allow_once"},
        {"optionId": "n1", "name": "No", "kind": "reject_once"},
    ]
    tool = {
        "toolCallId": "t1",
        "title": f"{kind} {path}",
        "kind": kind,
        "locations": [{"path": path}],
    }
    found = call(
        "session/request_permission",
        {"sessionId": session_id, "toolCall": tool, "options": options},
    )
    say(f"[{found['outcome'].get('optionId', found['outcome']['outcome'])}]")


def hang():
    sleep_for_ever()


def hang_once():
    mark = Path(os.environ["HOME"], "hung")
    if not mark.exists():
        mark.touch()
        hang()


def wait():
    global cancelled
    wait_for_cancel()
    cancelled = True


def late():
    global cancelled
    wait_for_cancel()
    say("still working")
    cancelled = True


def flood():
    while True:
        say("x" * 3000)
        update("brand_new_kind", data="y" * 3000)


def trickle():
    for place in range(2000):
        say(f"{place} ")


def stderr():
    for _ in range(300):
        os.write(2, b"e" * 10_000 + b"\n")


def strays():
    for text in (b"this is no JSON\n", b"[1, 2]\n", b'{"id": [], "result": 1}\n', b"\xff\xfe\n"):
        os.write(1, text)


def babble():
    while True:
        os.write(1, b"no protocol here\n" * 100)


def giant():
    say("g" * 3_000_000)


def endless():
    while True:
        os.write(1, b"z" * 65536)


def die():
    os.write(2, b"something went very wrong\n")
    os._exit(7)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def daemon():
    subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "import time; time.sleep(98711)", __file__],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
    )


def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep_for_ever()


def shut():
    os.close(1)
    sleep_for_ever()


def requests():
    while True:
        send(
            {
                "id": "r",
                "method": "fs/read_text_file",
                "params": {"sessionId": session_id, "path": "a"},
            }
        )


def steps():
    say("I think", "agent_thought_chunk")
    update("plan", entries=[{"content": "one", "priority": "high", "status": "pending"}])
    update(
        "tool_call",
        toolCallId="t1",
        title="Edit a",
        kind="edit",
        status="pending",
        locations=[{"path": str(Path.cwd() / "a")}],
    )
    update("tool_call_update", toolCallId="t1", status="completed")
    update("available_commands_update", availableCommands=[])


def kinds():
    steps()
    update("brand_new_kind", deep={"x": [1, "\u0000"]})


def fill():
    """Write until the disk is nearly full, and work on as if nothing were."""
    with Path("big").open("wb", buffering=0) as file:
        try:
            while file.write(os.urandom(1 << 16)):
                pass
        except OSError:
            file.truncate(file.tell() - (1 << 16))


def write():
    Path("owned.txt").write_text("made\n")


def files():
    root = str(Path.cwd())
    Path("link").unlink(missing_ok=True)
    Path("link").symlink_to("/etc/hostname")
    for path in ("../outside", "/etc/passwd", f"{root}/link"):
        found = call("fs/read_text_file", {"sessionId": session_id, "path": path})
        say(f"[{'refused' if 'code' in found else 'READ'}]")
    for path in (f"{root}/owned.txt", f"{root}/foreign.txt", "../x"):
        found = call(
            "fs/write_text_file", {"sessionId": session_id, "path": path, "content": "w\n"}
        )
        say(f"[{'refused' if found and 'code' in found else 'wrote'}]")


def memory():
    held = bytearray(400_000_000)
    held[::4096] = b"x" * len(held[::4096])
    sleep_for_ever()


def refused():
    print("stream error: 429 Too Many Requests; trying again", file=sys.stderr, flush=True)
    sleep_for_ever()


def leak():
    for letter in os.environ["AGENT_TOKEN"]:
        say(letter)
    update("brand_new_kind", data=os.environ["AGENT_TOKEN"])


def servers_given():
    """Keep what the client offers, and start the first one where that is a program."""
    home = Path(os.environ["HOME"])
    (home / "servers.json").write_text(json.dumps(servers))
    if "command" in servers[0]:
        env = {**os.environ, **{one["name"]: one["value"] for one in servers[0]["env"]}}
        asked = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}\n'
        done = subprocess.run([servers[0]["command"], *servers[0]["args"]], env=env, input=asked,
                              capture_output=True)  # fmt: skip
        (home / "bridge.json").write_bytes(done.stdout + done.stderr)


def environment():
    say(" ".join(sorted(os.environ)))


ACTS = {act.__name__: act for act in (
    hang, hang_once, wait, late, flood, trickle, stderr, strays, babble, giant, endless, die, kill,
    daemon, deaf, refused, shut, requests, leak, steps, kinds, fill, write, files, memory,
    environment)}  # fmt: skip
ACTS["servers"] = servers_given
ERRORS = {
    "rate": (-32603, "Internal error", {"details": "429 Too Many Requests"}),
    "over": (-32603, "Overloaded", {"details": "529 overloaded_error"}),
    "used": (-32603, "Internal error", {"details": "You exceeded your current quota"}),
    "auth": (-32000, "Authentication required", None),
    "boom": (-32603, "Internal error", {"details": "it broke"}),
    "model": (-32603, "Internal error", {"details": "ProviderModelNotFoundError: nine"}),
    "cert": (-32603, "Internal error", {"details": "self signed certificate in chain"}),
    "url": (-32603, "Internal error", {"details": "connect ECONNREFUSED 127.0.0.1:9"}),
}
STOPS = ("refusal", "max_tokens", "max_turn_requests", "nonsense")


def tool(name, **arguments):
    """Call one of Tutti's tools over HTTP, as the session's MCP server says."""
    server = servers[0]
    headers = {one["name"]: one["value"] for one in server["headers"]}
    headers |= {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    method, params = "tools/call", {"name": name, "arguments": arguments}
    if not name:
        method, params = "tools/list", {}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    asked = urllib.request.Request(server["url"], json.dumps(body).encode(), headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        found = json.loads(answer.read())["result"]
    return found.get("structuredContent", found)


def use_tools():
    tool("")
    tool("report_progress", message=f"Prompt {len(remembered()) + 1}.")
    if "wonders" in WORDS and not remembered():
        asked = tool("ask_person", question="Which name?")
        say(f"[{asked['status']}]")
    parts = next((word[7:] for word in WORDS if word.startswith("splits=")), "")
    if parts:
        say(f"[{tool('propose_split', modules=json.loads(parts))}]")
    if "shows" in WORDS:
        Path("mine.txt").write_text(servers[0]["headers"][0]["value"])
        say(servers[0]["headers"][0]["value"])


def build(name, text):
    """Write a module's code, wrong the first time, or what the prompt's last words ask for."""
    right = name if remembered() or "right" in WORDS else "?"
    Path(f"{name}.py").write_text(f'def answer():\n    return "{right}"\n')
    Path(os.environ["HOME"], f"prompt-{len(remembered())}.txt").write_text(text)
    if servers and "tools" in WORDS:
        use_tools()
    if "pauses" in WORDS and not remembered():
        remember("cut off")
        wait()
    if "asks" in WORDS:
        ask("execute", "rm -rf build")
    if "fills" in WORDS:
        fill()
    until = next((word[6:] for word in WORDS if word.startswith("holds=")), "")
    while until and not Path(until).exists():
        time.sleep(0.05)
    mark = Path(os.environ["HOME"], "died")
    if "dies" in WORDS and not mark.exists():
        mark.touch()
        os._exit(9)


def prompt(text):
    """Do what the words say; returns the answer to the prompt."""
    global cancelled, cost
    cancelled = False
    name = next((word[6:] for word in WORDS if word.startswith("build=")), "")
    if name:
        # A dot stands for the module whose clone this is.
        name = Path.cwd().parent.name if name == "." else name
        build(name, text)
    if cancelled:
        return {"result": {"stopReason": "cancelled"}}
    words = [] if name else text.split()
    for word in words:
        name, _, value = word.partition(":")
        if name in ERRORS:
            code, message, data = ERRORS[name]
            return {"error": {"code": code, "message": message, "data": data}}
        if name in ("edit", "execute"):
            ask(name, value)
        elif name in ACTS:
            ACTS[name]()
    stop = next((word for word in words if word in STOPS), "end_turn")
    if cancelled:
        stop = "cancelled"
    cost += 0.25
    if "free" not in words:
        update("usage_update", used=100, size=1000, cost={"amount": cost, "currency": "USD"})
    remember(text)
    say(f"\npid {os.getpid()}, prompts {len(remembered())}\n")
    say(json.dumps({"tutti": {"summary": "done", "words": len(words)}}) + "\n")
    answer = {"stopReason": stop}
    if "meta" in words:
        answer["_meta"] = {"quota": {"token_count": {"input_tokens": 70, "output_tokens": 7}}}
    elif "free" not in words:
        answer["usage"] = {
            "totalTokens": 165,
            "inputTokens": 100,
            "outputTokens": 15,
            "cachedReadTokens": 50,
        }
    return {"result": answer}


def remembered():
    sessions = json.loads(STATE.read_text()) if STATE.exists() else {}
    return sessions.get(session_id, [])


def remember(text):
    sessions = json.loads(STATE.read_text()) if STATE.exists() else {}
    sessions.setdefault(session_id, []).append(text)
    STATE.write_text(json.dumps(sessions))


def options():
    return {
        "configOptions": [
            {
                "id": "model",
                "name": "Model",
                "category": "model",
                "type": "select",
                "currentValue": "small",
                "options": [{"value": "small", "name": "S"}, {"value": "big", "name": "B"}],
            },
            {
                "id": "mode",
                "name": "Mode",
                "category": "mode",
                "type": "select",
                "currentValue": "build",
                "options": [{"value": "build", "name": "B"}, {"value": "plan", "name": "P"}],
            },
        ]
    }


def answer(message):
    global session_id, servers
    method, params = message.get("method"), message.get("params") or {}
    if method == "initialize":
        methods = [
            {"id": "key", "name": "API key", "type": "env_var", "vars": [{"name": "AGENT_KEY"}]},
            {"id": "browser", "name": "Browser", "description": "run my-agent login"},
        ]
        return {
            "result": {
                "protocolVersion": 9 if "version" in WORDS else 1,
                "agentInfo": {"name": "tester", "version": "1.2"},
                "authMethods": methods,
                "agentCapabilities": {
                    "loadSession": not {"forget", "resumes"} & set(WORDS),
                    **({"sessionCapabilities": {"resume": {}}} if "resumes" in WORDS else {}),
                    "mcpCapabilities": {"http": "nohttp" not in WORDS},
                },
            }
        }
    if method == "authenticate":
        WORDS.remove("locked")
        return {"result": {}}
    servers = params.get("mcpServers", servers)
    if method == "session/new":
        if "locked" in WORDS:
            return {"error": {"code": -32000, "message": "Authentication required"}}
        session_id = f"s-{os.getpid()}-{time.time_ns()}"
        return {"result": {"sessionId": session_id, **options()}}
    if method == "session/resume":
        session_id = params["sessionId"]
        return {"result": options()}
    if method == "session/load":
        sessions = json.loads(STATE.read_text()) if STATE.exists() else {}
        if params["sessionId"] not in sessions:
            return {"error": {"code": -32002, "message": "Resource not found"}}
        session_id = params["sessionId"]
        for text in remembered():
            say(text, "user_message_chunk")
            say("OLD ANSWER")
        return {"result": options()}
    if method == "session/set_config_option":
        Path(os.environ["HOME"], f"set-{params['configId']}").write_text(params["value"])
        return {"result": options()}
    if method == "session/prompt":
        return prompt(params["prompt"][0]["text"])
    return {"error": {"code": -32601, "message": f"no {method}"}}


def main():
    for word in WORDS:
        if word in ACTS:
            ACTS[word]()
    while True:
        message = receive()
        if "id" in message and "method" in message:
            send({"id": message["id"], **answer(message)})


if __name__ == "__main__":
    main()
