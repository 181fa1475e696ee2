"""Who plays a role is set per role, for the site and over it for a project."""

from __future__ import annotations

import os
import sys

from agents.models import RunLog
from agents.services.profiles import profile_for, profile_set
from tests.acceptance.stage import code, given, part

#: An agent in three lines of shell, with the answer in Tutti's own form.
AGENT = r"""
printf 'I am %s and I know %s variables\n' "$1" "$(env | grep -c SECRET)"
printf 'def answer():\n    return "a"\n' > a.py
echo '{"tutti": {"summary": "a answers."}}'
"""


def test_roles_are_played_by_what_the_project_or_else_the_site_says(team):
    stage = team(part("a"))
    alice = stage.owner
    profile_set(None, "planner", "replay", "site-strong", {}, alice)
    profile_set(None, "executor", "replay", "site-cheap", {}, alice)
    profile_set(stage.project, "executor", "replay", "project-cheap", {"scale": 0}, alice)
    stage.run()
    played = {
        run.kind: (run.role, run.backend, run.model)
        for run in stage.project.runs.filter(needs_slot=True)
    }
    assert played == {
        "tests": ("planner", "replay", "site-strong"),
        "build": ("executor", "replay", "project-cheap"),
        "review": ("orchestrator", "replay", profile_for(stage.project, "orchestrator").model),
    }
    (event,) = stage.events("profile.set")
    assert (event.actor, event.data["role"]) == ("person:alice", "executor")


def test_one_role_is_played_by_a_program(team, monkeypatch):
    monkeypatch.setitem(os.environ, "A_SECRET", "hidden")
    stage = team(given("a"))
    command = {"command": ["/bin/sh", "-c", AGENT, "agent", "{model}"]}
    profile_set(stage.project, "executor", "command", "tiny-1", command, stage.owner)
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    (built,) = stage.runs("a", "build")
    assert (built.backend, built.model) == ("command", "tiny-1")
    assert built.result == {"summary": "a answers."}
    (review,) = stage.runs("a", "review")
    assert review.backend == "replay"
    said = RunLog.objects.filter(run=built, kind="message").values_list("data", flat=True)
    assert {"text": "I am tiny-1 and I know 0 variables"} in list(said)
    assert stage.merged_file("a.py") == code("a")
    if sys.platform == "linux":
        assert built.sandbox == review.sandbox != ""
