from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from agents import logs
from agents.models import RunLog
from tests import factories as make


@pytest.fixture
def module(db):
    return make.module(make.plan(make.project()), "cart", "building")


@pytest.fixture
def run(module):
    return make.run(module)


def page(client, run):
    client.force_login(make.user("bob"))
    return client.get(reverse("agents:run", args=["shop", run.pk])).content.decode()


def log(client, run, **query):
    client.force_login(make.user("bob"))
    return client.get(reverse("agents:run-log", args=["shop", run.pk]), query)


def test_page_shows_the_assignment_of_every_turn_whole(client, run):
    long = "Build it. " * 2_000 + "THE END"
    run.assignments = [
        {"turn": 1, "text": long, "prompt_version": "7", "at": "2026-11-24T10:00:00Z"},
        {"turn": 2, "text": "Answer <b>this</b>.", "prompt_version": "7", "at": None},
    ]
    run.save()
    html = page(client, run)
    assert "THE END" in html
    assert "Answer &lt;b&gt;this&lt;/b&gt;." in html
    assert "prompt version 7" in html


def test_unknown_usage_is_unknown_and_never_zero(client, module):
    run = make.run(module, backend="command")
    html = page(client, run)
    assert '<dd id="usage">unknown</dd>' in html


def test_known_usage_and_labels(client, run):
    run.input_tokens, run.output_tokens, run.usage_quality = 1234, 56, "exact"
    run.sandbox = "unconfined"
    run.save()
    html = page(client, run)
    assert "1234, 56" in html
    assert ">replayed<" in html
    assert ">unconfined<" in html


def test_page_shows_reason_findings_and_checks_of_the_run(client, run, module):
    run.status, run.ended_at, run.holds_slot = "failed", timezone.now(), False
    run.reason, run.reason_owner, run.reason_kind = "Nothing was changed.", "agent", "empty"
    run.save()
    make.finding(module, "No file changed.", run_topic=run.topic)
    make.check(module, ok=False, run_topic=run.topic, output="boom")
    html = page(client, run)
    for text in ("Nothing was changed.", "No file changed.", "boom"):
        assert text in html


def test_page_opens_with_the_newest_rows(client, run, monkeypatch):
    monkeypatch.setattr(logs, "SHOWN", 3)
    make.log(run, *(f"row {n}" for n in range(1, 6)))
    html = page(client, run)
    assert 'data-after="5"' in html
    assert 'id="log-3"' in html
    assert 'id="log-2"' not in html


def test_log_pages_have_no_gap_and_no_double(client, run, monkeypatch):
    monkeypatch.setattr(logs, "PAGE", 2)
    make.log(run, "one", "two", "three")
    monkeypatch.setattr(logs.page, "__defaults__", (2,))
    first = log(client, run, after=0)
    assert (first["X-After"], first["X-More"], first["X-Log-End"]) == ("2", "1", "0")
    second = log(client, run, after=2)
    assert (second["X-After"], second["X-More"]) == ("3", "0")
    html = first.content.decode() + second.content.decode()
    assert [f'id="log-{n}"' in html for n in (1, 2, 3)] == [True, True, True]


def test_log_of_an_ended_run_ends(client, module):
    run = make.run(module, status="succeeded", ended_at=timezone.now())
    make.log(run, "bye")
    assert log(client, run)["X-Log-End"] == "1"


def test_log_as_json_and_as_text(client, run):
    make.log(run, "hello<b>")
    assert log(client, run, format="json").json()["rows"][0]["data"] == {"text": "hello<b>"}
    text = log(client, run, format="text")
    assert text["Content-Type"].startswith("text/plain")
    assert "hello<b>" in text.content.decode()


@pytest.mark.parametrize("after", ["-1", "x", "9" * 12, "1.5"])
def test_bad_place_in_the_log_is_404(client, run, after):
    assert log(client, run, after=after).status_code == 404


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("message", {"text": "hi"}, "hi"),
        ("message", {"text": "hi", "at": 0.2}, "hi"),
        ("prompt", {"turn": 2, "prompt_version": "7"}, "turn 2 is sent, prompt version 7"),
        ("finding", {"source": "red", "path": "a.py", "message": "no"}, "red: a.py no"),
        ("tool", {"name": "edit", "path": "a.py"}, "edit a.py"),
        ("tool", {}, "?"),
        ("tool", {"name": "other", "title": "bash", "status": "pending"}, "bash"),
        (
            "tool_update",
            {"title": "a.py", "path": "a.py", "status": "in_progress"},
            "a.py in progress",
        ),
        ("tool_update", {"name": "tool", "status": "completed"}, "tool completed"),
        (
            "check",
            {"command": "true", "kind": "passed", "ok": True, "seconds": 0.2},
            "true passed, 0.2 s",
        ),
        ("session", {"id": "s1", "agent": "OpenCode", "version": "1.2"}, "session s1 OpenCode 1.2"),
        ("session", {"id": "s1"}, "session s1"),
        ("write", {"path": "a.py", "content": "x" * 10_000}, "writes a.py"),
        ("usage", {"input_tokens": 5}, "5 tokens in, ? out (?)"),
        ("message", {"text": 7}, '{"text": 7}'),
        ("odd", {"a": [1, {"b": None}]}, '{"a": [1, {"b": null}]}'),
    ],
)
def test_any_shape_of_a_row_gives_words(kind, data, words):
    assert logs.words(kind, data) == words


def test_long_row_is_cut_on_the_page_alone(run):
    row = RunLog(run=run, sequence=1, at=timezone.now(), kind="message", data={"text": "x" * 9_000})
    assert len(logs.line_of(row).text) == logs.MAX_TEXT + 1


def test_member_stops_a_run(client, run):
    client.force_login(make.user("bob"))
    url = reverse("agents:run-stop", args=["shop", run.pk])
    assert client.post(url, headers={"HX-Request": "true"}).status_code == 200
    run.refresh_from_db()
    assert run.status == "stopping"
    assert "bob" in run.reason


def test_run_of_another_project_is_404(client, run):
    make.project("other")
    client.force_login(make.user("alice"))
    assert client.get(f"/projects/other/runs/{run.pk}/").status_code == 404
