"""Projects, their people and what they allow."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify
from pydantic import ValidationError

from projects import hub as hubs
from projects import live, owndata, planfile, selectors
from projects.drafts import fingerprint
from projects.git import GitError
from projects.models import Instruction, Invitation, LoginLink, Membership, Project, Role
from projects.services import sourcekeys
from projects.services.errors import Problem, Refused, Stale, problems_of
from projects.text import clean_text

#: What a new project allows: the plan file's own defaults.
DEFAULT_POLICIES: dict[str, Any] = planfile.Policies().model_dump(mode="json")

#: /projects/new/ is the form for another project.
RESERVED = {"new"}
NO_INVITATION = "This invitation was used or withdrawn, has expired, or never existed."


def project_create(
    *,
    slug: str,
    source: str,
    owner: User,
    name: str = "",
    branch: str = "",
    environment: str = "",
    goal: str = "",
    secret: str = "",
    secret_user: str = "",
    known_hosts: str = "",
) -> Project:
    """Make a project of a repository: rows first, then its hub; neither stays without the other.

    `secret` is the source's token or deploy key. Raises Refused when the slug is taken or
    reserved, or the source can't be read.
    """
    slug = slugify(slug)[:60]
    if not slug:
        raise Refused("Give the project a name of letters, digits or dashes.")
    if slug in RESERVED:
        raise Refused(f"“{slug}” is an address of Tutti's own. Choose another name.")
    check_environment(environment)
    check_address(source)
    told = part_checked({"name": clean_text(name) or slug, "goal": clean_text(goal)})
    try:
        with transaction.atomic():
            project = Project.objects.create(
                slug=slug,
                **told,
                source=source,
                default_branch=branch or "main",
                environment=environment,
                policies=DEFAULT_POLICIES,
                **sourcekeys.sealed(source, secret, user=secret_user, known_hosts=known_hosts),
            )
            Membership.objects.create(project=project, user=owner, role=Role.OWNER)
            with live.change(project) as change:
                change.event(
                    "project.created",
                    project.topic,
                    live.Actor.person(owner),
                    slug=slug,
                    source=source,
                )
            hub_create(project)
    except IntegrityError as error:
        raise Refused(f"The name “{slug}” is taken. Choose another one.") from error
    except GitError as error:
        raise Refused(str(error)) from error
    return project


def hub_create(project: Project) -> None:
    """Clone the source into the project's own bare repository, replacing a leftover of a crash."""
    shutil.rmtree(project.hub_path, ignore_errors=True)
    try:
        with sourcekeys.at_hand(project):
            hubs.Hub.create(
                project.hub_path,
                project.source,
                project.default_branch,
                roots=settings.TUTTI_SOURCE_ROOTS,
            )
    except BaseException:
        shutil.rmtree(project.hub_path, ignore_errors=True)
        raise


def check_address(source: str) -> None:
    """Refuse an address that is none, or with a password or token in it, which would be shown."""
    scheme, _, rest = source.partition("://")
    user = rest.split("/", 1)[0].rpartition("@")[0]
    if user and (":" in user or scheme.lower() == "https"):
        message = (
            "The address holds a user or password: leave it out, and enter the token and its user "
            "name in their own fields."
        )
        raise Refused(message, [Problem("", "source", message)])
    try:
        _ = urlsplit(source).port if rest else None
    except ValueError as error:
        message = "This is no address that can be reached: check its host and port."
        raise Refused(message, [Problem("", "source", message)]) from error


def check_environment(environment: str) -> None:
    """Refuse what is no virtual environment: every check and agent may read all of it."""
    if not environment:
        return
    folder = Path(environment)
    message = f"{environment} is no virtual environment: it has no bin and pyvenv.cfg."
    try:
        is_one = (folder / "bin").is_dir() and any(
            (folder / name).exists() for name in ("pyvenv.cfg", "conda-meta")
        )
        if is_one and not owndata.shows(folder):
            return
    except OSError as error:
        message = f"{environment} can't be read: {error.strerror}."
    raise Refused(message, [Problem("", "environment", message)])


def hub_of(project: Project) -> hubs.Hub:
    return hubs.Hub(project.hub_path)


def ceiling_set(*, project: Project, ceiling: int, by: User) -> None:
    """Change how many runs may work at once; running ones go on, new ones start below it."""
    if not 1 <= ceiling <= settings.TUTTI_SITE_CEILING:
        raise Refused(f"The ceiling is a number from 1 to {settings.TUTTI_SITE_CEILING}.")
    with live.change(project) as change:
        before = change.project.ceiling
        Project.objects.filter(pk=project.pk).update(ceiling=ceiling)
        change.event(
            "project.ceiling", project.topic, live.Actor.person(by), before=before, after=ceiling
        )


def settings_set(*, project: Project, by: User, seen: str | None = None, **values: Any) -> None:
    """Change name, goal, branch, environment or policies, with before and after in the record.

    `seen` is the fingerprint of these settings that the person saw; without one none is asked for.
    Raises Stale when they are others by now, and Refused with a problem for each field that the
    plan file would not take either.
    """
    if "environment" in values:
        check_environment(values["environment"])
    told = {name: clean_text(values[name]) for name in ("name", "goal") if name in values}
    rules = {"policies": values["policies"]} if "policies" in values else {}
    values |= part_checked(told | rules)
    with live.change(project) as change:
        before = {name: getattr(change.project, name) for name in values}
        if seen is not None and seen != fingerprint(before):
            raise Stale(
                "Somebody changed these settings since you opened this form. Yours are below, not"
                " saved; save again to keep yours."
            )
        changed = {name: value for name, value in values.items() if before[name] != value}
        if not changed:
            return
        Project.objects.filter(pk=project.pk).update(**changed)
        change.event(
            "project.settings",
            project.topic,
            live.Actor.person(by),
            before={name: before[name] for name in changed},
            after=changed,
        )


