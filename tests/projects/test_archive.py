"""A project put away: nothing starts, owners take it back or delete it; the record stays."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from agents import scheduler
from agents.services import runs
from projects.models import Event, Project
from projects.services import archive
from projects.services.errors import Refused, Stale
from reviews.audit import verify
from tests import factories as make

pytestmark = pytest.mark.django_db


@pytest.fixture
def project(tutti_home):
    made = make.project()
    make.module(make.plan(made), "cart", "waiting")
    made.hub_path.mkdir(parents=True)
    return made


def test_an_owner_archives_by_typing_its_name(client, project):
    url = reverse("projects:archive", args=["shop"])
    client.force_login(make.user("alice"))
    client.post(url, {"confirm": "ship"})
    project.refresh_from_db()
    assert project.archived_at is None
    answer = client.post(url, {"confirm": "shop"}, follow=True)
    assert "Shop is archived." in answer.content.decode()
    assert 'id="archived-' in answer.content.decode()
    assert client.get(reverse("projects:plan", args=["shop"])).status_code == 404
    assert "shop" not in client.get(reverse("projects:list")).content.decode()
    assert scheduler.start(project) == [], "what is archived refuses to run"
    client.force_login(make.user("bob"))
    assert 'id="archived-' not in client.get(reverse("projects:archive-list")).content.decode()


def test_it_comes_back_as_it_was(project):
    alice = make.user("alice")
    archive.project_archive(project, alice, "shop")
    archive.project_restore(project, alice)
    assert scheduler.start(project) != []
    kinds = Event.objects.filter(project=project).values_list("kind", flat=True)
    assert {"project.archived", "project.restored"} <= set(kinds)


def test_it_is_not_archived_while_agents_work(project):
    Project.objects.filter(pk=project.pk).update(active_runs=1)
    with pytest.raises(Refused, match="1 agents are at work"):
        archive.project_archive(project, make.user("alice"), "shop")


def test_a_run_whose_gate_was_at_work_ends(project):
    alice = make.user("alice")
    run = make.run(project.modules.get(), status="checking", slot_wanted_at=timezone.now())
    archive.project_archive(project, alice, "shop")
    assert not runs.run_slot_take(run, lambda project: 5), "no agent works in it any more"
    assert runs.orders([run.pk])[run.pk][::2] == ("stopping", "Its project was archived.")


def test_deleting_takes_the_code_and_keeps_the_record(
    client, project, django_capture_on_commit_callbacks
):
    alice = make.user("alice")
    with pytest.raises(Stale, match="Only an archived project"):
        archive.project_delete(project, alice, "shop")
    archive.project_archive(project, alice, "shop")
    client.force_login(alice)
    record = client.get(reverse("projects:archive-log", args=["shop", "jsonl"]))
    assert b"project.archived" in record.content
    with django_capture_on_commit_callbacks(execute=True):
        archive.project_delete(project, alice, "shop")
    assert not project.hub_path.exists()
    project.refresh_from_db()
    assert project.slug == f"shop~{project.pk}"
    assert verify(project) == ""
    last = Event.objects.filter(project=project).latest("number")
    assert (last.kind, last.data["was"]) == ("project.deleted", "shop")
    assert client.get(reverse("projects:archive-log", args=["shop", "csv"])).status_code == 404
    assert make.project("shop").pk != project.pk, "its name is free"
