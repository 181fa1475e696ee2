"""The plan file, tutti.yaml: read it with line numbers, write it without loss, compare it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from projects.specs import ModuleSpec, Need
from projects.yamltext import YamlError, dump_yaml, line_of, load_yaml

LARGEST = 1_000_000
"""Characters of a plan file; ten thousand short modules fit."""

SEGMENT = r"[a-z0-9][a-z0-9_-]{0,39}"


def _plain(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    bad = next(
        (c for c in text if (c < " " and c not in "\n\t") or "\ud800" <= c <= "\udfff"), None
    )
    if bad is not None:
        raise ValueError(f"holds a character that no text may hold (U+{ord(bad):04X})")
    return text


def _one_line(text: str) -> str:
    if "\n" in text:
        raise ValueError("must be one line")
    return text


def _text_entry(value: object) -> object:
    # "- text: anything" is a mapping to YAML; people mean the line.
    if isinstance(value, dict) and list(value) == ["text"] and isinstance(value["text"], str):
        return f"text: {value['text']}"
    return value


def _each_once(needs: list[NeedPart]) -> list[NeedPart]:
    seen = set()
    for need in needs:
        if need.module in seen:
            raise ValueError(f"{need.module} is needed twice; keep one of the two")
        seen.add(need.module)
    return needs


def _test_paths(value: object) -> object:
    return {"paths": value} if isinstance(value, list) else value


Text = Annotated[str, AfterValidator(_plain), Field(max_length=50_000)]
Line = Annotated[str, AfterValidator(_plain), AfterValidator(_one_line), Field(max_length=300)]
Title = Annotated[Line, Field(max_length=200)]
Command = Annotated[str, AfterValidator(_plain), Field(min_length=1, max_length=4_000)]
Glob = Annotated[str, AfterValidator(_plain), Field(min_length=1, max_length=300)]
Slug = Annotated[str, Field(pattern=rf"^{SEGMENT}(/{SEGMENT}){{0,3}}$", max_length=90)]
Provided = Annotated[
    str, BeforeValidator(_text_entry), AfterValidator(_plain), Field(min_length=1, max_length=2_000)
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ProjectCheck(_Part):
    """A command on the merged tree: at every merge, or once when all is merged."""

    run: Command
    at: Literal["merge", "end"] = "end"


class SplitLimits(_Part):
    """How far a module may split without asking a person: levels, and parts a split."""

    depth: int = Field(default=1, ge=0, le=3)
    modules: int = Field(default=4, ge=0, le=50)


class ExceptionLimits(_Part):
    """Paths that an agent may be granted without asking a person."""

    allow: list[Glob] = Field(default_factory=list, max_length=200)


class Policies(_Part):
    """What goes on by itself and what waits for a person; part of what is approved."""

    review: Literal["orchestrator", "person", "both"] = "orchestrator"
    coupling: Literal["show", "apply"] = "show"
    split: SplitLimits = Field(default_factory=SplitLimits)
    exceptions: ExceptionLimits = Field(default_factory=ExceptionLimits)
    fix_lines: int = Field(
        default=20, ge=0, le=10_000, description="The orchestrator fixes up to so many lines itself"
    )
    attempts: int = Field(default=3, ge=1, le=20, description="Failures before a person is asked")


class Replay(_Part):
    """Recorded runs to play instead of asking a model."""

    recordings: Line = "recordings"
    scale: float = Field(
        default=1.0, ge=0, le=1_000, allow_inf_nan=False, description="Factor on recorded times"
    )
    leave_out: list[Line] = Field(default_factory=list, max_length=100)


class ProjectPart(_Part):
    """What holds for the whole project."""

    name: Title = ""
    goal: Text = ""
    checks: list[ProjectCheck] = Field(default_factory=list, max_length=100)
    instructions: Text = ""
    ceiling: int = Field(default=5, ge=1, le=1_000, description="Most agents at work at once")
    policies: Policies = Field(default_factory=Policies)
    replay: Replay | None = None


class NeedPart(_Part):
    """What a module waits for: an interface, merged code, or a turn in the same lane."""

    module: Slug
    kind: Literal["contract", "implementation", "coupled"]


class TestPaths(_Part):
    """Where a module's tests live; `given` when people wrote them already."""

    __test__ = False  # pytest would collect it by its name.

    paths: list[Glob] = Field(default_factory=list, max_length=200)
    given: bool = False


