"""The credential of a project's source: kept sealed, shown to nobody, used by the server's git."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth.models import User

from projects import credentials, live, secrets, sources
from projects.credentials import KEY, TOKEN, Credential
from projects.git import GitError
from projects.models import Project
from projects.services.errors import Problem, Refused

SHORTEST, LONGEST = 8, 20_000


@contextmanager
def at_hand(project: Project) -> Iterator[None]:
    """Let git use the project's credential in this block; GitError when it can't be opened."""
    try:
        found = credential_of(project)
    except secrets.SecretError as error:
        raise GitError(str(error)) from error
    with credentials.using(found):
        yield


def credential_of(project: Project) -> Credential | None:
    """The project's credential, for the host of its source alone. Raises secrets.SecretError."""
    place = sources.place_of(project.source)
    if not project.source_secret or place is None:
        return None
    is_ssh, host, _ = place
    return Credential(KEY if is_ssh else TOKEN, host, secrets.decrypt(project.source_secret),
                      project.source_user, project.source_known_hosts)  # fmt: skip


def source_key_set(
    project: Project, by: User, secret: str, *, user: str = "", known_hosts: str = ""
) -> None:
    """Keep a token (https) or private key (ssh) of the project's source; an empty one removes it.

    Raises Refused with the field. The event says that it changed, never what it is.
    """
    values = sealed(project.source, secret, user=user, known_hosts=known_hosts)
    with live.change(project) as change:
        before = "set" if change.project.source_secret else "none"
        Project.objects.filter(pk=project.pk).update(**values)
        after = "set" if values["source_secret"] else "none"
        change.event("project.source_key", project.topic, live.Actor.person(by),
                     before=before, after=after)  # fmt: skip


def sealed(source: str, secret: str, *, user: str = "", known_hosts: str = "") -> dict[str, str]:
    """Return the project's fields that keep a credential. Raises Refused when it is none."""
    secret = secret.replace("\r\n", "\n").strip()
    if not secret:
        return {"source_secret": "", "source_user": "", "source_known_hosts": ""}
    place = sources.place_of(source)
    if place is None:
        raise _refused("secret", "A repository on this server needs no token or key.")
    if not SHORTEST <= len(secret) <= LONGEST or "\0" in secret:
        raise _refused("secret", f"A token or key has {SHORTEST} to {LONGEST} characters.")
    if place[0] and "PRIVATE KEY-----" not in secret:
        message = "For an ssh address, enter the private half of a deploy key without passphrase."
        raise _refused("secret", message)
    if not place[0] and any(not "!" <= sign <= "~" for sign in secret):
        raise _refused("secret", "For an https address, enter a token: one word of plain letters.")
    if any(not sign.isprintable() for sign in user):
        raise _refused("user", "A user's name holds no control characters.")
    try:
        return {
            "source_secret": secrets.encrypt(secret),
            "source_user": user.strip()[:200],
            "source_known_hosts": known_hosts.replace("\r\n", "\n").strip()[:LONGEST],
        }
    except secrets.SecretError as error:
        raise _refused("secret", str(error)) from error


def rotate() -> tuple[int, list[str]]:
    """Seal the credentials of all projects under the newest key, as agents' keys are."""
    done, lost = 0, []
    for project in Project.objects.exclude(source_secret="").order_by("pk"):
        old = project.source_secret
        if secrets.is_newest(old):
            continue
        try:
            new = secrets.encrypt(secrets.decrypt(old))
        except secrets.SecretError as error:
            lost.append(f"{project.slug}: {error}")
            continue
        # Somebody may enter another one meanwhile: that one is sealed under the newest already.
        done += Project.objects.filter(pk=project.pk, source_secret=old).update(source_secret=new)
    return done, lost


def _refused(field: str, message: str) -> Refused:
    return Refused(message, [Problem("", field, message)])
