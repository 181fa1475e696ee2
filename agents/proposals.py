"""The orchestrator cuts a goal into modules: a draft for people, held to what a file is held to."""

from __future__ import annotations

from agents import assignments, conversations, sandbox, turns
from agents.models import Run
from agents.outline import outline
from agents.scheduler import start_next
from agents.services import runs
from agents.services.outcomes import fail
from agents.survey import survey
from agents.work import Work, slot
from agents.workspaces import Workspace
from projects import live, planfile
from projects.hub import integration_ref
from projects.services.proposals import proposal_problems, proposal_take
from projects.text import clean_text

MAX_TURNS = 3
MOST_PROBLEMS = 50
#: No module's slug begins with a dash, so that no module's clone is meant.
WORKSPACE = "-decompose"


def propose(work: Work) -> list[Run]:
    """Ask, hold the answer against what a person's file is held to, and ask again with what is
    wrong, at most three times. Nothing is written to the repository."""
    head = str(work.hub.head(integration_ref()))
    runs.run_update(work.run, base_commit=head)
    files = work.hub.files(head)
    with slot(work):
        code = survey(work.hub, head, sandbox.Runner(), work.environment, stop=work.stop)
    about = outline(code)
    workspace = Workspace.of(work.run.project_id, WORKSPACE)
    problems: list[str] = []
    try:
        # Once: an agent that waits for its next prompt would lose its directory by a new clone.
        workspace.prepare(work.hub, head)
        for _ in range(MAX_TURNS):
            assignment = assignments.decompose(work.run, files, problems, outline=about)
            outcome = turns.prompt(work, workspace, assignment)
            file, problems = read_plan(work, outcome.result)
            if file is not None and not problems:
                return _proposed(work, file, str(outcome.result.get("summary", "")))
            turns.judged(work)
            for problem in problems:
                work.log.add("finding", {"source": "plan", "path": "", "message": problem})
            work.log.flush()
    finally:
        workspace.remove()
    return fail(
        work,
        f"After {MAX_TURNS} turns the plan still can't be used: {problems[0]} "
        "Ask again, or cut the goal yourself.",
        kind="gate",
        owner=Run.Owner.AGENT,
    )


def read_plan(work: Work, result: dict[str, object]) -> tuple[planfile.PlanFile | None, list[str]]:
    """The plan in an answer and all that is wrong with it, as sentences."""
    if not isinstance(result.get("plan"), dict):
        said = clean_text(str(result), 200)
        return None, [f'The answer holds no "plan"; it was {said}.']
    try:
        file = planfile.read(result["plan"])
    except planfile.PlanFileError as error:
        return None, [f"{one.path}: {one.message}" for one in error.problems[:MOST_PROBLEMS]]
    return file, proposal_problems(work.plan, file)[:MOST_PROBLEMS]


def _proposed(work: Work, file: planfile.PlanFile, summary: str) -> list[Run]:
    by = live.Actor.run(work.run.pk)

    def then(change: live.Change) -> None:
        turns.judged(work)
        if not proposal_take(work.plan, file, by):
            specs = planfile.module_specs(file)
            conversations.propose(work.run, work.plan.goal, specs, clean_text(summary, 5000))

    work.log.flush()
    return runs.run_end(work.run, Run.Status.SUCCEEDED, then=then, start_next=start_next)
