from __future__ import annotations

from projects.models.people import Invitation, LoginLink, Membership, Role
from projects.models.plan import Contract, Dependency, Module, Plan
from projects.models.project import Instruction, Project
from projects.models.record import Attention, Comment, Event, SiteChain, SiteEvent

__all__ = [
    "Attention",
    "Comment",
    "Contract",
    "Dependency",
    "Event",
    "Instruction",
    "Invitation",
    "LoginLink",
    "Membership",
    "Module",
    "Plan",
    "Project",
    "Role",
    "SiteChain",
    "SiteEvent",
]
