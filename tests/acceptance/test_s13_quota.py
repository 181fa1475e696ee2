"""Budgets and providers stop work, keep what it made, and let it go on by itself."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from agents.models import Profile, Provider, Quota, QuotaEntry, Run
from agents.services.budgets import violations
from agents.services.profiles import profile_set
from agents.services.providers import price_set
from agents.services.quotas import quota_set
from agents.workspaces import Workspace
from projects.models import Attention, Module, SiteEvent
from tests import factories
from tests.acceptance.stage import Stage, Turn, code, given
from tests.wait import until

SLACK = timedelta(seconds=0.3)

#: An agent whose provider answers as the file beside it says: "<kind> <until>" or nothing.
AGENT = """
import datetime, json, pathlib, sys, time
name = pathlib.Path(sys.argv[1]).read_text().split("Answer with ")[1].split(".")[0]
kind, until = pathlib.Path(sys.argv[2]).read_text().split()
left = float(until) - time.time()
if left > 0 and kind == "rate_limited":
    print(json.dumps({"event": "error", "kind": kind, "retry_after": left}))
    sys.exit(1)
if left > 0 and kind == "exhausted" and name == "a":
    at = datetime.datetime.fromtimestamp(float(until), datetime.timezone.utc).isoformat()
    print(json.dumps({"event": "error", "kind": kind, "resets_at": at}))
    sys.exit(1)
if left > 0:
    time.sleep(60)
pathlib.Path(name + ".py").write_text('def answer():\\n    return "%s"\\n' % name)
print(json.dumps({"event": "result", "data": {"summary": "done"}}), flush=True)
"""


@pytest.fixture
def admin(transactional_db):
    return User.objects.create(username="root", is_superuser=True)


def account(stage: Stage, folder: Path, kind: str, seconds: float) -> Provider:
    """Let the stage's executors be scripted agents of an account that has a wall."""
    folder = folder / "agent"
    folder.mkdir()
    (folder / "agent.py").write_text(AGENT)
    (folder / "wall").write_text(f"{kind} {time.time() + seconds}")
    command = {
        "command": ["python3", str(folder / "agent.py"), "{prompt_file}", str(folder / "wall")],
        "readable": [str(folder)],
    }
    acme = Provider.objects.create(name="acme")
    root = factories.user("root", is_superuser=True)
    profile_set(stage.project, "executor", "command", "m", command, root, provider=acme)
    return acme


def work_until_merged(stage: Stage) -> None:
    def is_merged() -> bool:
        stage.work()
        return set(stage.statuses().values()) == {"merged"}

    until(is_merged, seconds=60, what="all to be merged", every=0.2)


def sent(stage: Stage, slugs: str) -> list[datetime]:
    runs = [run for slug in slugs for run in stage.runs(slug, "build")]
    return [datetime.fromisoformat(one["at"]) for run in runs for one in run.assignments]


def test_a_storm_of_429_starts_nothing_into_the_wall_and_ends_well(team, tmp_path, settings):
    settings.TUTTI_PROVIDER_CALM_SECONDS = 1
    stage = team(*(given(name) for name in "abcd"))
    acme = account(stage, tmp_path, "rate_limited", 6)
    stage.approve()
    work_until_merged(stage)
    refused = Run.objects.filter(reason_kind="rate_limited")
    assert 1 <= refused.count() <= 4, "only those that were at work when the wall came"
    assert {(run.status, run.reason_owner) for run in refused} == {("interrupted", "provider")}
    throttled = SiteEvent.objects.filter(kind="provider.throttled")
    (wall,) = throttled
    end = datetime.fromisoformat(wall.data["until"])
    assert end > wall.at + timedelta(seconds=1)
    into = [at for at in sent(stage, "abcd") if wall.at + SLACK < at < end - SLACK]
    assert into == [], "nothing is sent into a wall that is known"
    assert not Module.objects.filter(failures__gt=0).exists()
    assert not Run.objects.filter(status="failed").exists()
    acme.refresh_from_db()
    assert acme.active_runs == 0
    assert stage.merged_file("d.py") == code("d")


