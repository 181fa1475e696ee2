"""A run of a command is saved and played again; a key that an agent writes down goes nowhere."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.urls import reverse

from agents import recording
from agents.models import Provider, RunLog
from agents.services.profiles import profile_set
from agents.services.secrets import secret_set
from projects.hub import module_ref
from projects.services.errors import Refused
from reviews.models import CheckResult
from tests import factories
from tests.acceptance.stage import part

STREAMS = Path(__file__).parent.parent / "agents" / "formats"
CLAUDE = "claude-stream-json"
KEY = "sk-ant-0123456789-abcdefghij"
AGENT = """
import json, os, pathlib, sys
home = pathlib.Path(os.environ["HOME"]) / "turns"
turn = len(home.read_text()) + 1 if home.exists() else 1
home.write_text("x" * turn)
prompt = sys.stdin.read()
print(json.dumps({"event": "message", "text": f"Turn {turn}, {os.environ.get('AGENT_KEY')}"}))
"""
WRITES = (
    AGENT
    + """
if turn == 1:
    pathlib.Path("shop.py").write_text("def answer():\\n    return 'nothing'\\n")
else:
    pathlib.Path("shop.py").write_text("def answer():\\n    return 'shop'\\n")
    pathlib.Path("shop.bin").write_bytes(bytes(range(256)))
    pathlib.Path("shop.sh").write_text("#!/bin/sh\\u2028\\x85\\n")
    os.chmod("shop.sh", 0o755)
    pathlib.Path("shop.old").unlink()
print(json.dumps({"event": "tool", "name": "edit", "path": "shop.py"}))
print(json.dumps({"event": "usage", "input_tokens": 100 * turn, "output_tokens": 10}))
print(json.dumps({"tutti": {"summary": f"Turn {turn} is done."}}))
"""
)
LEAKS = (
    AGENT
    + """
code = "def answer():\\n    return 'shop'\\n"
if turn == 1:
    pathlib.Path("shop.py").write_text(code + "KEY = " + repr(os.environ["AGENT_KEY"]) + "\\n")
    pathlib.Path("shop.txt").write_text("kept")
else:
    pathlib.Path("shop.py").write_text(code)
