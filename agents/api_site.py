"""The API of what carries all projects: providers, prices, hosts, what waits, the site's record."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema
from pydantic import Field, SecretStr

from agents import siteboard
from agents.api_quotas import Amount, Limit
from agents.models import Host, HostReading, Price, Provider
from agents.services import hosts, providers
from agents.services.secrets import secret_set
from agents.views.fresh import require_admin
from projects.access import HtmxRequest
from projects.models import SiteEvent
from projects.schemas import Done, EventOut, Input

router = Router(tags=["site"])

After = Annotated[int, Query(ge=0, le=2**53)]


class ProviderOut(Schema):
    """An account, its breaker (closed, throttled, exhausted) and since when, until when and why."""

    id: int
    name: str
    title: str
    breaker: str
    slots: int | None
    reason: str
    changed_at: datetime | None
    wake_at: datetime | None
    runs: int
    projects: int


class ProviderIn(Input):
    """A name that profiles use, and how people call it."""

    name: str = Field(max_length=60)
    title: str = Field(default="", max_length=120)


class PriceOut(Schema):
    """What a model costs, in the site's currency; without a provider it holds for any."""

    id: int
    provider: str | None
    model: str
    input_per_million: Decimal
    output_per_million: Decimal


class SecretIn(Input):
    """An account's key and the variable that its agents find it in; empty removes it."""

    value: SecretStr = Field(max_length=10_000)
    env: str = Field(default="", max_length=60)


class PriceIn(Input):
    """A price; setting it again changes it for runs to come."""

    provider: str = Field(default="", max_length=60)
    model: str = Field(max_length=120)
    input_per_million: Amount
    output_per_million: Amount


class HostOut(Schema):
    """A machine, its newest reading and what it may carry, with the reason."""

    id: int
    name: str
    cores: int
    memory_mb: int
    memory_available_mb: int
    disk_free_mb: int
    cpu_percent: float | None
    pressure_some: float | None
    pressure_full: float | None
    source: str
    doubt: str
    alive: int
    capacity: int | None
    capacity_reason: str
    capacity_at: datetime | None
    draining: bool
    seen_at: datetime | None


class ReadingOut(Schema):
    """One reading; `reason` is set where what the host may carry changed."""

    at: datetime
    memory_mb: int
    memory_available_mb: int
    cpu_percent: float | None
    pressure_some: float | None
    pressure_full: float | None
    alive: int
    capacity: int | None
    reason: str


class DrainIn(Input):
    """True: what runs there goes on, nothing new starts."""

    draining: bool


class StandingOut(Schema):
    """A project at work, what binds it (limit, sentence, numbers, since, until), what waits."""

    project: str
    active_runs: int
    binding: dict[str, Any]
    modules_waiting: int
    people_asked: int


class SiteEventPage(Schema):
    """Events of the site's own chain after a number."""

    events: list[EventOut]
    after: int
    newest: int


def _of(schema: type[Schema], row: Any, **more: Any) -> Any:
    names = [name for name in schema.model_fields if name not in more]
    return schema(**{name: getattr(row, name) for name in names}, **more)


@router.get("/providers", response=list[ProviderOut])
def provider_list(request: HtmxRequest) -> list[ProviderOut]:
    require_admin(request)
    return [
        _of(ProviderOut, account.provider, runs=account.runs, projects=account.projects)
        for account in siteboard.accounts()
    ]


@router.post("/providers", response=Done)
def provider_set(request: HtmxRequest, body: ProviderIn) -> Done:
    require_admin(request)
    made = providers.provider_set(request.user, body.name, body.title)
    return Done(message=f"Provider {made.name} is saved.")


@router.post("/providers/{int:pk}/secret", response=Done)
def provider_secret(request: HtmxRequest, pk: int, body: SecretIn) -> Done:
    """Set or remove the account's key; nothing ever shows it again."""
    require_admin(request)
    found = get_object_or_404(Provider, pk=pk)
    secret_set(found, request.user, body.value.get_secret_value(), body.env)
    return Done(message=f"The key of {found.name} is {'kept' if body.value else 'removed'}.")


