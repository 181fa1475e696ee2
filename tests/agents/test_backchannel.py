"""The back-channel of a running agent, over a real Daphne and with the real MCP client."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from agents.models import Channel, Request, Run, Steer
from agents.services import channels, steering
from agents.services.answers import request_answer
from agents.supervision import Watch
from agents.work import Log, Work
from projects.hub import Hub
from projects.models import Attention, Event
from tests import factories as make
from tests.browser.conftest import Server, daphne, server, tutti_home  # noqa: F401 - fixtures

ROOT = Path(__file__).parents[2]
BRIDGE = ROOT / "agents" / "backends" / "mcp_bridge.py"


@pytest.fixture
def run(transactional_db):
    people = {"alice": "owner", "bob": "member", "mia": "maintainer"}
    plan = make.plan(make.project(people=people), policies={"split": {"depth": 1, "modules": 4},
                     "exceptions": {"allow": ["docs/**"]}})  # fmt: skip
    cart = make.module(plan, "cart", "building")
    make.need(cart, make.module(plan, "tax", "merged"))
    make.module(plan, "shop")
    return make.run(cart, backend="acp", worker="w")


@pytest.fixture
def offer(run, settings, server: Server):  # noqa: F811
    settings.TUTTI_URL = server.url
    return channels.channel_open(run)


async def _talk(offer, calls):
    headers = {"Authorization": f"Bearer {offer.token}"}
    transport = streamable_http_client(
        offer.url, http_client=create_mcp_http_client(headers=headers)
    )
    async with Client(transport) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        found = [await client.call_tool(name, values) for name, values in calls]
    return tools, [one.structured_content for one in found]


def talk(offer, *calls):
    return asyncio.run(_talk(offer, calls))[1]


def one(offer, tool, **values):
    return talk(offer, (tool, values))[0]


def post(url, token="", **headers):
    """The status of a bare request."""
    values = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if token:
        values["Authorization"] = f"Bearer {token}"
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    asked = urllib.request.Request(url, json.dumps(body).encode(), {**values, **headers})
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_every_tool_is_there_and_who_lists_them_is_connected(offer, run):
    tools, answers = asyncio.run(_talk(offer, [("report_progress", {"message": "Half."})]))
    assert tools == {"report_progress", "ask_person", "get_answer", "read_interface",
                     "ask_exception", "propose_split"}  # fmt: skip
    assert answers[0]["status"] == "ok"
    channel = Channel.objects.get(run=run)
    assert channel.connected_at is not None
    assert channel.notes == [{"text": "Half."}]
    assert Event.objects.filter(kind="channel.connected").count() == 1


def test_the_token_is_stored_nowhere(offer, run):
    assert offer.token not in json.dumps(list(Channel.objects.values()), default=str)
    assert offer.token not in repr(offer)


def test_wrong_ended_and_fenced_tokens_are_refused(offer, run):
    assert post(offer.url, offer.token) == 200
    assert post(offer.url) == 401
    assert post(offer.url, "wrong") == 401
    assert post(offer.url, Channel.objects.get(run=run).token_hash) == 401
    Run.objects.filter(pk=run.pk).update(fence=run.fence + 1)
    assert post(offer.url, offer.token) == 401
    run.refresh_from_db()
    newer = channels.channel_open(run)
    assert post(offer.url, newer.token) == 200
    Run.objects.filter(pk=run.pk).update(status="failed", holds_slot=False)
    assert post(offer.url, newer.token) == 401


def test_a_new_token_ends_the_old_one(offer, run):
    newer = channels.channel_open(run)
    assert (post(offer.url, offer.token), post(offer.url, newer.token)) == (401, 200)


def test_foreign_hosts_and_pages_are_refused(offer, run):
    assert post(offer.url, offer.token, Host="evil.example") == 421
    assert post(offer.url, offer.token, Origin="https://evil.example") == 403
    assert post(offer.url, offer.token, Host=f"localhost:{urlsplit(offer.url).port}") == 200


def test_only_interfaces_that_it_depends_on_are_read(offer, run):
    found, foreign, own = talk(
        offer,
        ("read_interface", {"module": "tax"}),
        ("read_interface", {"module": "shop"}),
        ("read_interface", {"module": "cart"}),
    )
    assert (found["status"], found["provides"]) == ("ok", ["tax.main()"])
    assert "merged" in found["message"]
    assert (foreign["status"], foreign["code"], foreign["modules"]) == (
        "error", "not_needed", ["tax"])  # fmt: skip
    assert own["status"] == "error"


def test_a_person_is_asked_and_the_agent_gets_the_answer(offer, run):
    asked = one(offer, "ask_person", question="Which currency?")
    assert asked["status"] == "waiting"
    request = Request.objects.get(pk=asked["id"])
    assert (request.kind, request.question) == ("question", "Which currency?")
    assert Attention.objects.filter(topic=request.topic, closed_at=None).exists()
    assert one(offer, "get_answer", id=asked["id"])["status"] == "waiting"
    request_answer(request, granted=True, by=make.user("bob"), answer="Euro.")
    assert "Euro." in Steer.objects.get().text
    answer = one(offer, "get_answer", id=asked["id"])
    assert (answer["status"], answer["granted"], answer["answer"]) == ("answered", True, "Euro.")
    # It was told now, so the next prompt need not say it again.
    assert not steering.waiting(run).exists()
    assert one(offer, "get_answer", id=10**9)["code"] == "unknown"
    assert one(offer, "ask_person", question=" ")["code"] == "empty"


def test_exceptions_are_granted_by_policy_or_by_a_maintainer(offer, run):
    allowed, asked, bad = talk(
        offer,
        ("ask_exception", {"paths": ["docs/a.md"], "reason": "It says so."}),
        ("ask_exception", {"paths": ["shop/a.py"], "reason": "It calls me."}),
        ("ask_exception", {"paths": ["../x"], "reason": "No."}),
    )
    assert (allowed["status"], allowed["granted"]) == ("answered", True)
    assert (asked["status"], bad["code"]) == ("waiting", "path")
    assert "docs/a.md" in run_contract(run).exceptions
    request_answer(Request.objects.get(pk=asked["id"]), granted=True, by=make.user("mia"))
    assert "shop/a.py" in run_contract(run).exceptions
    assert one(offer, "get_answer", id=asked["id"])["granted"] is True


def run_contract(run):
    run.module.refresh_from_db()
    return run.module.contract


def test_a_bad_split_comes_back_with_what_is_wrong(offer, run):
    found = one(offer, "propose_split", modules=[{"slug": "Bad Slug"}])
    assert (found["status"], found["code"]) == ("error", "split")
    assert Channel.objects.get(run=run).split is None


def test_an_agent_that_only_reviews_asks_nobody(offer, run):
    Run.objects.filter(pk=run.pk).update(kind="review")
    person, policy = talk(
        offer,
        ("ask_person", {"question": "May I?"}),
        ("ask_exception", {"paths": ["docs/a.md"], "reason": "It says so."}),
    )
    assert (person["code"], policy["code"]) == ("role", "role")
    assert not Request.objects.exists()
    assert run_contract(run).exceptions == []


def test_the_worker_logs_progress_and_says_once_that_nobody_connected(offer, run):
    work = Work(run, Hub(run.project.hub_path), Watch(run.pk, run.fence, 0.0), Log(run))
    line = channels.Line(work, offer)
    line.look(is_over=False)
    assert not run.log.filter(kind="warning").exists()
    line.look(is_over=True)
    line.look(is_over=True)
    work.log.flush()
    (warning,) = run.log.filter(kind="warning")
    assert "never asked for them" in warning.data["text"]
    assert Channel.objects.get(run=run).warned_at is not None
    one(offer, "report_progress", message="Late.", percent=40)
    line.look(is_over=True)
    work.log.flush()
    assert [row.data["text"] for row in run.log.filter(kind="progress")] == ["Late. (40 %)"]


def test_the_page_says_that_the_agent_never_connected(client, offer, run):
    Channel.objects.update(warned_at="2026-11-25T00:00:00Z")
    client.force_login(make.user("bob"))
    html = client.get(f"/projects/shop/runs/{run.pk}/").content.decode()
    assert "The agent never asked" in html
    asyncio.run(_talk(offer, []))
    html = client.get(f"/projects/shop/runs/{run.pk}/").content.decode()
    assert "The agent never asked" not in html
    assert "connected" in html


async def _over_stdio(command, args, env):
    started = StdioServerParameters(command=command, args=args, env=env)
    async with Client(stdio_client(started)) as client:
        tools = (await client.list_tools()).tools
        found = await client.call_tool("report_progress", {"message": "Over stdio."})
    return len(tools), found.structured_content


def test_the_bridge_serves_agents_that_only_start_programs(offer, run):
    args = ["-I", "-S", str(BRIDGE)]
    count, answer = asyncio.run(_over_stdio(sys.executable, args, offer.variables))
    assert (count, answer["status"]) == (6, "ok")
    assert Channel.objects.get(run=run).notes == [{"text": "Over stdio."}]


def test_the_command_serves_its_own_run_alone(offer, run, daphne):  # noqa: F811
    env = {**daphne.environment, **offer.variables}
    args = [str(ROOT / "manage.py"), "mcp", "--run", str(run.pk)]
    count, answer = asyncio.run(_over_stdio(sys.executable, args, env))
    assert (count, answer["status"]) == (6, "ok")
    args[-1] = str(run.pk + 1)
    refused = subprocess.run([sys.executable, *args], env=env, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "not the token of this run" in refused.stderr


def test_mcp_is_imported_by_nobody_else():
    code = (
        "import django, sys; django.setup(); import config.asgi, agents.turns; "
        "sys.exit('mcp' in sys.modules)"
    )
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
