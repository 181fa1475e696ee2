"""Bring what is merged to the team: its branch forward, or a branch for a pull request."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import QuerySet

from projects import live
from projects.git import GitError
from projects.hub import integration_ref
from projects.models import Event, Module, Plan, Project
from projects.services import sourcekeys
from projects.services.errors import Refused
from projects.services.projects import hub_of


def publish(project: Project, by: User, branch: str = "") -> str:
    """Push the integration branch to the source; returns what happened and what it holds.

    Without `branch` the team's own branch is moved forward, and only forward; with one, that
    branch is pushed, and the text is what a pull request says. The commits stay exactly those
    that were tested, so the text goes into the record and to whoever publishes, not into git.
    Raises Refused when the source does not take it.
    """
    hub = hub_of(project)
    message = publish_message(project, by)
    commit = hub.head(integration_ref())
    roots = settings.TUTTI_SOURCE_ROOTS
    if commit is None:
        raise Refused("There is nothing to publish yet.")
    try:
        with sourcekeys.at_hand(project):
            if branch:
                published = hub.push_branch(project.source, branch, commit, roots=roots)
            else:
                old = hub.source_head(project.source, project.default_branch, roots=roots)
                published = hub.publish(
                    project.source, project.default_branch, commit, old, roots=roots
                )
    except GitError as error:
        raise Refused(str(error)) from error
    if not published.is_done:
        raise Refused(published.message)
    with live.change(project) as change:
        Project.objects.filter(pk=project.pk).update(published_commit=commit)
        change.event(
            "project.published",
            project.topic,
            live.Actor.person(by),
            branch=branch or project.default_branch,
            commit=commit,
            message=message,
        )
    return f"{published.message}\n\n{message}"


def publish_message(project: Project, by: User) -> str:
    """What is merged since the team's branch was moved last: modules, reviews, checks, people."""
    events = Event.objects.filter(project=project).order_by("number")
    moved = events.filter(kind="project.published", data__branch=project.default_branch).last()
    events = events.filter(number__gt=moved.number) if moved else events
    slugs = {event.data["slug"] for event in events.filter(kind="module.merged")}
    merged = Module.objects.filter(project=project, slug__in=slugs, status=Module.Status.MERGED)
    modules = list(merged.select_related("contract").order_by("pk"))
    count = f"{len(modules)} module{'' if len(modules) == 1 else 's'}"
    parts = {
        "Modules": [f"{module.slug}: {module.title or module.slug}" for module in modules],
        "Reviews": _reviews(events, slugs),
        "Checks": _checks(project, modules),
        "People": _people(events, by),
    }
    lines = [f"Merge {count} of {project.name or project.slug}"]
    for title, rows in parts.items():
        lines += ["", f"{title}:", *(f"- {row}" for row in rows or ["none"])]
    return "\n".join(lines)


def _reviews(events: QuerySet[Event], slugs: set[str]) -> list[str]:
    """The last judgement of each module, and who gave it."""
    last = {}
    for event in events.filter(kind__in=["review.recorded", "review.overruled"]):
        if event.data["slug"] in slugs:
            last[event.data["slug"]] = f"{event.data['verdict']} by {event.actor}"
    return [f"{slug}: {said}" for slug, said in sorted(last.items())]


def _checks(project: Project, modules: list[Module]) -> list[str]:
    """The commands that were green before anything was merged."""
    rows = [
        f"{module.slug}: {command}"
        for module in modules
        for command in (module.contract.checks if module.contract else [])
    ]
    plans = Plan.objects.filter(project=project, status=Plan.Status.APPROVED)
    for plan in plans:
        when = {"merge": "at each merge", "end": "at the end"}
        # Checks at the end are green once the plan is finished, and are not claimed before.
        rows += [
            f"{when[check['at']]}: {check['run']}"
            for check in plan.checks
            if check["at"] == "merge" or plan.finished_at
        ]
    return rows


def _people(events: QuerySet[Event], by: User) -> list[str]:
    """Who decided what, in the order of their first decision."""
    said = {
        "plan.approved": "approved the plan",
        "review.overruled": "overruled a review",
        "request.answered": "answered an agent",
        "comment.added": "commented",
    }
    did: dict[str, list[str]] = {}
    for event in events.filter(kind__in=list(said), actor__startswith="person:"):
        deeds = did.setdefault(event.actor.removeprefix("person:"), [])
        if said[event.kind] not in deeds:
            deeds.append(said[event.kind])
    did.setdefault(by.get_username(), []).append("published")
    return [f"{name}: {', '.join(deeds)}" for name, deeds in did.items()]