print(json.dumps({"tutti": {"summary": "Signed in with " + os.environ["AGENT_KEY"]}}))
"""
)
SHOP = part("shop", owns=["shop.*"])


def executor(stage, script, provider=None):
    settings = {"command": ["python3", "-c", script], "timeout_seconds": 60}
    # Only a site admin may charge a profile to an account that holds a key.
    by = factories.user("root", is_superuser=True) if provider else stage.owner
    profile_set(stage.project, "executor", "command", "some-model", settings, by, provider=provider)


def checks(stage):
    rows = CheckResult.objects.filter(project_id=stage.project.pk).order_by("pk")
    return [(row.phase, row.command, row.exit_code) for row in rows]


def test_run_of_a_command_plays_again_through_the_same_gates(team, client, capsys):
    first = team(SHOP, files={"shop.old": "old"})
    executor(first, WRITES)
    first.run()
    assert first.statuses() == {"shop": "merged"}
    (run,) = first.runs("shop", "build")
    assert run.turns == 2

    second = team(SHOP, files={"shop.old": "old"})
    call_command("run_record", run.pk, to=second.folder / "recordings")
    written = sorted((second.folder / "recordings" / "base").glob("shop.build.*"))
    assert [path.name for path in written] == ["shop.build.1.jsonl", "shop.build.2.jsonl"]
    second.run()
    assert second.statuses() == {"shop": "merged"}
    assert second.hub.tree(second.merged_head) == first.hub.tree(first.merged_head)
    assert checks(second) == checks(first)
    assert second.path_of("shop") == first.path_of("shop")
    (played,) = second.runs("shop", "build")
    assert (played.result, played.input_tokens) == (run.result, run.input_tokens)

    client.force_login(first.owner)
    answer = client.get(reverse("agents:run-recording", args=[first.slug, run.pk]))
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert packed.read("base/shop.build.2.jsonl") == written[1].read_bytes()
    listed = client.get(f"/api/projects/{first.slug}/runs/{run.pk}/recording").json()
    assert [file["text"] for file in listed] == [path.read_text() for path in written]
    assert (
        'id="record"'
        in client.get(reverse("agents:run", args=[first.slug, run.pk])).content.decode()
    )


def test_recorded_replay_is_the_recording_it_played(team):
    stage = team(part("shop"))
    stage.run()
    (run,) = stage.runs("shop", "build")
    ((name, lines),) = recording.recordings(run).items()
    assert name == "shop.build.1.jsonl"
    kinds = [line["event"] for line in lines[1:]]
    assert kinds == ["message", "write", "usage", "result", "exit"]
    assert lines[2]["content"] == stage.merged_file("shop.py")


def test_run_without_an_agent_or_still_at_work_is_refused(team, tmp_path):
    stage = team(part("shop"))
    stage.run()
    with pytest.raises(Refused, match="No agent took part"):
        recording.recordings(stage.runs("shop", "merge")[0])
    run = stage.runs("shop", "build")[0]
    run.status = "running"
    with pytest.raises(Refused, match="still at work"):
        recording.recordings(run)
    with pytest.raises(CommandError, match="There is no run"):
        call_command("run_record", 10**6, to=tmp_path)


def test_key_that_an_agent_writes_into_a_file_is_refused_and_kept_nowhere(team):
    stage = team(part("shop", owns=["shop.*"]))
    provider = Provider.objects.create(name="anthropic")
    secret_set(provider, stage.owner, KEY, "AGENT_KEY")
    executor(stage, LEAKS, provider)
    stage.run()
    assert stage.statuses() == {"shop": "merged"}
    (finding,) = stage.findings("shop", "secret")
    assert finding.path == "shop.py" and "keeps secret" in finding.message
    assert stage.merged_file("shop.txt") == "kept"
    hub = stage.hub
    for commit in hub.log(None, str(hub.head(module_ref(stage.plan.number, "shop")))):
        assert all(KEY.encode() not in (hub.read(commit.sha, path) or b"")
                   for path in hub.files(commit.sha))  # fmt: skip
    (run,) = stage.runs("shop", "build")
    said = RunLog.objects.filter(run=run, kind="message").values_list("data", flat=True)
    assert [data["text"] for data in said] == ["Turn 1, [redacted]", "Turn 2, [redacted]"]
    assert run.result == {"summary": "Signed in with [redacted]"}
    assert json.dumps(recording.recordings(run)).count("[redacted]") >= 2
    assert tables_with(KEY) == []


def test_other_roles_do_not_get_the_key(team):
    stage = team(part("shop"))
    provider = Provider.objects.create(name="anthropic")
    secret_set(provider, stage.owner, KEY, "AGENT_KEY")
    says = AGENT + "pathlib.Path('shop.py').write_text(\"def answer():\\n    return 'shop'\\n\")"
    executor(stage, says)
    stage.run()
    (run,) = stage.runs("shop", "build")
    said = RunLog.objects.filter(run=run, kind="message").values_list("data", flat=True)
    assert [data["text"] for data in said] == ["Turn 1, None"]


def tables_with(text):
    """Tables of which some row holds a text, in any column."""
    found = []
    with connection.cursor() as cursor:
        for name in connection.introspection.table_names(cursor):
            cursor.execute(
                f"SELECT count(*) FROM {connection.ops.quote_name(name)} AS row "
                "WHERE row::text LIKE %s",
                [f"%{text}%"],
            )
            found += [name] if cursor.fetchone()[0] else []
    return found


@pytest.mark.parametrize(
    ("stream", "breaker", "says"),
    [
        ("claude_signed_out", "exhausted", "Enter the account's key"),
        ("claude_limit", "exhausted", "account is used up"),
        ("claude_overloaded", "throttled", "too fast"),
    ],
)
def test_refusal_of_a_provider_pauses_its_account_and_counts_as_nobodys_failure(
    team, stream, breaker, says
):
    stage = team(part("shop"))
    provider = Provider.objects.create(name="anthropic")
    lines = (STREAMS / f"{stream}.jsonl").read_text()
    settings = {"command": ["python3", "-c", f"print({lines!r}, end='')"]}
    profile_set(stage.project, "executor", "command", "m", {**settings, "format": CLAUDE},
                stage.owner, provider=provider)  # fmt: skip
    stage.run()
    run = stage.runs("shop", "build")[0]
    assert (run.status, run.reason_owner) == ("interrupted", "provider")
    provider.refresh_from_db()
    assert provider.breaker == breaker and says in provider.reason
    assert stage.module("shop").failures == 0
