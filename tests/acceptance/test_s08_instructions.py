"""Standing instructions of site, project and role reach every agent, whole and as they stand."""

from __future__ import annotations

import hashlib

from agents.models import RunLog
from agents.services.profiles import profile_set
from projects.services.projects import instruction_set
from tests.acceptance.stage import given, part

DEFAULT = "Parallelize when possible."


def sent(stage):
    """Every assignment that was sent: (role, whole text)."""
    return [
        (run.role, turn["text"]) for run in stage.project.runs.all() for turn in run.assignments
    ]


def test_the_sites_default_is_in_every_assignment(team):
    stage = team(part("a"))
    stage.run()
    assert {role for role, _ in sent(stage)} == {"planner", "executor", "orchestrator"}
    for _, text in sent(stage):
        assert text.startswith(f"# Standing instructions\n{DEFAULT}\n")
    for run in stage.project.runs.filter(needs_slot=True):
        assert all(turn["prompt_version"] and turn["at"] for turn in run.assignments)


def test_project_and_role_add_to_the_site_and_an_edit_holds(team):
    stage = team(given("a"), instructions="The plan's own.")
    alice = stage.owner
    instruction_set(text="Old site text.", by=alice)
    instruction_set(text="New site text.", by=alice)
    instruction_set(text="Only this team.", by=alice, project=stage.project)
    instruction_set(text="Reviewers of all teams.", by=alice, role="orchestrator")
    instruction_set(text="Coders here.", by=alice, project=stage.project, role="executor")
    stage.run()
    common = "New site text.\n\nOnly this team.\n\nThe plan's own."
    texts = dict(sent(stage))
    assert f"{common}\n\nCoders here.\n\n# Your task" in texts["executor"]
    assert f"{common}\n\nReviewers of all teams.\n\n# What" in texts["orchestrator"]
    for text in texts.values():
        assert DEFAULT not in text
        assert "Old site text." not in text


def test_what_was_sent_is_kept_as_the_agent_got_it(team):
    stage = team(given("a"))
    script = 'sha256sum; cat "$1" | wc -c; printf \'def answer():\\n    return "a"\\n\' > a.py'
    command = {"command": ["/bin/sh", "-c", script, "agent", "{prompt_file}"]}
    profile_set(stage.project, "executor", "command", "sums", command, stage.owner)
    stage.run()
    assert stage.statuses() == {"a": "merged"}
    (built,) = stage.runs("a", "build")
    text = built.assignments[0]["text"].encode()
    said = [row.data["text"] for row in RunLog.objects.filter(run=built, kind="message")]
    assert said[0].split()[0] == hashlib.sha256(text).hexdigest()
    assert said[1] == str(len(text))
