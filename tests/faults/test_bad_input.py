"""Bad repositories, plan files, checks and agents: each gets its reason, and all else goes on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError

from agents.models import RunLog
from agents.services.profiles import profile_set
from projects.models import Project
from reviews.models import CheckResult
from tests import factories
from tests.acceptance.stage import Stage, check, given, part
from tests.living import left_behind

PLAN = """version: 1
project: {name: Shop, goal: Sell., checks: [{run: "true", at: end}]}
modules:
  - slug: shop
    title: Shop
    owns: [shop.py]
    tests: [tests/test_shop.py]
    checks: ["true"]
"""


# --- Repositories and plan files -----------------------------------------------------------------


@pytest.fixture
def refusal(tutti_home: Path, alice: User, tmp_path: Path):
    """What `project_create` says when it refuses; no project is left behind."""

    def create(source: Path, plan: str = PLAN, **options: str) -> str:
        file = tmp_path / "tutti.yaml"
        file.write_text(plan)
        words = {"source": str(source), "plan": file, "owner": "alice", **options}
        with pytest.raises(CommandError) as caught:
            call_command("project_create", "shop", **words)
        return str(caught.value)

    return create


def test_a_missing_repository_is_named(refusal, tmp_path):
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere")
    assert not Project.objects.exists()


def test_an_empty_repository_says_what_to_do(refusal, tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path / "empty"], check=True)
    said = refusal(tmp_path / "empty")
    assert "no branch main" in said or "no commit" in said
    assert not Project.objects.exists()


def test_a_branch_that_does_not_exist_is_named(refusal, tmp_path):
    source = factories.source_repository(tmp_path / "source", {"shop.py": ""})
    said = refusal(source, branch="release")
    assert "release" in said
    assert not Project.objects.exists()


def test_unknown_keys_of_a_plan_file_come_with_their_lines(refusal, tmp_path):
    source = factories.source_repository(tmp_path / "source", {"shop.py": ""})
    said = refusal(source, PLAN.replace("    title: Shop\n", "    title: Shop\n    colour: red\n"))
    assert "line 6" in said and "colour" in said
    assert not Project.objects.exists()


# --- Checks --------------------------------------------------------------------------------------

#: Red, after 100 MB of noise.
FLOOD = "head -c 100000000 /dev/zero | tr '\\0' x; exit 1"


@pytest.mark.timeout(200)
def test_bad_checks_are_named_and_the_others_are_merged(team, settings):
    settings.TUTTI_CHECK_SECONDS = 5
    modules = [
        given("hangs", checks=["sleep 600"]),
        given("floods", checks=[FLOOD]),
        given("kills", checks=["kill -9 0"]),
        part("good"),
    ]
    stage: Stage = team(*modules, policies={"attempts": 1})
    stage.approve()
    stage.work(seconds=150)

    assert stage.statuses()["good"] == "merged"
    for slug, words in (("hangs", "in time"), ("kills", "killed"), ("floods", "exit 1")):
        module = stage.module(slug)
        assert module.status == "needs_person", (slug, module.status)
        assert words in said_of(stage, slug), said_of(stage, slug)
        assert [event.data["reason"] for event in stage.events("module.needs_person")
                if event.data["slug"] == slug] == [module.reason]  # fmt: skip
    longest = max(map(len, CheckResult.objects.values_list("output", flat=True)))
    assert 0 < longest <= 1_100_000


def said_of(stage: Stage, slug: str) -> str:
    """Everything that people read of a module that did not make it."""
    findings = [finding.message for finding in stage.findings(slug)]
    return "\n".join([stage.module(slug).reason, *findings])


# --- Agents --------------------------------------------------------------------------------------

#: Plays every module's executor: what it does beside its work depends on where it is.
AGENT = r"""
CANARY={canary}
slug=$(basename "$(dirname "$PWD")")
printf 'def answer():\n    return "%s"\n' "$slug" > "$slug.py"
case $slug in
  refs)
    git update-ref refs/heads/main 4b825dc642cb6eb9a060e54bf8d69288fbee4904 2>/dev/null
    git update-ref -d refs/tutti/base
    git update-ref -d refs/tutti/tests
    git checkout -q -b elsewhere
    git -c user.name=x -c user.email=x@x commit -q --allow-empty -m elsewhere ;;
  config)
    git config core.fsmonitor "touch $CANARY"
    git config core.sshCommand "touch $CANARY"
    git config diff.external "touch $CANARY"
    git config filter.evil.clean "touch $CANARY; cat"
    git config filter.evil.smudge "touch $CANARY; cat"
    mkdir -p .git/info
    echo '* filter=evil' > .git/info/attributes
    for hook in pre-commit post-commit reference-transaction post-checkout; do
      printf '#!/bin/sh\ntouch %s\n' "$CANARY" > ".git/hooks/$hook"
      chmod +x ".git/hooks/$hook"
    done ;;
  nul) printf 'x = "\0"\n' > nul.py; printf 'said \0 and \377\376\n' ;;
  names) : > "$(printf 'bad\377name.py')" ;;
  daemons)
    setsid sh -c 'trap "" TERM HUP; sleep 654321' >/dev/null 2>&1 &
    nohup sleep 654321 & ;;
esac
echo '{"tutti": {"summary": "Done."}}'
"""


@pytest.mark.timeout(200)
def test_bad_agents_are_named_and_harm_nobody(team, tmp_path, settings):
    canary = tmp_path / "canary"
    agent = tmp_path / "agent" / "agent.sh"
    agent.parent.mkdir()
    agent.write_text(AGENT.replace("{canary}", str(canary)))
    slugs = ["refs", "config", "nul", "names", "daemons", "good"]
    stage: Stage = team(*(given(slug) for slug in slugs), policies={"attempts": 1})
    command = {"command": ["/bin/sh", str(agent)], "readable": [str(agent.parent)]}
    root = factories.user("root", is_superuser=True)
    profile_set(stage.project, "executor", "command", "shell", command, root)
    before = stage.hub.head("refs/heads/main")
    stage.approve()
    stage.work(seconds=150)

    statuses = stage.statuses()
    assert {
        slug: statuses[slug] for slug in ("good", "refs", "config", "daemons")
    } == dict.fromkeys(("good", "refs", "config", "daemons"), "merged"), [
        said_of(stage, slug) for slug in slugs
    ]
    assert not canary.exists()
    assert stage.hub.head("refs/heads/main") == before
    assert left_behind("654321") == []
    for slug in ("nul", "names"):
        module = stage.module(slug)
        assert module.status == "needs_person"
        said = said_of(stage, slug)
        assert "null byte" in said if slug == "nul" else "name" in said, said
        reasons = [e.data["reason"] for e in stage.events("module.needs_person")]
        assert module.reason in reasons
    texts = [str(row.data) for row in RunLog.objects.filter(kind="message")]
    assert any("said" in text for text in texts) and not any("\0" in text for text in texts)
    assert stage.merged_file("good.py") == 'def answer():\n    return "good"\n'
    assert check("good") in [c.command for c in CheckResult.objects.filter(ok=True)]