@router.post("/providers/{int:pk}/reset", response=Done)
def provider_reset(request: HtmxRequest, pk: int) -> Done:
    require_admin(request)
    found = get_object_or_404(Provider, pk=pk)
    providers.provider_reset(found, request.user)
    return Done(message=f"{found} is taken to work again; what waited for it starts.")


@router.post("/providers/{int:pk}/remove", response=Done)
def provider_remove(request: HtmxRequest, pk: int) -> Done:
    require_admin(request)
    providers.provider_remove(get_object_or_404(Provider, pk=pk), request.user)
    return Done(message="The provider is removed.")


@router.get("/prices", response=list[PriceOut])
def price_list(request: HtmxRequest) -> list[PriceOut]:
    require_admin(request)
    return [
        _of(PriceOut, row.price, provider=row.price.provider.name if row.price.provider else None)
        for row in siteboard.prices()
    ]


@router.post("/prices", response=Done)
def price_set(request: HtmxRequest, body: PriceIn) -> Done:
    require_admin(request)
    account = get_object_or_404(Provider, name=body.provider) if body.provider else None
    providers.price_set(
        request.user, account, body.model, body.input_per_million, body.output_per_million
    )
    return Done(message="The price is saved; runs keep what they cost.")


@router.post("/prices/{int:pk}/remove", response=Done)
def price_remove(request: HtmxRequest, pk: int) -> Done:
    require_admin(request)
    found = get_object_or_404(Price.objects.select_related("provider"), pk=pk)
    providers.price_remove(found, request.user)
    return Done(message="The price is removed; what this model costs is unknown from now on.")


@router.get("/hosts", response=list[HostOut])
def host_list(request: HtmxRequest) -> list[HostOut]:
    require_admin(request)
    return [_of(HostOut, host) for host in Host.objects.order_by("name")]


@router.get("/hosts/{int:pk}/readings", response=list[ReadingOut])
def host_readings(request: HtmxRequest, pk: int, limit: Limit = 1000) -> list[ReadingOut]:
    """The newest first."""
    require_admin(request)
    rows = HostReading.objects.filter(host=get_object_or_404(Host, pk=pk)).order_by("-at")
    return [_of(ReadingOut, row) for row in rows[:limit]]


@router.post("/hosts/{int:pk}/drain", response=Done)
def host_drain(request: HtmxRequest, pk: int, body: DrainIn) -> Done:
    require_admin(request)
    found = get_object_or_404(Host, pk=pk)
    (hosts.host_drain if body.draining else hosts.host_undrain)(found.name, request.user)
    said = "drains; what runs there goes on" if body.draining else "takes work again"
    return Done(message=f"{found.name} {said}.")


@router.get("/projects", response=list[StandingOut])
def standing_list(request: HtmxRequest) -> list[StandingOut]:
    """Projects whose plan is not finished, those with the most waiting modules first."""
    require_admin(request)
    return [
        StandingOut(
            project=row.project.slug,
            active_runs=row.project.active_runs,
            binding=row.project.binding,
            modules_waiting=row.waiting,
            people_asked=row.asked,
        )
        for row in siteboard.standings()
    ]


@router.get("/events", response=SiteEventPage)
def event_list(request: HtmxRequest, after: After = 0, limit: Limit = 200) -> SiteEventPage:
    require_admin(request)
    rows = list(SiteEvent.objects.filter(number__gt=after).order_by("number")[:limit])
    newest = SiteEvent.objects.order_by("-number").values_list("number", flat=True).first()
    return SiteEventPage(
        events=[_of(EventOut, row) for row in rows],
        after=rows[-1].number if rows else after,
        newest=newest or 0,
    )
