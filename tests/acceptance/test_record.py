"""The record of a project proves itself, and goes out whole."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.utils.dateparse import parse_datetime

from projects import live
from projects.live import SITE, SYSTEM, event_hash, site_event
from projects.models import Event
from projects.services import archive
from reviews.audit import verify
from reviews.services import review_overrule
from tests.acceptance.stage import APPROVE, Stage, Turn, code, given, verdict

Command = Callable[..., str]


@pytest.fixture
def done(team) -> Stage:
    stage: Stage = team(given("a"))
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    return stage


def said(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def tampered(sql: str, *values: int | str) -> None:
    """Change the record as somebody with the database's own rights could."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(sql, values)


def test_the_chain_holds_and_a_changed_row_is_found(done):
    assert f"{done.project.event_count} events, chain whole" in said("audit_verify", done.slug)
    event = done.events("plan.approved")[0]
    with pytest.raises(IntegrityError), transaction.atomic():
        Event.objects.filter(pk=event.pk).update(actor="person:bob")

    tampered("UPDATE projects_event SET actor = 'person:bob' WHERE id = %s", event.pk)
    with pytest.raises(CommandError, match=rf"Event {event.number} \(plan.approved\) was changed"):
        said("audit_verify", done.slug)
    tampered("UPDATE projects_event SET actor = %s WHERE id = %s", event.actor, event.pk)
    assert verify(done.project) == ""


def test_a_row_that_is_gone_is_found(done):
    last = Event.objects.filter(project=done.project).latest("number")
    tampered("DELETE FROM projects_event WHERE id = %s", last.pk)
    assert verify(done.project) != ""
    last.save(force_insert=True)
    assert verify(done.project) == ""


def test_the_site_notices_that_its_newest_event_is_gone(transactional_db):
    for number in range(2):
        with transaction.atomic():
            site_event("test.happened", SITE, SYSTEM, number=number)
    assert "2 events of the site, chain whole" in said("audit_verify")

    tampered("DELETE FROM projects_siteevent WHERE number = %s", 2)
    gone = "The site's head says 2 events; the chain holds 1."
    with pytest.raises(CommandError, match=gone):
        said("audit_verify")
    # Nor does the next one take its place.
    with transaction.atomic():
        assert site_event("test.happened", SITE, SYSTEM).number == 3
    with pytest.raises(CommandError, match="Event 2 is missing; the next one is 3"):
        said("audit_verify")


@pytest.fixture
def judged(team) -> Stage:
    """A job with a verdict that sends back, one that lets pass, and a person's."""
    stage: Stage = team(given("a"), policies={"review": "person"})
    again = code("a") + "# done\n"
    stage.play("a", "build", Turn({"a.py": code("a")}), Turn({"a.py": again}))
    stage.play("a", "review", verdict("rebuild", a="Say that it is done."), APPROVE)
    stage.run()
    review_overrule(stage.module("a"), "approve", stage.owner, "Good.")
    stage.work()
    assert stage.statuses() == {"a": "merged"}
    return stage


#: What somebody with the database's own rights may do, and how it is found.
TAMPERED = {
    "UPDATE reviews_review SET verdict = 'approve'": "Review {}, .* was changed",
    "UPDATE reviews_review SET person_id = NULL": "Review {}, .* was changed",
    "DELETE FROM reviews_review WHERE run_topic = ''": "Review {}, .*overruled.* is missing",
    "UPDATE reviews_finding SET message = 'Fine.'": "Review {}, .* or its findings were",
    "DELETE FROM reviews_finding WHERE review_id > 0": "Review {}, .* or its findings were",
    "UPDATE reviews_checkresult SET ok = NOT ok": "Check result {}, .* was changed",
    "UPDATE reviews_checkresult SET output = '!'": "Check result {}, .* was changed",
    "DELETE FROM reviews_checkresult": "Check result {}, .* is missing",
    "UPDATE reviews_merge SET base_commit = head_commit": "Merge {}, .* was changed",
    "DELETE FROM reviews_merge": "Merge {}, .* is missing",
}


@pytest.mark.parametrize("at_once", [1, 100])
def test_a_judgement_that_is_not_what_it_was_is_found(judged, monkeypatch, at_once):
    monkeypatch.setattr("reviews.audit.AT_ONCE", at_once)
    assert "chain whole" in said("audit_verify", judged.slug)
    for sql, found in TAMPERED.items():
        with transaction.atomic():
            tampered(sql)
            with pytest.raises(CommandError, match=found.format(r"\d+")):
                said("audit_verify", judged.slug)
            transaction.set_rollback(True)


def test_a_verdict_from_before_the_record_proved_it_is_nothing_wrong(done):
    with live.change(done.project) as change:
        change.event("review.recorded", "", live.SYSTEM, slug="a", verdict="fix", review=10**6)
    assert verify(done.project) == ""


def test_a_deleted_project_still_proves_itself(done):
    archive.project_archive(done.project, done.owner, done.slug)
    archive.project_delete(done.project, done.owner, done.slug)
    assert verify(done.project) == ""


def test_the_export_holds_the_whole_chain(done):
    rows = [json.loads(line) for line in said("audit_export", done.slug).splitlines()]
    assert len(rows) == done.project.event_count
    before = ""
    for number, row in enumerate(rows, start=1):
        assert (row["number"], row["previous_hash"]) == (number, before)
        values = {**row, "at": parse_datetime(row["at"])}
        assert event_hash(Event(**values)) == row["hash"]
        before = row["hash"]
    assert before == done.project.event_hash
    table = list(csv.DictReader(StringIO(said("audit_export", done.slug, "--format", "csv"))))
    assert [row["hash"] for row in table] == [row["hash"] for row in rows]
    assert [json.loads(row["data"]) for row in table] == [row["data"] for row in rows]
