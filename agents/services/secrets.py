"""The keys of providers' accounts: they go in, reach one run's agent, and are never shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from agents.models import Profile, Provider
from projects import live, secrets
from projects.models import Project
from projects.redaction import Redactor, remember
from projects.services import sourcekeys
from projects.services.errors import Problem, Refused

VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,59}")
#: Variables that Tutti sets itself, or that change which programs and libraries are loaded.
TAKEN = {"HOME", "PATH", "LANG", "TERM", "SHELL", "USER", "LOGNAME", "TMPDIR", "IFS", "ENV"}
TAKEN_BEGINNINGS = ("LD_", "DYLD_", "PYTHON", "NODE_", "GIT_", "BASH", "TUTTI_", "LC_")
SHORTEST, LONGEST = 8, 10_000
#: Names of variables that hold secrets, as people name them.
SECRET_NAME = re.compile(r"(?:^|_)(?:API_?)?(?:KEYS?|TOKEN|SECRET|PASSWORD|CREDENTIALS?)(?:_|$)")


def secret_set(provider: Provider, by: User, value: str, env: str) -> Provider:
    """Keep an account's key, and in which variable its agents find it; an empty value removes it.

    Raises Refused with the field. The site's event says that it changed, never what it is.
    """
    value, env = value.strip(), env.strip()
    problems = [*_value_problems(value), *_variable_problems(env)] if value else []
    if problems:
        raise Refused("; ".join(problem.message for problem in problems), problems)
    sealed = secrets.encrypt(value) if value else ""
    with transaction.atomic():
        found = Provider.objects.select_for_update().get(pk=provider.pk)
        had = bool(found.secret)
        found.secret, found.secret_env = sealed, env if value else ""
        found.save(update_fields=["secret", "secret_env"])
        live.site_event(
            "provider.secret",
            f"site/provider/{found.pk}",
            live.Actor.person(by),
            name=found.name,
            env=found.secret_env,
            before="set" if had else "none",
            after="set" if value else "none",
        )
    return found


def environment_of(profile: Profile) -> dict[str, str]:
    """What the profile's account gives to its agent, by variable. Raises secrets.SecretError."""
    provider = profile.provider
    if provider is None or not provider.secret:
        return {}
    return {provider.secret_env: secrets.decrypt(provider.secret)}


def redactor() -> Redactor:
    """Takes every secret that the site, or its own environment, keeps out of what is stored."""
    accounts = Provider.objects.exclude(secret="").order_by().values_list("secret", flat=True)
    sources = Project.objects.exclude(source_secret="").order_by()
    rows = accounts.union(sources.values_list("source_secret", flat=True))
    return _redactor(tuple(sorted(rows)), tuple(sorted(_own())))


def _own() -> Iterator[str]:
    """Values of the server's environment whose names say that they are secret."""
    yield settings.SECRET_KEY
    for name, value in os.environ.items():
        if SECRET_NAME.search(name):
            yield from (part for part in value.split(",") if len(part) >= SHORTEST)


@lru_cache(maxsize=4)
def _redactor(sealed: tuple[str, ...], own: tuple[str, ...]) -> Redactor:
    values = list(own)
    for one in sealed:
        try:
            values.append(secrets.decrypt(one))
        except secrets.SecretError:
            continue  # What no key opens, no agent can be given either.
    return remember(Redactor(values))


def secrets_rotate() -> tuple[int, list[str]]:
    """Seal every secret under the newest key; returns how many, and a sentence for each lost one.

    Row by row, each under its lock, so that it can run while runs start and people enter keys.
    """
    done, lost = 0, []
    for pk in Provider.objects.exclude(secret="").order_by("pk").values_list("pk", flat=True):
        with transaction.atomic():
            found = Provider.objects.select_for_update().filter(pk=pk).first()
            if found is None or not found.secret or secrets.is_newest(found.secret):
                continue
            try:
                sealed = secrets.encrypt(secrets.decrypt(found.secret))
            except secrets.SecretError as error:
                lost.append(f"{found.name}: {error}")
                continue
            Provider.objects.filter(pk=pk).update(secret=sealed)
            done += 1
    of_sources, more_lost = sourcekeys.rotate()
    return done + of_sources, lost + more_lost


def _value_problems(value: str) -> list[Problem]:
    if len(value) < SHORTEST:
        message = f"A key has at least {SHORTEST} characters; a shorter one can't be kept out of "
        return [Problem("", "value", message + "logs without spoiling them.")]
    if len(value) > LONGEST or "\0" in value or (not value.isprintable() and "\n" not in value):
        message = f"A key is text of at most {LONGEST} characters without control characters."
        return [Problem("", "value", message)]
    return []


def _variable_problems(env: str) -> list[Problem]:
    if not VARIABLE.fullmatch(env):
        message = "Name the variable in capitals, e.g. ANTHROPIC_API_KEY."
        return [Problem("", "env", message)]
    if env in TAKEN or env.startswith(TAKEN_BEGINNINGS):
        return [Problem("", "env", f"{env} is not free for a key: it changes how programs run.")]
    return []
