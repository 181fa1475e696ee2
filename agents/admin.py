"""What acted is on record; the admin shows it. Hosts can be drained here."""

from __future__ import annotations

from django.contrib import admin

from agents.models import (
    Conversation,
    ConversationEntry,
    Host,
    Price,
    Profile,
    Provider,
    Quota,
    QuotaEntry,
    Request,
    Run,
)
from reviews.admin import ReadOnlyAdmin


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = [
        "id",
        "project",
        "module",
        "kind",
        "role",
        "status",
        "model",
        "host",
        "queued_at",
    ]
    list_filter = ["status", "kind", "project"]
    list_select_related = ["project", "module"]


@admin.register(Profile)
class ProfileAdmin(ReadOnlyAdmin):
    list_display = ["id", "project", "role", "backend", "model"]
    list_select_related = ["project"]


@admin.register(Request)
class RequestAdmin(ReadOnlyAdmin):
    list_display = ["id", "project", "module", "kind", "granted", "answered_by", "asked_at"]
    list_filter = ["kind", "granted", "project"]
    list_select_related = ["project", "module", "answered_by"]


@admin.register(Conversation)
class ConversationAdmin(ReadOnlyAdmin):
    list_display = ["id", "plan", "created_at"]


@admin.register(ConversationEntry)
class ConversationEntryAdmin(ReadOnlyAdmin):
    list_display = ["id", "conversation", "sequence", "kind", "module", "at"]
    list_filter = ["kind"]


@admin.register(Host)
class HostAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    list_display = ["name", "cores", "memory_mb", "memory_available_mb", "draining", "seen_at"]
    fields = ["name", "draining"]
    readonly_fields = ["name"]


@admin.register(Provider)
class ProviderAdmin(ReadOnlyAdmin):
    list_display = ["name", "title", "breaker", "slots", "active_runs", "wake_at"]
    list_filter = ["breaker"]
    exclude = ["secret"]


@admin.register(Price)
class PriceAdmin(ReadOnlyAdmin):
    list_display = ["id", "provider", "model", "input_per_million", "output_per_million"]
    list_select_related = ["provider"]


@admin.register(Quota)
class QuotaAdmin(ReadOnlyAdmin):
    list_display = ["id", "scope", "provider", "project", "user", "measure", "period", "limit",
                    "spent", "reserved"]  # fmt: skip
    list_filter = ["scope", "measure", "period"]
    list_select_related = ["provider", "project", "user"]


@admin.register(QuotaEntry)
class QuotaEntryAdmin(ReadOnlyAdmin):
    list_display = ["id", "quota", "run", "test", "reserved", "spent", "is_estimated", "spent_at",
                    "expired_at"]  # fmt: skip
    list_filter = ["is_estimated"]
    list_select_related = ["quota", "run", "test"]
