"""What every page needs of a template: roles, the inbox's count, chips and times."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django import template
from django.contrib.auth.models import AnonymousUser, User
from django.template import Context
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from projects import access, selectors
from projects.forecast import say_seconds
from projects.models import Project

register = template.Library()

#: Colour of a chip (a class of tutti.css) by the status that it names.
STATES = {
    "queued": "draft waiting queued superseded stopping cancelled abandoned disabled",
    "running": "planning building fixing running checking merging testing swapping fix",
    "needs": "needs_person submitted parked ask paused kept",
    "review": "reviewing",
    "passed": "merged succeeded approved approve passed ok granted delivered",
    "failed": "failed rejected refused rebuild denied error timeout",
    "blocked": "built blocked stalled interrupted coupled",
}
STATE_OF = {status: state for state, words in STATES.items() for status in words.split()}
WORDS = {"needs_person": "needs you", "parked": "waits for an answer", "submitted": "to approve"}


@register.simple_tag
def role_for(user: User | AnonymousUser | None, project: Project | None) -> str:
    """The person's role in the project as a word; empty for strangers and outside of projects."""
    if not user or not isinstance(project, Project):
        return ""
    return access.role_of(user, project) or ""


@register.simple_tag
def inbox_link(project: Project, user: User) -> SafeString:
    """The link "Needs you (n)"; live.js puts the number of `data-count` into the page's title."""
    count = selectors.inbox_count(project, user)
    return format_html(
        '<a class="needs-you{}" href="/projects/{}/inbox/" data-count="{}">Needs you{}</a>',
        " some" if count else "",
        project.slug,
        count,
        f" ({count})" if count else "",
    )


@register.simple_tag(takes_context=True)
def nav_link(context: Context, url: str, label: str) -> SafeString | str:
    """A link of the project's navigation, marked when its page is shown; nothing without a url."""
    if not url:
        return ""
    here = context["request"].path if "request" in context else ""
    current = SafeString(' aria-current="page"') if here.startswith(url) else ""
    return format_html('<a href="{}"{}>{}</a>', url, current, label)


@register.simple_tag
def chip(status: Any, word: str = "") -> SafeString:
    """A status as word, colour and shape: {% chip module.status %}, {% chip "failed" "red" %}."""
    status = str(status)
    shown = word or WORDS.get(status, status.replace("_", " "))
    return format_html(
        '<span class="chip state-{}">{}</span>', STATE_OF.get(status, "queued"), shown
    )


@register.filter
def when(at: datetime | None) -> SafeString | str:
    """A moment as time of day, with its date when that is not today; the title says all of it."""
    if at is None:
        return "—"
    local = timezone.localtime(at)
    same_day = local.date() == timezone.localdate()
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        local.strftime("%Y-%m-%d %H:%M:%S %Z"),
        local.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M"),
    )


@register.filter
def seconds(value: float | None) -> str:
    """A duration in words people use: 40 s, 3 min 20 s; a dash when it is not known."""
    return "—" if value is None else say_seconds(float(value))


@register.filter
def sha(commit: str | None) -> str:
    """The first ten digits of a commit."""
    return (commit or "—")[:10]


@register.filter
def plainly(value: Any) -> str:
    """A value of an event's data for people: text as it is, lists by commas, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)
