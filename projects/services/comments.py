"""What people say of a module; at a path and line it is a remark for its agent."""

from __future__ import annotations

from django.contrib.auth.models import User

from projects import live
from projects.models import Comment, Module
from projects.services.errors import Problem, Refused
from projects.text import clean_text

LONGEST = 10_000


def comment_add(
    module: Module, by: User, text: str, *, path: str = "", line: int | None = None
) -> Comment:
    """Say something of a module's work; its agent reads it with its next prompt.

    Raises Refused for an empty text, a path outside the repository and a line without a path.
    """
    said, where = clean_text(text, LONGEST).strip(), path.strip()
    if not said:
        raise Refused("Write what the agent should know.", [Problem(module.slug, "text", "empty")])
    if line is not None and (not 0 < line < 2**31 or not where):
        message = "A line counts from 1, in a file that is named."
        raise Refused(message, [Problem(module.slug, "line", message)])
    if where.startswith("/") or ".." in where.split("/"):
        message = "A path begins at the root of the repository, like src/module.py."
        raise Refused(message, [Problem(module.slug, "path", message)])
    with live.change(module.project_id) as change:
        comment = Comment.objects.create(
            project_id=module.project_id,
            topic=module.topic,
            by=by,
            text=said,
            path=clean_text(where, 500),
            line=line,
        )
        change.event(
            "comment.added",
            module.topic,
            live.Actor.person(by),
            slug=module.slug,
            path=comment.path,
            line=line,
            text=said,
        )
    return comment