class ModulePart(_Part):
    """A module and its contract."""

    slug: Slug
    title: Title = ""
    brief: Text = ""
    owns: list[Glob] = Field(default_factory=list, max_length=500)
    tests: Annotated[
        TestPaths, BeforeValidator(_test_paths, json_schema_input_type=list[Glob] | TestPaths)
    ] = Field(default_factory=TestPaths)
    provides: list[Provided] = Field(default_factory=list, max_length=1_000)
    needs: Annotated[list[NeedPart], AfterValidator(_each_once)] = Field(
        default_factory=list, max_length=1_000
    )
    checks: list[Command] = Field(default_factory=list, max_length=100)
    lane: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9_/-]{0,79})?$")
    priority: int = Field(default=0, ge=-1_000, le=1_000)
    estimate_seconds: float | None = Field(default=None, gt=0, le=30 * 86_400, allow_inf_nan=False)


def _named_apart(modules: list[ModulePart]) -> list[ModulePart]:
    places: dict[str, int] = {}
    for place, module in enumerate(modules):
        first = places.setdefault(module.slug, place)
        if first != place:
            raise ValueError(
                f"modules[{first}] and modules[{place}] are both named {module.slug}; "
                "rename one of the two"
            )
    return modules


class PlanFile(_Part):
    """A whole plan, as people write and approve it."""

    version: Literal[1] = 1
    project: ProjectPart = Field(default_factory=ProjectPart)
    modules: Annotated[list[ModulePart], AfterValidator(_named_apart)] = Field(
        default_factory=list, max_length=10_000
    )


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in a plan file; `line` counts from 1, `path` is like "modules[2].owns"."""

    line: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.path + ': ' if self.path else ''}{self.message}"


class PlanFileError(ValueError):
    """A plan file that cannot be read, with every problem found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two plans; `module` is None for the project's fields.

    A module that came or went has the field "module", and None on the side where it is not.
    """

    module: str | None
    field: str
    old: Any
    new: Any


def load(text: str) -> PlanFile:
    """Read a plan file; raises PlanFileError with the lines of all that is wrong."""
    if len(text) > LARGEST:
        message = f"the file has {len(text)} characters; at most {LARGEST} are read"
        raise PlanFileError([Problem(1, "", message)])
    try:
        data, lines = load_yaml(text)
    except YamlError as error:
        raise PlanFileError([Problem(*found) for found in error.found]) from None
    try:
        return PlanFile.model_validate(data)
    except ValidationError as error:
        raise PlanFileError(_problems(error, lines)) from None


def read(data: Any) -> PlanFile:
    """A plan file from plain data, as an agent answers it; raises PlanFileError like `load`."""
    try:
        return PlanFile.model_validate(data)
    except ValidationError as error:
        raise PlanFileError(_problems(error, {})) from None


def _problems(error: ValidationError, lines: Mapping[tuple[str | int, ...], int]) -> list[Problem]:
    found = []
    for detail in error.errors(include_url=False, include_context=False)[:200]:
        place = detail["loc"]
        found.append(Problem(line_of(place, lines), path_text(place), _message(detail)))
    return sorted(found, key=lambda problem: problem.line)


def path_text(place: tuple[str | int, ...]) -> str:
    """("modules", 2, "owns") -> "modules[2].owns"."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _message(detail: Mapping[str, Any]) -> str:
    kind, given = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        return f"{str(detail['loc'][-1])!r} is not a key here; remove it or correct its spelling"
    if kind == "missing":
        return f"{str(detail['loc'][-1])!r} is missing"
    if kind == "string_type" and not isinstance(given, list | None):
        return "must be text; put it in quotes"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return "must be a mapping (key: value lines)"
    return str(detail["msg"]).removeprefix("Value error, ")


