"""Plans that the orchestrator proposes: asked for by a person, there as a draft to edit."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone

from projects import graph, live, plancontent, planfile
from projects.models import Event, Plan, Project, Role
from projects.services.attention import attention_close, attention_open
from projects.services.errors import Problem, Refused
from projects.services.plans import open_plan, plan_draft, plan_fill, topic_of

ASKED, PROPOSED, FAILED = "plan.proposal_asked", "plan.proposed", "plan.proposal_failed"
CUT = "plan.cut"
#: What a proposal may not change: the goal and what people allow are theirs to write.
KEPT = ("goal", "instructions", "policies", "replay")
DEFAULTS = planfile.ProjectPart().model_dump(mode="json")


@dataclass(frozen=True)
class Proposal:
    """How it stands with the newest proposal of a plan: asked, done or failed."""

    asked: Event
    ended: Event | None
    run_id: int | None


def proposal_ask(project: Project, by: User) -> Plan:
    """Want a plan of the orchestrator; the clock starts its run as soon as a slot is free.

    Raises Refused without a goal, while a plan waits for approval, while one is being proposed,
    and when the open draft holds what people cut: a proposal never writes over that.
    """
    with live.change(project) as change:
        plan = plan_draft(project, by)
        if plan.status != Plan.Status.DRAFT:
            raise Refused(f"Plan {plan.number} waits for approval. Withdraw it, then ask.")
        if plan.proposal_at is not None:
            raise Refused("The orchestrator is at work on a plan already; wait for it.")
        if not plan.goal.strip():
            message = "Say first what the goal is: the orchestrator cuts it into modules."
            raise Refused(message, [Problem("", "goal", message)])
        _must_be_untouched(plan)
        Plan.objects.filter(pk=plan.pk).update(
            proposal_at=timezone.now(), proposal_by=by, proposal_topic=""
        )
        actor = live.Actor.person(by)
        change.event(ASKED, topic_of(plan), actor, number=plan.number, goal=plan.goal)
        attention_close(project, topic=topic_of(plan), by=actor, kind="proposal")
    plan.refresh_from_db()
    return plan


def proposal_begun(plan: Plan, run_topic: str) -> None:
    """A run works on it; its topic leads to its page."""
    with live.change(plan.project_id) as change:
        Plan.objects.filter(pk=plan.pk).update(proposal_topic=run_topic)
        change.topics.add(topic_of(plan))


def proposal_take(plan: Plan, file: planfile.PlanFile, by: live.Actor) -> str:
    """Make a proposal the open draft, or say why it can't be and leave the draft alone.

    Goal, policies and replay stay as people wrote them; returns an empty text when it was taken.
    """
    with live.change(plan.project_id) as change:
        current = Plan.objects.select_related("project").get(pk=plan.pk)
        if current.proposal_at is None:
            return "Nobody waits for this proposal any more."
        values = file.model_dump(mode="json")
        try:
            if not _says(current, values):
                _must_be_untouched(current)
        except Refused as error:
            proposal_end(current, by, f"{error.message} The proposal is kept with its run.")
            return error.message
        theirs = plancontent.plan_dict(current)["project"]
        left = [
            name
            for name in KEPT
            if theirs[name] and values["project"][name] not in (theirs[name], DEFAULTS[name])
        ]
        plan_fill(current, {
            **values,
            "project": {
                **values["project"],
                **{name: theirs[name] for name in KEPT if name != "instructions" or theirs[name]},
                "checks": values["project"]["checks"] or theirs["checks"],
            },
        })  # fmt: skip
        Plan.objects.filter(pk=plan.pk).update(proposal_at=None)
        change.event(
            PROPOSED,
            topic_of(plan),
            by,
            number=plan.number,
            modules=[module["slug"] for module in values["modules"]],
            kept=left,
        )
        attention_open(
            current.project,
            topic=topic_of(plan),
            kind="proposal",
            title=f"The orchestrator proposes plan {plan.number} of {current.project.name}",
            detail=f"{len(values['modules'])} modules: read, edit and submit it.",
            url=reverse("projects:plan", args=[current.project.slug]),
            role=Role.MEMBER,
        )
    return ""


def proposal_end(plan: Plan, by: live.Actor, reason: str) -> None:
    """There will be no proposal now, and why; a person may ask again."""
    with live.change(plan.project_id) as change:
        if Plan.objects.filter(pk=plan.pk, proposal_at__isnull=False).update(proposal_at=None):
            change.event(FAILED, topic_of(plan), by, number=plan.number, reason=reason)
            attention_open(
                change.project,
                topic=topic_of(plan),
                kind="proposal",
                title=f"The orchestrator proposes no plan for {change.project.name}",
                detail=reason,
                url=reverse("projects:plan", args=[change.project.slug]),
                role=Role.MEMBER,
            )


def proposal_problems(plan: Plan, file: planfile.PlanFile) -> list[str]:
    """What would keep a proposal from being submitted, as sentences that name module and field."""
    if not file.modules:
        return ["modules: the plan has no modules; cut the goal into at least one."]
    checks = [check.run for check in file.project.checks] or [row["run"] for row in plan.checks]
    found = graph.validate(planfile.module_specs(file), plancontent.tracked_files(plan), checks)
    return [f"{one.module or 'plan'}, {one.field}: {one.message}" for one in found]


def proposal_of(plan: Plan) -> Proposal | None:
    """The newest proposal that was asked for in this plan."""
    rows = Event.objects.filter(project_id=plan.project_id, topic=topic_of(plan))
    asked = rows.filter(kind=ASKED).order_by("-number").first()
    if asked is None:
        return None
    ended = rows.filter(kind__in=[PROPOSED, FAILED], number__gt=asked.number).first()
    name = plan.proposal_topic.rpartition("/")[2]
    return Proposal(asked, ended, int(name) if name.isdecimal() else None)


def can_ask(project: Project) -> bool:
    """Whether a person could ask now: there is a goal, and no work of people in the way."""
    plan = open_plan(project)
    if plan is None:
        last = Plan.objects.filter(project=project).order_by("-number").first()
        return bool((last.goal if last else project.goal).strip())
    is_free = plan.status == Plan.Status.DRAFT and plan.proposal_at is None
    return is_free and bool(plan.goal.strip()) and not _edited(plan)


def cut_check(project: Project) -> None:
    """Raises Refused when a plan that is cut without a model could not become the draft now."""
    plan = open_plan(project)
    if plan is None:
        return
    if plan.status != Plan.Status.DRAFT:
        raise Refused(f"Plan {plan.number} waits for approval. Withdraw it, then cut.")
    if plan.proposal_at is not None:
        raise Refused("The orchestrator is at work on a plan already; wait for it.")
    _must_be_untouched(plan)


def cut_take(project: Project, file: planfile.PlanFile, by: User) -> Plan:
    """Make modules that were cut without a model the open draft; never over what people cut.

    Goal, instructions, policies and replay stay, and so do checks that people wrote.
    """
    with live.change(project) as change:
        cut_check(project)
        plan = plan_draft(project, by)
        values = file.model_dump(mode="json")
        theirs = plancontent.plan_dict(plan)["project"]
        checks = theirs["checks"] or values["project"]["checks"]
        plan_fill(plan, {**values, "project": {**theirs, "checks": checks}})
        change.event(
            CUT,
            topic_of(plan),
            live.Actor.person(by),
            number=plan.number,
            modules=[module["slug"] for module in values["modules"]],
        )
    return plan


def _must_be_untouched(plan: Plan) -> None:
    if _edited(plan):
        count = len(plancontent.plan_specs(plan))
        raise Refused(
            f"The draft of plan {plan.number} holds {count} modules that people cut; a proposal "
            "would write over them. Take them out of the draft first, or go on with it."
        )


def _edited(plan: Plan) -> bool:
    """Whether the draft's modules are no longer those that it began with."""
    before = plancontent.plan_before(plan)
    began = plancontent.plan_dict(before)["modules"] if before else []
    return bool(plancontent.plan_dict(plan)["modules"] != began)


def _says(plan: Plan, values: dict[str, object]) -> bool:
    """Whether the draft holds the very modules of a proposal."""
    try:
        mine = plancontent.plan_file(plan).model_dump(mode="json")
    except ValueError:
        return False
    return bool(mine["modules"] == values["modules"])
