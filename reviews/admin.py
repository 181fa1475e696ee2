"""What was judged is on record; the admin shows it and changes nothing."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from reviews.models import CheckResult, Finding, Merge, Review


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Rows that services write; a change by hand would be in no event."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Review)
class ReviewAdmin(ReadOnlyAdmin):
    list_display = ["id", "project", "module", "verdict", "model", "person", "at"]
    list_filter = ["verdict", "project"]
    list_select_related = ["project", "module", "person"]


@admin.register(Finding)
class FindingAdmin(ReadOnlyAdmin):
    list_display = ["id", "project", "module", "source", "path", "line", "at"]
    list_filter = ["source", "project"]
    list_select_related = ["project", "module"]


@admin.register(CheckResult)
class CheckResultAdmin(ReadOnlyAdmin):
    list_display = ["id", "project", "module", "phase", "kind", "ok", "seconds", "at"]
    list_filter = ["phase", "ok", "project"]
    list_select_related = ["project", "module"]


@admin.register(Merge)
class MergeAdmin(ReadOnlyAdmin):
    list_display = ["id", "project", "module", "branch", "status", "started_at", "ended_at"]
    list_filter = ["status", "project"]
    list_select_related = ["project", "module"]