def dump(plan: PlanFile) -> str:
    """The plan as YAML, without what is as by default; load(dump(plan)) == plan."""
    data = {"version": plan.version, **plan.model_dump(exclude_defaults=True)}
    data["modules"] = [_module_data(module) for module in plan.modules]
    return dump_yaml(data)


def _module_data(module: ModulePart) -> dict[str, Any]:
    data = module.model_dump(exclude_defaults=True)
    if "tests" in data and not module.tests.given:
        data["tests"] = module.tests.paths
    if "provides" in data:
        # The mapping reads better than a quoted "text: ..." and means the same.
        data["provides"] = [
            {"text": line[6:]} if line.startswith("text: ") else line for line in module.provides
        ]
    return data


def canonical(plan: PlanFile) -> dict[str, Any]:
    """The plan as plain data in which the order of modules and needs does not matter."""
    data = plan.model_dump(mode="json")
    for module in data["modules"]:
        module["needs"].sort(key=lambda need: (need["module"], need["kind"]))
    data["modules"].sort(key=lambda module: (module["slug"], _json(module)))
    return data


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(plan: PlanFile, *, policies: Mapping[str, Any] | BaseModel, source_commit: str) -> str:
    """SHA-256 (64 hex digits) of exactly what a person approves."""
    rules = policies.model_dump(mode="json") if isinstance(policies, BaseModel) else dict(policies)
    whole = {"plan": canonical(plan), "policies": rules, "source_commit": source_commit}
    return hashlib.sha256(_json(whole).encode()).hexdigest()


def difference(old: PlanFile | None, new: PlanFile) -> list[Change]:
    """What changed, the project's fields first, then modules in the order of the new plan."""
    before = old or PlanFile()
    changes = [
        Change(None, field, was, now)
        for field, was, now in _fields("", _data(before.project), _data(new.project))
    ]
    was_there = {module.slug: module for module in before.modules}
    for module in new.modules:
        past = was_there.pop(module.slug, None)
        if past is None:
            changes.append(Change(module.slug, "module", None, _data(module)))
        elif past != module:
            changes += [
                Change(module.slug, field, was, now)
                for field, was, now in _fields("", _data(past), _data(module))
            ]
    changes += [Change(slug, "module", _data(gone), None) for slug, gone in was_there.items()]
    return changes


def _data(part: BaseModel) -> dict[str, Any]:
    return part.model_dump(mode="json")


def _fields(
    prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for key in dict.fromkeys((*old, *new)):
        was, now = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            found += _fields(f"{prefix}{key}.", was, now)
        elif was != now:
            found.append((f"{prefix}{key}", was, now))
    return found


def module_spec(module: ModulePart) -> ModuleSpec:
    """The module as projects.graph works on it."""
    return ModuleSpec(
        slug=module.slug,
        title=module.title,
        owns=tuple(module.owns),
        tests=tuple(module.tests.paths),
        needs=tuple(Need(need.module, need.kind) for need in module.needs),
        checks=tuple(module.checks),
        lane=module.lane,
        priority=module.priority,
        estimate_seconds=module.estimate_seconds,
        parent=module.slug.rpartition("/")[0],
        provides=tuple(module.provides),
        tests_given=module.tests.given,
    )


def module_specs(plan: PlanFile) -> list[ModuleSpec]:
    """All modules of a plan as projects.graph works on them, in plan order."""
    return [module_spec(module) for module in plan.modules]


def schema() -> str:
    """The JSON Schema of a plan file, as published in docs/tutti.schema.json."""
    data = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tutti.yaml",
        **PlanFile.model_json_schema(),
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
