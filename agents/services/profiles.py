"""Which backend and model plays a role: the project's profile, else the site's, else replay."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q

from agents.backends import KINDS
from agents.models import Profile, Provider
from projects import live
from projects.models import Project
from projects.services.errors import Problem, Refused
from projects.text import clean_text

ROLE_OF = {
    "tests": Profile.Role.PLANNER,
    "build": Profile.Role.EXECUTOR,
    "review": Profile.Role.ORCHESTRATOR,
    "fix": Profile.Role.ORCHESTRATOR,
    "decompose": Profile.Role.ORCHESTRATOR,
}

#: A model's name that no shell in somebody's command line takes for anything else.
MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.:/@+\[\]-]*")

#: Tiering of a new site: strong models plan and judge, a fast one codes.
DEFAULT_MODELS = {
    Profile.Role.ORCHESTRATOR: "recorded-strong",
    Profile.Role.PLANNER: "recorded-strong",
    Profile.Role.EXECUTOR: "recorded-fast",
}


def profile_for(project: Project, role: str) -> Profile:
    """The profile in force for a role in a project."""
    return profiles_for(project)[role]


def profiles_for(project: Project) -> dict[str, Profile]:
    """Role to the profile in force for it in a project: its own, else the site's, else replay."""
    rows = Profile.objects.filter(Q(project=project.pk) | Q(project=None))
    # The site's come first, so that the project's own take their place.
    ordered = rows.select_related("provider").order_by(F("project").asc(nulls_first=True))
    found = {
        role.value: Profile(role=role, backend="replay", model=model)
        for role, model in DEFAULT_MODELS.items()
    }
    return found | {profile.role: profile for profile in ordered}


def profile_set(
    project: Project | None,
    role: str,
    backend: str,
    model: str,
    settings: dict[str, Any],
    by: User,
    *,
    provider: Provider | Literal["keep"] | None = "keep",
) -> Profile:
    """Set who plays a role in a project, or on the site. Raises Refused with the field.

    `provider` is the account that its runs are charged to; runs at work keep theirs.
    """
    if role not in Profile.Role.values:
        raise Refused(f"There is no role {role}.", [Problem("", "role", "Unknown role.")])
    if backend not in KINDS:
        message = f"There is no backend {backend}; choose one of {', '.join(sorted(KINDS))}."
        raise Refused(message, [Problem("", "backend", message)])
    if backend == "llm" and role != Profile.Role.ORCHESTRATOR:
        message = "A model alone can only be the orchestrator; choose an agent for this role."
        raise Refused(message, [Problem("", "backend", message)])
    if backend == "llm" and ":" not in model and not settings.get("base_url"):
        message = (
            "Write the model as provider:model, e.g. anthropic:claude-sonnet-5-5, or give base_url "
            "in the settings for a server of your own."
        )
        raise Refused(message, [Problem("", "model", message)])
    _check_text(model, settings)
    if problem := KINDS[backend].problem(settings):
        raise Refused(problem, [Problem("", "settings", problem)])
    values: dict[str, Any] = {"backend": backend, "model": model, "settings": settings}
    if provider != "keep":
        values["provider"] = provider
    with transaction.atomic():
        before = (
            Profile.objects.select_related("provider").filter(project=project, role=role).first()
        )
        _keep_key(before, values, by)
        _keep_host(project, values, by)
        profile, _ = Profile.objects.update_or_create(project=project, role=role, defaults=values)
        if project:
            with live.change(project) as change:
                change.event(
                    "profile.set",
                    project.topic,
                    live.Actor.person(by),
                    role=role,
                    before=str(before) if before else None,
                    after=str(profile),
                )
    return profile


def _same_place(before: str, values: dict[str, Any]) -> bool:
    """Whether a new model's name leads nowhere else: to no other provider, and into no shell."""
    model = values["model"]
    if model == before:
        return True
    has_place = values["backend"] == "llm" and not values["settings"].get("base_url")
    stays = not has_place or model.partition(":")[0] == before.partition(":")[0]
    return stays and MODEL_NAME.fullmatch(model) is not None


#: Settings that give an agent what is the host's, or say what it is that is given.
OF_HOST = ("agent", "command", "variables", "env", "readable", "base_url")


def _of_host(backend: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What of a profile hands out the host's variables and files; empty when nothing does.

    A ready-made agent is given the server's own keys for it: with another command, or variables
    that lead it to another address, they would go there.
    """
    gives = [name for name in ("env", "readable") if settings.get(name)]
    if settings.get("agent", "other") != "other":
        gives += [name for name in ("command", "variables") if settings.get(name)]
    if backend == "llm" and settings.get("base_url"):
        # The server itself asks there, from inside of the site's own network.
        gives.append("base_url")
    if not gives:
        return {}
    return {"backend": backend} | {name: settings[name] for name in OF_HOST if name in settings}


def _keep_host(project: Project | None, values: dict[str, Any], by: User) -> None:
    """Refuse what hands out variables and files of the host, unless an admin chose the same."""
    asked = _of_host(values["backend"], values["settings"])
    if by.is_superuser or not asked:
        return
    rows = Profile.objects.filter(Q(project=project) | Q(project=None))
    if asked in [_of_host(row.backend, row.settings) for row in rows]:
        return
    message = (
        "Only a site admin may let an agent have variables of the server (env) or paths of the "
        "host (readable), give a ready-made agent another command or variables, or have the server "
        "ask an address (base_url). Ask one to set it here or for the site; then it may be used in "
        "every role as it is."
    )
    raise Refused(message, [Problem("", "settings", message)])


def _check_text(model: str, settings: dict[str, Any]) -> None:
    """Refuse what the database can't keep: it takes no NUL and no half of a character."""
    most = Profile._meta.get_field("model").max_length or 0
    if len(model) > most or not model.isprintable():
        message = f"A model's name is printable text of at most {most} characters."
        raise Refused(message, [Problem("", "model", message)])
    if not isinstance(settings.get("network", False), bool):
        message = "network is true or false."
        raise Refused(message, [Problem("", "settings", message)])
    for name in ("mode", "auth_method"):
        if not isinstance(settings.get(name, ""), str):
            message = f"{name} is a text."
            raise Refused(message, [Problem("", "settings", message)])
    try:
        written = json.dumps(settings, ensure_ascii=False, allow_nan=False)
    except ValueError:
        message = "Every number in the settings is a finite one."
        raise Refused(message, [Problem("", "settings", message)]) from None
    if clean_text(written) != written or "\\u0000" in written:
        message = "The settings hold a character that can't be kept or shown; write them as text."
        raise Refused(message, [Problem("", "settings", message)])


def _keep_key(before: Profile | None, values: dict[str, Any], by: User) -> None:
    """Refuse what would hand an account's key to a command or an address of somebody's own."""
    account = values.get("provider", before.provider if before else None)
    if by.is_superuser or account is None:
        return
    if not Provider.objects.filter(pk=account.pk).exclude(secret="").exists():
        return
    kept = before is not None and before.provider_id == account.pk
    same = kept and all(getattr(before, name) == values[name] for name in ("backend", "settings"))
    if before is None or not same or not _same_place(before.model, values):
        message = (
            f"The account {account} holds a key, which whatever plays this role is given. Only a "
            "site admin may charge a profile to it, or change the profile's backend and settings; "
            "its model may be changed to another plain name, of the same provider."
        )
        raise Refused(message, [Problem("", "provider", message)])
