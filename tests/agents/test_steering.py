"""Writing to a run's agent: who may, what is refused, and what pages and API show."""

from __future__ import annotations

import json

import pytest
from django.urls import reverse
from django.utils import timezone

from agents.models import Steer
from agents.services import steering
from projects import live
from projects.models import Event, Module
from projects.services.errors import Refused
from projects.services.modules import module_retry
from tests import factories as make


@pytest.fixture
def module(db):
    return make.module(make.plan(make.project()), "cart", "building")


@pytest.fixture
def run(module):
    return make.run(module)


@pytest.fixture
def bob(run):
    return make.user("bob")


def write(run, text="Mind the tax.", **options):
    return steering.steer_write(run, text, make.user("bob"), **options)


def test_it_is_queued_and_audited(run, bob):
    steer = write(run)
    assert (steer.state, steer.run, steer.by) == ("queued", run, bob)
    event = Event.objects.filter(kind="steer.written").get()
    assert (event.actor, event.topic) == ("person:bob", run.topic)
    assert event.data["text"] == "Mind the tax."


@pytest.mark.parametrize("text", ["", " \n ", "x" * 10_001])
def test_nothing_and_too_much_are_refused(run, text):
    with pytest.raises(Refused):
        write(run, text)
    assert not Steer.objects.exists()


def test_only_an_agent_can_be_told(module, run):
    run.status = "succeeded"
    run.holds_slot = False
    run.save()
    merge = make.run(module, "merge", needs_slot=False, holds_slot=False)
    with pytest.raises(Refused, match="No agent works"):
        write(merge)


def test_only_an_agent_that_can_be_interrupted_is(module, run):
    assert not write(run, at_once=True).at_once
    run.backend = "acp"
    run.save()
    assert write(run, at_once=True).at_once


def test_after_the_end_it_is_kept_unless_the_module_is_done(module, run):
    run.status, run.holds_slot, run.ended_at = "succeeded", False, timezone.now()
    run.save()
    steer = write(run)
    assert "kept for the next run" in steer.receipt
    Module.objects.filter(pk=module.pk).update(status="merged")
    with pytest.raises(Refused, match="nobody is left"):
        write(run)
    assert Steer.objects.select_related("module", "run").get().state == "lost"


def test_the_page_shows_form_and_receipt(client, run, bob):
    client.force_login(bob)
    url = reverse("agents:steer", args=["shop", run.pk])
    said = client.post(url, {"text": "Mind <b>the</b> tax."}, headers={"HX-Request": "true"})
    assert "Queued" in said.content.decode()
    assert client.get(url).status_code == 405
    assert client.post(url, {"text": ""}, headers={"HX-Request": "true"}).status_code == 422
    html = client.get(reverse("agents:run", args=["shop", run.pk])).content.decode()
    assert "Mind &lt;b&gt;the&lt;/b&gt; tax." in html
    assert 'id="steer-text"' in html
    assert "interrupt what it does" not in html
    Steer.objects.update(told_run=run, told_turn=2, told_at=timezone.now())
    run.status, run.holds_slot = "succeeded", False
    run.save()
    html = client.get(reverse("agents:run", args=["shop", run.pk])).content.decode()
    assert "Delivered at turn 2." in html
    assert 'id="steer-text"' not in html


def test_the_api_writes_and_lists(client, run, bob):
    client.force_login(bob)
    url = f"/api/projects/shop/runs/{run.pk}/steers"
    body = json.dumps({"text": "Mind the tax."})
    answer = client.post(url, body, content_type="application/json")
    assert answer.status_code == 200, answer.content
    assert (answer.json()["state"], answer.json()["by"]) == ("queued", "bob")
    assert [row["text"] for row in client.get(url).json()] == ["Mind the tax."]


def test_a_retry_says_from_which_checkpoint(module):
    by = live.SYSTEM
    assert "nothing of it was kept" in module_retry(module, by)
    Module.objects.filter(pk=module.pk).update(head_commit="a" * 40)
    module.refresh_from_db()
    assert module_retry(module, by) == "cart goes on from its last checkpoint, aaaaaaaaaa."