def part_checked(values: dict[str, Any]) -> dict[str, Any]:
    """Some fields of the plan file's `project`, as the file would hold them."""
    try:
        part = planfile.ProjectPart.model_validate(values)
    except ValidationError as error:
        raise Refused("This can't be saved like this.", problems_of(error)) from error
    return part.model_dump(mode="json", include=set(values))


def project_pause(*, project: Project, by: live.Actor) -> None:
    """Start nothing more; what runs goes on to its end."""
    _pause(project, by, timezone.now(), "project.paused")


def project_resume(*, project: Project, by: live.Actor) -> None:
    _pause(project, by, None, "project.resumed")


def _pause(project: Project, by: live.Actor, at: Any, kind: str) -> None:
    with live.change(project) as change:
        if (change.project.paused_at is None) != (at is None):
            Project.objects.filter(pk=project.pk).update(paused_at=at)
            change.event(kind, project.topic, by)


def member_set(*, project: Project, user: User, role: str | None, by: User) -> None:
    """Give a person a role, or none; the last owner stays."""
    with live.change(project) as change:
        current = Membership.objects.filter(project=project, user=user).first()
        others = Membership.objects.filter(project=project, role=Role.OWNER).exclude(user=user)
        if current and current.role == Role.OWNER and role != Role.OWNER and not others.exists():
            raise Refused("A project keeps at least one owner. Make somebody else owner first.")
        if current and current.role == Role.OWNER and role != Role.OWNER:
            for row in Invitation.objects.filter(project=project, by=user, used_at=None):
                _withdraw(row, change, by)
        if role is None:
            Membership.objects.filter(project=project, user=user).delete()
        else:
            Membership.objects.update_or_create(
                project=project, user=user, defaults={"role": Role(role)}
            )
        change.event(
            "member.set",
            project.topic,
            live.Actor.person(by),
            user=user.get_username(),
            before=current.role if current else None,
            after=role,
        )


def invitation_create(*, project: Project, role: str, by: User) -> str:
    """A link's token that makes its reader a member within seven days; shown once."""
    token = secrets.token_urlsafe(32)
    with live.change(project) as change:
        Invitation.objects.create(
            project=project,
            role=Role(role),
            by=by,
            token_hash=_hash(token),
            expires_at=timezone.now() + timedelta(days=7),
        )
        change.event("member.invited", project.topic, live.Actor.person(by), role=role)
    return token


def invitation_withdraw(*, project: Project, pk: int, by: User) -> None:
    """Take back an invitation that nobody used."""
    with live.change(project) as change:
        row = Invitation.objects.filter(project=project, pk=pk, used_at=None).first()
        if row is None:
            raise Stale("This invitation was used or withdrawn already.")
        _withdraw(row, change, by)


def _withdraw(invitation: Invitation, change: live.Change, by: User) -> None:
    change.event(
        "member.uninvited",
        change.project.topic,
        live.Actor.person(by),
        role=invitation.role,
        invited_by=invitation.by.get_username(),
    )
    invitation.delete()


def invitation_accept(*, token: str, user: User) -> Project:
    """Join by a link; it works once, and never lowers a role that is already held."""
    invitation = selectors.invitation(token)
    if invitation is None:
        raise Refused(NO_INVITATION)
    with live.change(invitation.project_id):
        # Under the project's lock: meanwhile it may be used, or its maker no owner any more.
        if selectors.invitation(token) is None:
            raise Refused(NO_INVITATION)
        Invitation.objects.filter(pk=invitation.pk).update(used_at=timezone.now(), used_by=user)
        held = Membership.objects.filter(project=invitation.project, user=user).first()
        if held is None or not Role(held.role).covers(Role(invitation.role)):
            member_set(
                project=invitation.project, user=user, role=invitation.role, by=invitation.by
            )
    return invitation.project


def login_link_create(*, user: User, next_url: str = "/", hours: int = 24) -> str:
    """A token that signs this person in once."""
    token = secrets.token_urlsafe(32)
    LoginLink.objects.create(
        user=user,
        token_hash=_hash(token),
        next_url=next_url,
        expires_at=timezone.now() + timedelta(hours=hours),
    )
    return token


def login_link_use(token: str) -> LoginLink | None:
    """The link, if it was good until this moment."""
    used = LoginLink.objects.filter(
        token_hash=_hash(token), used_at__isnull=True, expires_at__gt=timezone.now()
    ).update(used_at=timezone.now())
    if not used:
        return None
    return LoginLink.objects.select_related("user").get(token_hash=_hash(token))


def instruction_set(
    *, text: str, by: User, project: Project | None = None, role: str = ""
) -> Instruction:
    """A new version of a standing text, of the site, of a project or of a role."""
    scope = Instruction.Scope.ROLE if role else (
        Instruction.Scope.PROJECT if project else Instruction.Scope.SITE
    )  # fmt: skip
    values = {"scope": scope, "project": project, "role": role}
    if project is None:
        with transaction.atomic():
            live.site_lock()
            return _next_version(values, text, by)
    with live.change(project) as change:
        made = _next_version(values, text, by)
        change.event(
            "instruction.set",
            project.topic,
            live.Actor.person(by),
            scope=scope,
            role=role,
            version=made.version,
        )
    return made


def _next_version(values: dict[str, Any], text: str, by: User) -> Instruction:
    """Must run under the lock of what the text is for, which keeps versions apart."""
    last = Instruction.objects.filter(**values).order_by("-version").first()
    version = last.version + 1 if last else 1
    return Instruction.objects.create(**values, text=clean_text(text), version=version, by=by)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
