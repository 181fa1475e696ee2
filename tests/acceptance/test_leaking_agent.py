"""An agent that tells its key wherever it can; the key is stored and shown nowhere."""

from __future__ import annotations

import html
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.management import call_command
from django.test import Client

from agents import sandbox
from agents.models import Provider, Run
from agents.services.profiles import profile_set
from agents.services.secrets import secret_set
from projects.redaction import MARK, forms
from reviews.models import Review
from tests import factories
from tests.acceptance.stage import STUB, Stage, Turn, code, given
from tests.test_access_matrix import TABLE, address

KEY = 'sk-lab-Zq7/+9x"Wm3-tail'
# Turn 1 writes the key down, turn 2 has a check print it, turn 3 is honest work; all tell it.
SCRIPT = """
import base64, json, os, pathlib, sys
key = os.environ["LAB_API_KEY"]
turn = pathlib.Path(os.environ["HOME"], "turn")
number = int(turn.read_text()) + 1 if turn.exists() else 1
turn.write_text(str(number))
raw = key.encode()
for text in (key, raw.hex(), base64.b64encode(b"user:" + raw).decode(), json.dumps(key)):
    print("I found", text, flush=True)
    print(text, file=sys.stderr, flush=True)
print(json.dumps({"event": "message", "text": "half of it: " + key[:9]}))
print(json.dumps({"event": "message", "text": key[9:] + " was the rest"}))
print(json.dumps({"event": "tool", "name": "read", "path": key, key: [{"deep": key}]}))
code = pathlib.Path("a.py")
if number == 1:
    code.write_text("KEY = %r\\n" % key)
    pathlib.Path("other.txt").write_bytes(key.encode("utf-16"))
    named = pathlib.Path(key)
    named.parent.mkdir()
    named.write_text("x")
elif number == 2:
    code.write_text("def answer():\\n    raise ValueError(%r + %r)\\n" % (key[:5], key[5:]))
else:
    code.write_text(CODE)
print(json.dumps({"tutti": {"summary": "It was " + key, key: 1}}))
"""


def test_a_key_that_an_agent_tells_everywhere_is_shown_nowhere(team):
    stage = team(given("a"), files={"a.py": f"{STUB}# {KEY}\n"})
    stage.play("a", "review", Turn(result={
        "verdict": "approve", "summary": f"It says {KEY}.",
        "findings": [{"path": "a.py", "line": 1, "message": f"{KEY} is gone."}],
    }))  # fmt: skip
    root = factories.user("root", is_superuser=True, is_staff=True)
    account = secret_set(Provider.objects.create(name="lab"), root, KEY, "LAB_API_KEY")
    script = SCRIPT.replace("CODE", repr(code("a")))
    values = {"command": [sandbox.python(), "-I", "-S", "-c", script]}
    profile_set(stage.project, "executor", "command", "m", values, root, provider=account)
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    (run,) = stage.runs("a", "build")
    assert run.turns == 3
    assert {one.source for one in stage.findings("a")} == {"secret", "check", "review"}
    assert f"ValueError: {MARK}" in stage.findings("a", "check")[0].message
    assert "half of it: [redacted]" in " ".join(
        r.data["text"] for r in run.log.filter(kind="message")
    )

    seen = {**dict(_rows()), **dict(_pages(stage, root)), **dict(_exports(stage))}
    assert len(seen) > 60
    assert {place: found for place, text in seen.items() if (found := _told(text))} == {}
    review = seen[f"/projects/{stage.project.slug}/reviews/{Review.objects.get().pk}/"]
    assert f"# {MARK}" in review
    hub = stage.hub
    head = str(hub.head("refs/heads/tutti/1/a"))
    for commit in hub.log(str(hub.head("refs/tutti/source/main")), head):
        for path in hub.files(commit.sha):
            assert not _told((hub.read(commit.sha, path) or b"").decode() + path), commit


def _told(text: str) -> list[str]:
    """The ways of writing the key that a text holds, line ends and mark-up left out."""
    plain = html.unescape(re.sub(r"<[^>]*>", "", text))
    texts = [re.sub(r"[\r\n]", "", one) for one in (text, plain)]
    return [form for form in forms(KEY) if any(form in one for one in texts)]


def _rows() -> Iterator[tuple[str, str]]:
    """Every table of the database."""
    for model in apps.get_models(include_auto_created=True):
        rows = list(model._default_manager.values())
        yield model._meta.label, json.dumps(rows, default=str, ensure_ascii=False)


def _pages(stage: Stage, root: Any) -> Iterator[tuple[str, str]]:
    """Every page and every answer of the API about every run and review."""
    client = Client()
    client.force_login(root)
    here = {"slug": stage.project.slug, "module": "a"}
    rows = {
        "{run}": list(Run.objects.values_list("pk", flat=True)),
        "{review}": list(Review.objects.values_list("pk", flat=True)),
    }
    some = {"number": stage.plan.number, "form": "jsonl", "role": "planner"}
    for row in TABLE:
        if row.verb != "GET":
            continue
        for pk in rows.get(str(row.kwargs.get("pk")), [0]):
            kwargs = {name: {**here, **some, "pk": pk}.get(name, pk) for name in row.kwargs}
            url = address(type(row)(row.route, "GET", row.least, kwargs), {})
            answer: Any = client.get(url)
            assert answer.status_code < 500
            body = b"".join(answer.streaming_content) if answer.streaming else answer.content
            yield url, _text(body)


def _text(body: bytes) -> str:
    if not zipfile.is_zipfile(io.BytesIO(body)):
        return body.decode("utf-8", "replace")
    with zipfile.ZipFile(io.BytesIO(body)) as packed:
        return "\n".join(packed.read(name).decode() for name in packed.namelist())


def _exports(stage: Stage) -> Iterator[tuple[str, str]]:
    """What commands write out: the record, the data, the recordings of the agent's run."""
    commands = [["audit_export", stage.slug], ["dumpdata"]]
    for words in commands:
        out = io.StringIO()
        call_command(*words, stdout=out)
        yield words[0], out.getvalue()
    folder = Path(stage.folder) / "played"
    (run,) = stage.runs("a", "build")
    call_command("run_record", str(run.pk), "--to", str(folder), stdout=io.StringIO())
    for file in folder.rglob("*.jsonl"):
        yield file.name, file.read_text()
