"""Forms of quotas, prices and providers: they read text; services decide whether it may be so."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar

from django import forms
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet

from agents.models import Provider, Quota
from projects.forms import PlainForm
from projects.models import Project

M, P, SCOPE = Quota.Measure, Quota.Period, Quota.Scope

Row = TypeVar("Row", bound=Model)

#: No budget and no price is larger; what is, is a slip of the finger.
MOST = Decimal(10) ** 12

COUNTS = [
    ("parallel:now", "runs at once"),
    ("tokens:window", "tokens, rolling window"),
    ("tokens:day", "tokens per day"),
    ("tokens:month", "tokens per month"),
    ("money:window", "money, rolling window"),
    ("money:day", "money per day"),
    ("money:month", "money per month"),
]


class AmountField(forms.DecimalField):
    """A number from 0 to a million million, with at most six digits after the point."""

    def __init__(self, **options: Any) -> None:
        errors = {
            "min_value": "A number from 0 up; 0 lets nothing start.",
            "max_value": "That is more than a million million: check the number of zeros.",
            "invalid": "Write a number, like 5 or 12.50.",
            "max_decimal_places": "At most six digits after the point.",
        }
        super().__init__(
            min_value=0, max_value=MOST, decimal_places=6, error_messages=errors, **options
        )
        self.widget.attrs["step"] = "any"


class LimitForm(PlainForm):
    """A new limit for a quota that exists; `version` is the one that the person saw."""

    limit = AmountField()
    version = forms.IntegerField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, quota: Quota, **options: Any) -> None:
        super().__init__(*args, **options)
        self.quota = quota

    def clean_limit(self) -> Decimal:
        return whole_where_counted(self.cleaned_data["limit"], self.quota.measure)


class QuotaForm(PlainForm):
    """A new quota; with a project it is that project's own."""

    scope = forms.ChoiceField(
        label="Bounds",
        choices=[
            (SCOPE.SITE, "the whole site"),
            (SCOPE.PROVIDER, "a provider's account"),
            (SCOPE.PROJECT, "a project"),
            (SCOPE.USER, "a person (who approved the plan)"),
        ],
    )
    provider = forms.ModelChoiceField(
        Provider.objects.order_by("name"), required=False, empty_label="none"
    )
    project = forms.CharField(required=False, max_length=60, label="Project's short name")
    user = forms.CharField(required=False, max_length=150, label="Person's user name")
    counts = forms.ChoiceField(choices=COUNTS)
    window_hours = forms.DecimalField(
        required=False,
        min_value=Decimal("0.01"),
        max_value=Decimal(24 * 366),
        label="Window in hours",
        help_text="For a rolling window only, like 5.",
    )
    time_zone = forms.CharField(
        required=False,
        max_length=60,
        label="Time zone",
        help_text="Where a day or month begins, like Europe/Berlin. Empty is UTC.",
    )
    limit = AmountField()

    def __init__(self, *args: Any, own: Project | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.own = own
        if own:
            for name in ("scope", "provider", "project", "user"):
                del self.fields[name]

    def clean_project(self) -> Project | None:
        rows = Project.objects.filter(archived_at=None)
        return self._named(rows, "slug", "project")

    def clean_user(self) -> User | None:
        return self._named(User.objects.filter(is_active=True), "username", "user")

    def _named(self, rows: QuerySet[Row], by: str, name: str) -> Row | None:
        text = self.cleaned_data[name].strip()
        if not text:
            return None
        found = rows.filter(**{by: text}).first()
        if found is None:
            raise forms.ValidationError(f"There is no {name} {text}.")
        return found

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        scope = data.get("scope")
        if scope in ("provider", "project", "user") and not data.get(scope) and not self.errors:
            self.add_error(scope, f"Say which {scope} it bounds.")
        measure, _, period = data.get("counts", "").partition(":")
        if (
            period == P.WINDOW
            and not data.get("window_hours")
            and "window_hours" not in self.errors
        ):
            self.add_error("window_hours", "A rolling window needs its length in hours.")
        if data.get("limit") is not None:
            try:
                whole_where_counted(data["limit"], measure)
            except forms.ValidationError as error:
                self.add_error("limit", error)
        return data

    def values(self) -> dict[str, Any]:
        """The arguments of `quota_set` that the form says."""
        data = self.cleaned_data
        measure, _, period = data["counts"].partition(":")
        scope = SCOPE.PROJECT if self.own else SCOPE(data["scope"])
        hours = data.get("window_hours") if period == P.WINDOW else None
        # A day begins somewhere; a rolling window and runs at once do not.
        zone = data.get("time_zone") if period in (P.DAY, P.MONTH) else ""
        return {
            "scope": scope,
            "measure": M(measure),
            "period": P(period),
            "limit": data["limit"],
            "project": self.own or (data["project"] if scope == SCOPE.PROJECT else None),
            "provider": data.get("provider") if scope == SCOPE.PROVIDER else None,
            "user": data.get("user") if scope == SCOPE.USER else None,
            "window_seconds": int(hours * 3600) if hours else None,
            "time_zone": zone or "UTC",
        }


def whole_where_counted(limit: Decimal, measure: str) -> Decimal:
    """Raises ValidationError for a half run or token."""
    if measure != M.MONEY and limit != limit.to_integral_value():
        raise forms.ValidationError("Runs and tokens are whole numbers.")
    return limit


class ProviderForm(PlainForm):
    name = forms.RegexField(
        r"^[a-z0-9][a-z0-9_-]{0,59}$",
        label="Short name",
        help_text="Small letters, digits, - and _; profiles name it.",
        error_messages={"invalid": "Use small letters, digits, - and _, a letter or digit first."},
    )
    title = forms.CharField(max_length=120, required=False, help_text="How people call it.")


class SecretForm(PlainForm):
    """A key goes in and never comes out: the field is empty whatever was sent."""

    provider = forms.ModelChoiceField(Provider.objects.order_by("name"))
    env = forms.CharField(
        label="Variable",
        required=False,
        max_length=60,
        help_text="Where the agent looks for it, e.g. ANTHROPIC_API_KEY.",
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false"}),
    )
    value = forms.CharField(
        label="Key",
        required=False,
        strip=False,
        help_text="Kept encrypted and never shown again; left empty, the key is removed.",
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


class PriceForm(PlainForm):
    provider = forms.ModelChoiceField(
        Provider.objects.order_by("name"), required=False, empty_label="any provider"
    )
    model = forms.CharField(max_length=120)
    input_per_million = AmountField(label="Per million tokens in")
    output_per_million = AmountField(label="Per million tokens out")
