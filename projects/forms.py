"""Forms of the pages: they read text of people; services decide whether it may be so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.http import HttpRequest, QueryDict

from projects.models import Dependency, Role
from projects.planfile import SEGMENT
from projects.services.errors import Problem

Rows = list[dict[str, str]]


def posted(request: HttpRequest) -> QueryDict | None:
    """What binds a form: the posted data, even when it is empty; None at a GET."""
    return request.POST if request.method == "POST" else None


def whole_number(text: str) -> int | None:
    """A number of an address or a hidden field; None for anything that is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


class LinesField(forms.CharField):
    """A list of texts, one a line; a line that begins with four spaces continues the one above."""

    def __init__(self, **options: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 4, "class": "mono", "spellcheck": "false"})
        super().__init__(required=False, strip=False, widget=widget, **options)

    def prepare_value(self, value: Any) -> Any:
        return join_lines(value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> Any:
        return split_lines(value or "")


class TextField(forms.CharField):
    """A text of several lines, each line's end counted as one character, as browsers count it."""

    def __init__(self, *, rows: int, max_length: int = 50_000, **options: Any) -> None:
        widget = forms.Textarea(attrs={"rows": rows})
        super().__init__(max_length=max_length, widget=widget, **options)

    def to_python(self, value: Any) -> str:
        text = super().to_python(value) or ""
        return text.replace("\r\n", "\n").replace("\r", "\n")


def join_lines(entries: Iterable[str]) -> str:
    return "\n".join(entry.replace("\n", "\n    ") for entry in entries)


def split_lines(text: str) -> list[str]:
    entries: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.startswith("    ") and entries:
            entries[-1] += "\n" + line[4:]
        elif line.strip():
            entries.append(line.strip())
    return entries


class PlainForm(forms.Form):
    """A form whose fields say to readers of a screen what is wrong with them."""

    #: Somebody saved since the form was opened, so this one was not.
    is_stale = False

    def add_problems(self, problems: Iterable[Problem], message: str = "") -> None:
        """Show a service's problems beside their fields, or above the form."""
        shown = False
        for problem in problems:
            name = problem.field.split(".")[0]
            if name in self.fields:
                self.add_error(name, problem.message)
            else:
                self.add_error(None, f"{problem.field}: {problem.message}".removeprefix(": "))
            shown = True
        if message and not shown:
            self.add_error(None, message)


class SecretArea(forms.Textarea):
    """A field that is written and never shown again, not even with a mistake in it."""

    def format_value(self, value: Any) -> str:
        return ""


class SourceKeyForm(PlainForm):
    secret = forms.CharField(
        required=False,
        max_length=20_000,
        label="Token or deploy key",
        help_text="A token for an https address, a private key without passphrase for ssh. It is "
        "kept sealed and never shown; saving it empty removes it.",
        widget=SecretArea(attrs={"rows": 3, "class": "mono", "autocomplete": "off"}),
    )
    user = forms.CharField(
        required=False,
        max_length=200,
        label="User name",
        help_text="Of the token; many hosts take any name.",
    )
    known_hosts = forms.CharField(
        required=False,
        max_length=20_000,
        label="Known host keys",
        help_text="For ssh: what “ssh-keyscan HOST” prints, compared with what the host publishes. "
        "Empty: the server's own list counts. An unknown host is refused.",
        widget=forms.Textarea(attrs={"rows": 2, "class": "mono"}),
    )


class ProjectForm(SourceKeyForm):
    field_order = ("name", "source", "goal", "branch", "environment", "plan")
    name = forms.CharField(max_length=200, help_text="How people call it.")
    source = forms.CharField(
        max_length=1000,
        label="Repository",
        help_text="A path on this server, or an https or ssh URL.",
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false"}),
    )
    goal = TextField(
        required=False,
        rows=2,
        help_text="What is to be reached; the orchestrator can cut it into modules. A plan file's "
        "own goal counts instead.",
    )
    branch = forms.CharField(
        max_length=200,
        required=False,
        help_text="The team's branch; empty means main. It moves only when a person publishes.",
    )
    environment = forms.CharField(
        max_length=1000,
        required=False,
        help_text="Folder of a Python virtual environment that checks run in. May stay empty.",
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false"}),
    )
    plan = forms.FileField(
        required=False,
        label="Plan file",
        help_text="A tutti.yaml, if you have one. Without it you begin with an empty plan.",
        widget=forms.FileInput(attrs={"accept": ".yaml,.yml"}),
    )


class GeneralForm(PlainForm):
    name = forms.CharField(max_length=200)
    goal = TextField(required=False, rows=3)
    default_branch = forms.CharField(
        max_length=200, label="Branch", help_text="The team's branch, which publishing moves."
    )
    environment = forms.CharField(
        max_length=1000,
        required=False,
        help_text="Folder of a Python virtual environment; its bin comes first in every check.",
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false"}),
    )


class CeilingForm(PlainForm):
    ceiling = forms.IntegerField(
        min_value=1,
        help_text="Most agents at work at once. Running ones go on when you lower it.",
    )


class RoleForm(PlainForm):
    role = forms.ChoiceField(choices=Role.choices)


class TextForm(PlainForm):
    text = TextField(required=False, rows=5, label="")


class ReasonForm(PlainForm):
    reason = TextField(max_length=5_000, rows=2)


class PlanUploadForm(PlainForm):
    file = forms.FileField(
        label="Plan file",
        help_text="A tutti.yaml. It replaces the draft as a whole.",
        widget=forms.FileInput(attrs={"accept": ".yaml,.yml"}),
    )


class PoliciesForm(PlainForm):
    """What goes on by itself and what waits for a person, in words."""

    review = forms.ChoiceField(
        label="Who approves a module's code",
        widget=forms.RadioSelect,
        choices=[
            ("orchestrator", "The orchestrator alone; people may overrule it"),
            ("person", "A person, always"),
            ("both", "The orchestrator first, then a person"),
        ],
    )
    coupling = forms.ChoiceField(
        label="When modules turn out to be coupled",
        widget=forms.RadioSelect,
        choices=[
            ("show", "Show the evidence; people decide"),
            ("apply", "Put them into one lane at once, until people decide otherwise"),
        ],
    )
    split_depth = forms.IntegerField(
        min_value=0,
        max_value=3,
        label="Levels a module may split itself without asking",
        help_text="0: each split waits for a person.",
    )
    split_modules = forms.IntegerField(
        min_value=0, max_value=50, label="Parts of one split without asking"
    )
    exceptions_allow = LinesField(
        label="Paths an agent may be granted without asking",
        help_text="One glob a line, for paths that its module does not own.",
    )
    fix_lines = forms.IntegerField(
        min_value=0,
        max_value=10_000,
        label="Lines the orchestrator fixes itself",
        help_text="A larger error goes to another agent.",
    )
    attempts = forms.IntegerField(
        min_value=1, max_value=20, label="Failures of a module before a person is asked"
    )

    @staticmethod
    def initial_of(policies: Mapping[str, Any]) -> dict[str, Any]:
        plain = {name: policies.get(name) for name in ("review", "coupling", "fix_lines")}
        split = policies.get("split", {})
        return {
            **plain,
            "attempts": policies.get("attempts"),
            "split_depth": split.get("depth"),
            "split_modules": split.get("modules"),
            "exceptions_allow": policies.get("exceptions", {}).get("allow", []),
        }

    def policies(self) -> dict[str, Any]:
        """The plan file's `policies` that the form says."""
        data = self.cleaned_data
        return {
            "review": data["review"],
            "coupling": data["coupling"],
            "split": {"depth": data["split_depth"], "modules": data["split_modules"]},
            "exceptions": {"allow": data["exceptions_allow"]},
            "fix_lines": data["fix_lines"],
            "attempts": data["attempts"],
        }


class PlanForm(PlainForm):
    """A draft's part for the whole project; checks are rows of their own."""

    goal = TextField(required=False, rows=3)
    instructions = TextField(
        required=False,
        rows=3,
        help_text="Every agent of this plan reads them, after the site's and the project's.",
    )


def check_rows(data: QueryDict) -> Rows:
    """The project checks as they were typed, without empty ones."""
    pairs = zip(data.getlist("check_run"), data.getlist("check_at"), strict=False)
    return [{"run": run.strip(), "at": at} for run, at in pairs if run.strip()]


class ContractForm(PlainForm):
    """One module of a draft; what it needs are rows of their own."""

    slug = forms.RegexField(
        rf"^{SEGMENT}(/{SEGMENT}){{0,3}}$",
        max_length=90,
        label="Name",
        help_text="Small letters, digits, - and _; other modules and the branch use it.",
        error_messages={"invalid": "Use small letters, digits, - and _, a letter or digit first."},
    )
    title = forms.CharField(max_length=200, required=False)
    brief = TextField(
        required=False,
        rows=4,
        help_text="What is to be built, for the agents that build and judge it.",
    )
    owns = LinesField(
        label="Owned paths",
        help_text="Globs as in .gitignore, one a line: only this module may change them.",
    )
    tests = LinesField(
        label="Test paths", help_text="Where the planner writes this module's tests."
    )
    tests_given = forms.BooleanField(
        required=False, label="These tests exist; nobody writes them anew"
    )
    provides = LinesField(
        label="Provides",
        help_text="Its interface, one a line: package.name(arguments), or text: anything.",
    )
    checks = LinesField(
        help_text="Commands that must pass, one a line; red before the code, green after it."
    )
    lane = forms.RegexField(
        r"^[a-z0-9][a-z0-9_/-]{0,79}$",
        required=False,
        help_text="Modules of one lane never run at the same time. May stay empty.",
        error_messages={"invalid": "Use small letters, digits, -, _ and /."},
    )
    priority = forms.IntegerField(
        required=False,
        min_value=-1000,
        max_value=1000,
        help_text="Higher starts first; 0 is normal.",
    )
    estimate_seconds = forms.FloatField(
        required=False, min_value=0.001, label="Estimate in seconds", help_text="If you know it."
    )

    def module(self, needs: Rows) -> dict[str, Any]:
        """The plan file's module that the form says, without its slug."""
        data = self.cleaned_data
        return {
            "title": data.get("title") or "",
            "brief": data.get("brief") or "",
            "owns": data.get("owns") or [],
            "tests": {"paths": data.get("tests") or [], "given": bool(data.get("tests_given"))},
            "provides": data.get("provides") or [],
            "needs": needs,
            "checks": data.get("checks") or [],
            "lane": data.get("lane") or "",
            "priority": data.get("priority") or 0,
            "estimate_seconds": data.get("estimate_seconds"),
        }

    @staticmethod
    def initial_of(module: Mapping[str, Any]) -> dict[str, Any]:
        tests = module["tests"]
        return {**module, "tests": tests["paths"], "tests_given": tests["given"]}


def need_rows(data: QueryDict) -> Rows:
    """What a module needs as it was typed, without empty rows."""
    pairs = zip(data.getlist("need_module"), data.getlist("need_kind"), strict=False)
    return [{"module": name.strip(), "kind": kind} for name, kind in pairs if name.strip()]


NEED_KINDS = [
    (Dependency.Kind.CONTRACT, "its interface (both run at once)"),
    (Dependency.Kind.IMPLEMENTATION, "its merged code (starts after it)"),
    (Dependency.Kind.COUPLED, "coupled (never at the same time)"),
]