def test_an_exhausted_account_pauses_its_runs_and_wakes_them(team, tmp_path):
    stage = team(given("a"), given("b"))
    acme = account(stage, tmp_path, "exhausted", 8)
    stage.approve()
    work_until_merged(stage)
    first = stage.runs("a", "build")[0]
    assert (first.status, first.reason_kind, first.reason_owner) == (
        "interrupted", "exhausted", "provider",
    )  # fmt: skip
    paused = stage.runs("b", "build")[0]
    assert (paused.status, paused.reason_kind, paused.reason_owner) == (
        "interrupted", "provider", "provider",
    )  # fmt: skip
    assert "The provider acme is used up: paused, another run goes on at" in paused.reason
    told = SiteEvent.objects.get(kind="provider.exhausted")
    end = datetime.fromisoformat(told.data["until"])
    assert [at for at in sent(stage, "ab") if told.at + SLACK < at < end - SLACK] == []
    assert SiteEvent.objects.filter(kind="provider.woken").count() == 1
    assert not Module.objects.filter(failures__gt=0).exists()
    acme.refresh_from_db()
    assert (acme.breaker, acme.active_runs) == ("closed", 0)


def test_a_run_over_its_estimate_stops_after_the_call_and_goes_on_when_raised(team, admin):
    stage = team(given("a"))
    stage.play("a", "build", Turn({"a.py": "half"}), Turn({"a.py": code("a")}))
    site: dict[str, Any] = {"scope": "site", "measure": "tokens", "period": "day"}
    # A first guess of 60,000 fits; the turn used 110, and a second reservation does not.
    quota_set(admin, limit=60_050, **site)
    stage.run()
    (stopped,) = stage.runs("a", "build")
    assert (stopped.status, stopped.reason_kind, stopped.reason_owner) == (
        "interrupted", "quota", "provider",
    )  # fmt: skip
    assert "used up (110 of 60,050)" in stopped.reason
    assert (stopped.turns, stopped.estimate_tokens) == (1, 60_000)
    assert stage.statuses() == {"a": "building"}
    assert stage.module("a").failures == 0
    assert Workspace.of(stage.project.pk, "a").path.exists()
    assert Attention.objects.get(kind="quota", closed_at=None).user == admin
    quota_set(admin, limit=10**6, **site)
    stage.work()
    assert stage.statuses() == {"a": "merged"}
    assert not Attention.objects.filter(closed_at=None).exists()
    quota = Quota.objects.get()
    assert (float(quota.spent), float(quota.reserved)) == (330, 0)


def test_unreported_use_stays_unknown_and_counts_as_an_estimate(team, admin, tmp_path):
    stage = team(given("a"))
    account(stage, tmp_path, "none", 0)
    price_set(admin, None, "m", 1, 1)
    quota_set(admin, scope="site", measure="tokens", period="day", limit=10**6)
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    (built,) = stage.runs("a", "build")
    assert (built.input_tokens, built.cost, built.usage_quality) == (None, None, "unknown")
    entry = QuotaEntry.objects.get(run=built)
    assert (float(entry.spent), entry.is_estimated) == (60_000, True)
    (review,) = stage.runs("a", "review")
    assert not QuotaEntry.objects.get(run=review).is_estimated
    assert review.input_tokens == 100


def test_known_prices_make_known_costs(team, admin):
    stage = team(given("a"))
    acme = Provider.objects.create(name="acme")
    profile_set(stage.project, "executor", "replay", "fast", {}, stage.owner, provider=acme)
    price_set(admin, None, "fast", 999, 999)
    price_set(admin, acme, "fast", 10, 100)
    money = quota_set(admin, scope="provider", provider=acme, measure="money", period="month",
                      limit=50)  # fmt: skip
    stage.run()
    (built,) = stage.runs("a", "build")
    assert built.provider == acme
    assert float(built.cost) == pytest.approx((100 * 10 + 10 * 100) / 1e6)
    money.refresh_from_db()
    assert money.spent == built.cost
    assert money.reserved == 0
    (review,) = stage.runs("a", "review")
    assert (review.provider, review.cost) == (None, None), "nobody entered its price"
    assert violations() == []


def test_an_unknown_account_that_refuses_is_remembered_by_the_module(team, tmp_path):
    stage = team(given("a"))
    account(stage, tmp_path, "rate_limited", 3600)
    Profile.objects.update(provider=None)
    stage.run()
    module = stage.module("a")
    assert (module.status, module.failures) == ("building", 0)
    assert module.not_before > timezone.now() + timedelta(minutes=50)
    (tmp_path / "agent" / "wall").write_text("rate_limited 0")
    Module.objects.update(not_before=timezone.now())
    stage.work()
    assert stage.statuses() == {"a": "merged"}
