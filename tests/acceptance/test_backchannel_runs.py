"""Agents at work that use Tutti's tools, from the plan to the merge, over a real Daphne."""

from __future__ import annotations

import json

from agents import sandbox
from agents.models import Channel, Request, Steer
from agents.services.answers import request_answer
from agents.services.profiles import profile_set
from agents.workspaces import Workspace
from projects.models import Attention
from tests.acceptance.stage import code, given
from tests.acceptance.test_acp_runs import executor
from tests.acceptance.test_s10_split import PARTS, big, half
from tests.browser.conftest import daphne, server, tutti_home  # noqa: F401 - fixtures


def test_an_agent_reports_and_asks_and_goes_on_with_the_answer(team, settings, server):  # noqa: F811
    settings.TUTTI_URL = server.url
    stage = team(given("a"))
    executor(stage, "tools", "wonders", network=True)
    stage.run()
    assert stage.statuses() == {"a": "needs_person"}
    (parked,) = stage.runs("a", "build")
    assert (parked.status, parked.reason_kind) == ("parked", "question")
    assert stage.module("a").head_commit == parked.head_commit != parked.base_commit
    request = Request.objects.get()
    assert request.question == "Which name?"
    progress = [row.data["text"] for row in parked.log.filter(kind="progress")]
    assert progress == ["Prompt 1."]
    assert not parked.log.filter(kind="warning").exists()

    request_answer(request, granted=True, by=stage.owner, answer="Call it a.")
    assert not Attention.objects.filter(topic=request.topic, closed_at=None).exists()
    stage.work()
    assert stage.statuses() == {"a": "merged"}
    assert stage.merged_file("a.py") == code("a")
    last = stage.runs("a", "build")[-1]
    assert last.session == parked.session
    steer = Steer.objects.get()
    assert (steer.told_run, steer.request) == (last, request)
    prompt = (Workspace.of(stage.project.pk, "a").home / "prompt-1.txt").read_text()
    assert "Which name?" in prompt
    assert "The answer (granted): Call it a." in prompt
    tokens = set(Channel.objects.values_list("token_hash", flat=True))
    assert len(tokens) == len(stage.runs("a", "build"))


def test_tutti_says_when_an_agent_never_connected(team, settings, server):  # noqa: F811
    settings.TUTTI_URL = server.url
    stage = team(given("a"))
    executor(stage, network=True)
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    (run,) = stage.runs("a", "build")
    (warning,) = run.log.filter(kind="warning")
    assert server.url in warning.data["text"]
    channel = Channel.objects.get(run=run)
    assert channel.connected_at is None and channel.warned_at is not None
    assert [event.data["run"] for event in stage.events("channel.unused")] == [run.pk]


def test_an_agent_without_a_network_is_offered_nothing(team, settings):
    stage = team(given("a"))
    executor(stage, "tools")
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    assert not Channel.objects.exists()


SCRIPT = """
import json, os, pathlib, urllib.request
body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "report_progress", "arguments": {"message": "From a command."}}}
headers = {"Authorization": "Bearer " + os.environ["TUTTI_MCP_TOKEN"],
           "Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
asked = urllib.request.Request(os.environ["TUTTI_MCP_URL"], json.dumps(body).encode(), headers)
urllib.request.urlopen(asked, timeout=30).read()
pathlib.Path("a.py").write_text(CODE)
print(json.dumps({"tutti": {"summary": "done"}}))
"""


def test_a_command_finds_address_and_token_in_its_environment(team, settings, server):  # noqa: F811
    settings.TUTTI_URL = server.url
    stage = team(given("a"))
    command = [sandbox.python(), "-I", "-S", "-c", SCRIPT.replace("CODE", repr(code("a")))]
    values = {"command": command, "network": True}
    profile_set(stage.project, "executor", "command", "m", values, stage.owner)
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    (run,) = stage.runs("a", "build")
    assert [row.data["text"] for row in run.log.filter(kind="progress")] == ["From a command."]


def test_a_proposed_split_happens_when_the_turn_ends(team, settings, server):  # noqa: F811
    settings.TUTTI_URL = server.url
    stage = big(team, split={"depth": 0, "modules": 4})
    executor(stage, "tools", "splits=" + json.dumps([half(name) for name in PARTS]), network=True)
    stage.run()
    assert stage.statuses() == {"big": "needs_person"}
    request = stage.request("big")
    assert (request.kind, request.run.status) == ("split", "parked")
    profile_set(stage.project, "executor", "replay", "recorded", {}, stage.owner)
    request_answer(request, granted=True, by=stage.owner)
    stage.work()
    assert stage.statuses() == {"big": "merged", "big/x": "merged", "big/y": "merged"}


def test_the_token_stays_out_of_log_and_branch(team, settings, server):  # noqa: F811
    settings.TUTTI_URL = server.url
    stage = team(given("a"))
    executor(stage, "tools", "shows", network=True)
    stage.run()
    (run,) = [one for one in stage.runs("a", "build") if one.number == 1]
    said = " ".join(json.dumps(row.data) for row in run.log.all())
    assert "Bearer [redacted]" in said
    findings = {finding.source for finding in stage.findings("a")}
    assert "secret" in findings
