"""Plain admin pages for site admins; what is append-only can be read here, never written."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from projects.models import (
    Attention,
    Comment,
    Contract,
    Dependency,
    Event,
    Instruction,
    Invitation,
    Membership,
    Module,
    Plan,
    Project,
)


class ReadOnlyAdmin(admin.ModelAdmin[Any]):
    """Rows to look at: they are written by services alone, which also write the record."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Project)
class ProjectAdmin(ReadOnlyAdmin):
    list_display = ["slug", "name", "ceiling", "active_runs", "event_count", "paused_at"]
    search_fields = ["slug", "name", "source"]
    exclude = ["source_secret"]


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display = ["project", "user", "role", "since"]
    list_filter = ["role", "project"]


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    list_display = ["project", "role", "by", "created_at", "expires_at", "used_by"]
    exclude = ["token_hash"]


@admin.register(Plan)
class PlanAdmin(ReadOnlyAdmin):
    list_display = ["project", "number", "status", "submitted_by", "decided_by", "decided_at"]
    list_filter = ["status", "project"]


@admin.register(Module)
class ModuleAdmin(ReadOnlyAdmin):
    list_display = ["slug", "project", "status", "lane", "failures", "status_at"]
    list_filter = ["status", "project"]
    search_fields = ["slug", "title"]


@admin.register(Contract)
class ContractAdmin(ReadOnlyAdmin):
    list_display = ["module", "plan", "version", "lane", "priority", "removed"]
    list_filter = ["plan"]


@admin.register(Dependency)
class DependencyAdmin(ReadOnlyAdmin):
    list_display = ["contract", "needs", "kind", "gates", "satisfied_at"]
    list_filter = ["kind"]


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ["project", "number", "at", "actor", "kind", "topic"]
    list_filter = ["project", "kind"]


@admin.register(Attention)
class AttentionAdmin(ReadOnlyAdmin):
    list_display = ["project", "kind", "title", "role", "user", "opened_at", "closed_at"]
    list_filter = ["kind", "project"]


@admin.register(Comment)
class CommentAdmin(ReadOnlyAdmin):
    list_display = ["project", "topic", "by", "at"]


@admin.register(Instruction)
class InstructionAdmin(ReadOnlyAdmin):
    list_display = ["scope", "project", "role", "version", "by", "at"]
    list_filter = ["scope", "role"]
