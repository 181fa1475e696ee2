"""Test a provider: really started in its sandbox, said step by step, charged, and bounded."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from django.core.management import CommandError, call_command
from django.test import TestCase
from django.utils import timezone

from agents import sandbox
from agents.models import Price, Profile, Provider, ProviderTest, Quota, QuotaEntry
from agents.services import budgets, providertests
from agents.services.secrets import secret_set
from config import processes
from projects.models import Event, Role, SiteEvent
from projects.services.errors import Refused
from tests import factories
from tests.agents.llmstub import IN, OUT, Refusal, Stub
from tests.projects.pages import client_of
from tests.wait import until

AGENT = Path(__file__).with_name("acp_agent.py")
HTMX: dict[str, Any] = {"headers": {"HX-Request": "true"}}


@pytest.fixture
def shop(db, tutti_home):
    return factories.project("shop", people={"alice": Role.OWNER, "mia": Role.MAINTAINER})


@pytest.fixture
def lab(db):
    return Provider.objects.create(name="lab", title="The lab")


def acp(*words, **settings):
    command = [sandbox.python(), "-I", "-S", str(AGENT), *words]
    return {"command": command, "readable": [str(AGENT)], "start_seconds": 30, **settings}


def tried(project, settings, *, backend="acp", role="executor", model="", provider=None):
    """The test of a profile, asked for by mia and made in this process."""
    Profile.objects.update_or_create(
        project=project, role=role,
        defaults={"backend": backend, "model": model, "settings": settings, "provider": provider},
    )  # fmt: skip
    asked = providertests.test_ask(project, role, factories.user("mia"))
    providertests.test_do(asked.pk)
    return ProviderTest.objects.get(pk=asked.pk)


def steps(test):
    return {row.key: (row.state, row.text) for row in providertests.rows_of(test)}


def quota(measure="tokens", limit=1_000_000, **values):
    return Quota.objects.create(measure=measure, period="day", limit=limit,
                                **{"scope": "site", **values})  # fmt: skip


def test_an_agent_is_started_and_every_step_said(shop, lab, tutti_home):
    whole = [quota(), quota("money", 5, scope="provider", provider=lab)]
    done = tried(shop, acp(), model="big", provider=lab)
    assert (providertests.status_of(done), done.problem) == ("passed", "")
    found = steps(done)
    assert {state for state, _ in found.values()} <= {"passed", "unsure"}
    assert "tester 1.2" in found["agent"][1]
    assert found["protocol"][1] == "Agent Client Protocol 1"
    assert (found["models"][1], found["modes"][1]) == ("small, big", "build, plan")
    assert found["program"][1] == sandbox.python()
    assert sandbox.level() in found["sandbox"][1]
    assert found["tokens"][1] == "150 in, 15 out (estimated)"
    assert found["money"][1] == "0.2500 USD"
    assert done.facts["first_at"] >= 0 and "pid" in done.facts["answer"]
    spent = [QuotaEntry.objects.get(quota=one, test=done).spent for one in whole]
    assert spent == [Decimal(165), Decimal("0.25")]
    assert not budgets.violations()
    assert list((tutti_home / "checks").iterdir()) == []
    kinds = list(Event.objects.filter(project=shop).values_list("kind", flat=True))
    assert kinds == ["provider.testing", "provider.tested"]


@pytest.mark.parametrize(
    ("values", "step", "said"),
    [
        ({"command": ["no-such-agent", "acp"]}, "program", "no-such-agent is not installed"),
        (acp("locked"), "sign_in", "needs sign-in"),
        (acp("die"), "agent", "something went very wrong"),
        (acp(mode="nine"), "agent", "does not offer nine as its mode"),
    ],
)
def test_a_failure_is_said_at_its_step_as_a_run_would(shop, values, step, said):
    done = tried(shop, values)
    state, text = steps(done)[step]
    assert (state, providertests.status_of(done)) == ("failed", "failed")
    assert said in text and text == done.problem
    assert not QuotaEntry.objects.exists()


def test_a_key_that_an_agent_tells_is_nowhere(shop, lab):
    root = factories.user("root", is_superuser=True)
    secret_set(lab, root, "sk-told-everywhere-1", "AGENT_TOKEN")
    code = 'import os; print("my key is", os.environ["AGENT_TOKEN"])'
    lab.refresh_from_db()
    done = tried(shop, {"command": [sandbox.python(), "-I", "-S", "-c", code]},
                  backend="command", provider=lab)  # fmt: skip
    assert done.facts["answer"].startswith("my key is")
    assert "sk-told" not in json.dumps([done.facts, done.problem, done.settings])
    assert "as AGENT_TOKEN" in steps(done)["sign_in"][1]
    assert (steps(done)["tokens"][1], steps(done)["money"][1]) == (
        "unknown: it does not say", "unknown",
    )  # fmt: skip


def test_a_model_api_is_asked_and_priced(db, tutti_home, lab):
    Price.objects.create(model="small", input_per_million=1, output_per_million=2)
    limit = quota()
    stub = Stub(lambda body: {"word": "ready"})
    try:
        done = tried(None, {"base_url": stub.url}, backend="llm", role="orchestrator",
                      model="small", provider=lab)  # fmt: skip
        assert (done.problem, done.facts["answer"]) == ("", "ready")
        assert steps(done)["tokens"] == ("passed", f"{IN:,} in, {OUT} out (exact)")
        assert steps(done)["money"][1] == "0.0011 USD"
        assert QuotaEntry.objects.get(quota=limit).spent == IN + OUT
        assert list(SiteEvent.objects.values_list("kind", flat=True)) == [
            "provider.testing", "provider.tested",
        ]  # fmt: skip

        def refuse(body):
            raise Refusal(429, "Too many requests", Retry_After="60")

        stub.script = refuse
        done = tried(None, {"base_url": stub.url}, backend="llm", role="orchestrator",
                      model="small", provider=lab)  # fmt: skip
    finally:
        stub.close()
    assert done.problem_kind == "rate_limited"
    lab.refresh_from_db()
    assert lab.breaker == Provider.Breaker.THROTTLED
    with pytest.raises(Refused, match="the next run starts at"):
        providertests.test_ask(None, "orchestrator", factories.user("mia"))


def test_a_quota_that_is_used_up_lets_no_test_through(shop):
    limit = quota(limit=10)
    Profile.objects.create(project=shop, role="executor", backend="acp", settings=acp())
    Quota.objects.filter(pk=limit.pk).update(spent=10)
    with pytest.raises(Refused, match="used up"):
        providertests.test_ask(shop, "executor", factories.user("mia"))


def test_a_lost_test_is_said_and_another_may_follow(shop):
    Profile.objects.create(project=shop, role="executor", backend="acp", settings=acp())
    first = providertests.test_ask(shop, "executor", factories.user("mia"))
    assert providertests.test_ask(shop, "executor", factories.user("alice")).pk == first.pk
    ago = timezone.now() - timedelta(seconds=providertests.LOST_SECONDS + 5)
    ProviderTest.objects.filter(pk=first.pk).update(started_at=ago, seen_at=ago)
    page = client_of(factories.user("mia")).get(f"/projects/shop/tests/{first.pk}/", **HTMX)
    assert "ended without a word" in page.content.decode()
    assert "hx-trigger" not in page.content.decode()
    assert providertests.test_ask(shop, "executor", factories.user("mia")).pk != first.pk
    first.refresh_from_db()
    assert (providertests.status_of(first), first.problem) == ("failed", providertests.LOST)


def test_buttons_and_api_ask_a_worker_and_replay_is_refused(shop, monkeypatch):
    sent = []
    monkeypatch.setattr("dramatiq.brokers.redis.RedisBroker.enqueue",
                        lambda self, message: sent.append(message))  # fmt: skip
    mia = client_of(factories.user("mia"))
    answer = mia.post("/projects/shop/profiles/executor/test/", **HTMX)
    assert answer.status_code == 422 and "nothing to test" in answer.content.decode()
    Profile.objects.create(project=shop, role="executor", backend="acp", settings=acp())
    assert 'id="test-executor"' in mia.get("/projects/shop/profiles/").content.decode()
    with TestCase.captureOnCommitCallbacks(execute=True):
        answer = mia.post("/projects/shop/profiles/executor/test/", **HTMX)
    pk = ProviderTest.objects.get().pk
    assert answer.headers["HX-Redirect"] == f"/projects/shop/tests/{pk}/"
    assert [(one.queue_name, one.actor_name) for one in sent] == [("runs", "provider_test")]
    page = mia.get(f"/projects/shop/tests/{pk}/").content.decode()
    assert "waits for a worker" in page and 'hx-trigger="every 1s"' in page
    found = mia.get(f"/api/projects/shop/tests/{pk}").json()
    assert (found["status"], found["steps"][0]["key"]) == ("asked", "sandbox")
    again = mia.post("/api/projects/shop/profiles/executor/test", content_type="application/json")
    assert again.json()["id"] == pk


def test_the_command_does_it_by_itself(shop):
    Profile.objects.create(project=None, role="planner", backend="acp", settings=acp())
    out = StringIO()
    call_command("provider_test", "planner", "--project", "shop", stdout=out)
    assert "tester 1.2" in out.getvalue() and "works as planner" in out.getvalue()
    with pytest.raises(CommandError, match="nothing to test"):
        call_command("provider_test", "executor")


def test_a_ready_made_agent_fills_the_form_and_saves_nothing(shop):
    mia = client_of(factories.user("mia"))
    url = "/projects/shop/profiles/executor/"
    data = {"agent": "opencode", "backend": "replay", "model": "m",
            "settings": '{"command": ["old"], "timeout_seconds": 60}'}  # fmt: skip
    page = mia.post(f"{url}?fill=1", data, **HTMX).content.decode()
    assert (
        "npm install -g opencode-ai" in page and "&quot;agent&quot;: &quot;opencode&quot;" in page
    )
    assert "&quot;timeout_seconds&quot;: 60" in page and "&quot;old&quot;" not in page
    assert not Profile.objects.exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ('{"agent": ', "not JSON: Expecting value at line 1, column 10"),
        ('{"a": NaN}', "NaN is no number"),
        ("[1]", "a JSON object"),
        ('{"command": ["a"], "x": "\\u0000"}', "can&#x27;t be kept"),
        ('{"command": ["a"], "x": "\\ud800"}', "can&#x27;t be kept"),
        ('{"agent": "opencod"}', "There is no agent opencod"),
    ],
)
def test_bad_settings_are_refused_with_the_place(shop, typed, said):
    data = {"backend": "acp", "model": "m", "settings": typed}
    answer = client_of(factories.user("mia")).post(
        "/projects/shop/profiles/executor/", data, **HTMX
    )
    assert answer.status_code == 422 and said in answer.content.decode()


@pytest.mark.timeout(120)
def test_a_worker_makes_it(tutti_home, service_env, transactional_db, monkeypatch):
    monkeypatch.setattr(dramatiq.get_broker(), "namespace", "tests-of-providers.dramatiq")
    shop = factories.project("shop", people={"alice": Role.OWNER, "mia": Role.MAINTAINER})
    Profile.objects.create(project=shop, role="executor", backend="acp", settings=acp())
    asked = providertests.test_ask(shop, "executor", factories.user("mia"))
    program = processes.workers("runs", 1)
    env = {**service_env, **program.env, "TUTTI_REDIS_PREFIX": "tests-of-providers"}
    with subprocess.Popen(program.command, env=env, stderr=subprocess.DEVNULL) as worker:
        try:
            until(lambda: providertests.is_over(ProviderTest.objects.get(pk=asked.pk)), seconds=60)
        finally:
            worker.terminate()
    done = ProviderTest.objects.get(pk=asked.pk)
    assert (providertests.status_of(done), done.problem) == ("passed", "")
    assert done.host and "tester" in steps(done)["agent"][1]
