"""From the goal alone: the recorded orchestrator proposes the very plan that the example ships."""

from __future__ import annotations

import pytest

from agents import scheduler, tasks
from agents.services.recovery import check_invariants
from projects import plancontent, planfile
from projects.services.plans import plan_import
from projects.services.projects import project_create, settings_set
from projects.services.proposals import proposal_ask
from tests import factories


@pytest.mark.parametrize("name", ["itsdangerous", "boltons"])
def test_the_goal_becomes_the_plan_that_ships(
    transactional_db, settings, tutti_home, example, name
):
    prepared = example(name)
    settings.TUTTI_SOURCE_ROOTS = [str(prepared.repo.parent)]
    alice = factories.user("alice")
    shipped = planfile.load(prepared.plan_file.read_text(encoding="utf-8"))
    head = shipped.project.model_copy(
        update={"replay": shipped.project.replay.model_copy(update={"scale": 0.0})}
    )
    project = project_create(slug=name, source=str(prepared.repo), owner=alice)
    settings_set(project=project, by=alice, name=head.name)
    project.refresh_from_db()
    plan_import(project, planfile.PlanFile(project=head), alice)

    plan = proposal_ask(project, alice)
    (run,) = scheduler.start(project)
    tasks.run_execute(run.pk, run.fence)

    run.refresh_from_db()
    assert (run.status, run.turns, run.backend) == ("succeeded", 1, "replay"), run.reason
    plan.refresh_from_db()
    assert plancontent.plan_file(plan) == shipped.model_copy(update={"project": head})
    assert plancontent.plan_problems(plan) == []
    assert plan.conversation.entries.get().run_topic == run.topic
    assert check_invariants() == []
