"""Accounts of providers with their breakers, and what models cost: a site admin's pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_POST

from agents import siteboard
from agents.amounts import currency
from agents.forms import PriceForm, ProviderForm, SecretForm
from agents.models import Price, Provider
from agents.services import providers
from agents.services.secrets import secret_set
from agents.views.fresh import fresh_response, require_admin
from agents.views.quotas import csv_file
from projects import feed, live
from projects.access import HtmxRequest
from projects.forms import PlainForm
from projects.services.errors import Refused
from projects.views.answers import act


def _home() -> str:
    return reverse("agents:providers")


@login_required
@require_GET
def provider_list(request: HtmxRequest) -> HttpResponse:
    require_admin(request)
    version = feed.site_version()
    context = _context()
    return fresh_response(
        request, "agents/providers.html", context, topic=live.SITE, version=version
    )


def _context(**forms: PlainForm) -> dict[str, Any]:
    return {
        "section": "providers",
        "accounts": siteboard.accounts(),
        "prices": siteboard.prices(),
        "unpriced": siteboard.unpriced(),
        "currency": currency(),
        "provider_form": forms.get("provider_form") or ProviderForm(),
        "price_form": forms.get("price_form") or PriceForm(),
        "secret_form": forms.get("secret_form") or SecretForm(),
    }


def _saved(
    request: HtmxRequest, name: str, form: PlainForm, save: Callable[[], Any]
) -> HttpResponse:
    if form.is_valid():
        try:
            save()
        except Refused as error:
            form.add_problems(error.problems, error.message)
        else:
            messages.success(request, "Saved.")
            return redirect(_home())
    context = {**_context(**{name: form}), "topic": live.SITE, "version": feed.site_version()}
    return render(request, "agents/providers.html", context, status=422)


@login_required
@require_POST
def provider_set(request: HtmxRequest) -> HttpResponse:
    require_admin(request)
    form = ProviderForm(request.POST)
    return _saved(request, "provider_form", form, lambda: providers.provider_set(
        request.user, form.cleaned_data["name"], form.cleaned_data["title"]))  # fmt: skip


@sensitive_post_parameters("value")
@login_required
@require_POST
def provider_secret(request: HtmxRequest) -> HttpResponse:
    require_admin(request)
    form = SecretForm(request.POST)
    return _saved(request, "secret_form", form, lambda: secret_set(
        form.cleaned_data["provider"], request.user, form.cleaned_data["value"],
        form.cleaned_data["env"]))  # fmt: skip


@login_required
@require_POST
def price_set(request: HtmxRequest) -> HttpResponse:
    require_admin(request)
    form = PriceForm(request.POST)
    return _saved(
        request, "price_form", form, lambda: providers.price_set(request.user, **form.cleaned_data)
    )


@login_required
@require_POST
def price_remove(request: HtmxRequest, pk: int) -> HttpResponse:
    require_admin(request)
    found = get_object_or_404(Price.objects.select_related("provider"), pk=pk)
    done = f"The price of {found.model} is removed; what it costs is unknown from now on."
    return act(request, lambda: providers.price_remove(found, request.user), to=_home(), done=done)


@login_required
@require_POST
def provider_reset(request: HtmxRequest, pk: int) -> HttpResponse:
    require_admin(request)
    found = get_object_or_404(Provider, pk=pk)
    return act(
        request,
        lambda: providers.provider_reset(found, request.user),
        to=_home(),
        done=f"{found} is taken to work again; what waited for it starts.",
    )


@login_required
@require_POST
def provider_remove(request: HtmxRequest, pk: int) -> HttpResponse:
    require_admin(request)
    found = get_object_or_404(Provider, pk=pk)
    return act(
        request,
        lambda: providers.provider_remove(found, request.user),
        to=_home(),
        done=f"{found} is removed.",
    )


@login_required
@require_GET
def price_download(request: HtmxRequest) -> HttpResponse:
    require_admin(request)
    columns = ("provider", "model", "input_per_million", "output_per_million", "currency")
    rows = (
        (row.price.provider.name if row.price.provider else "", row.price.model,
         row.price.input_per_million, row.price.output_per_million, currency())
        for row in siteboard.prices()
    )  # fmt: skip
    return csv_file("prices", columns, rows)
