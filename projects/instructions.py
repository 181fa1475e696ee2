"""The standing text that every assignment carries: site, project and role."""

from __future__ import annotations

from projects.models import Instruction, Plan, Project

#: In force on a site until an admin writes another one.
SITE_DEFAULT = "Parallelize when possible."


def current(scope: str, project: Project | None = None, role: str = "") -> str | None:
    """The newest text of a scope, or None when nobody wrote one."""
    rows = Instruction.objects.filter(scope=scope, project=project, role=role)
    return rows.order_by("-version").values_list("text", flat=True).first()


def standing(project: Project, role: str, plan: Plan | None = None) -> str:
    """Site, project, plan and role texts, in this order, one paragraph each."""
    scope = Instruction.Scope
    site = current(scope.SITE)
    texts = [
        SITE_DEFAULT if site is None else site,
        current(scope.PROJECT, project),
        plan.instructions if plan else "",
        current(scope.ROLE, None, role),
        current(scope.ROLE, project, role),
    ]
    return "\n\n".join(text.strip() for text in texts if text and text.strip())
