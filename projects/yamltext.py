"""YAML as people write it: events to plain data with line numbers, and back.

Read from the parser's events rather than with a loader: no tags, no aliases (a few lines of them
unfold into gigabytes), keys only once, and the words of YAML 1.2, in which `on` and `no` are text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # pragma: no cover - every wheel of PyYAML that we install has it
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

Place = tuple[str | int, ...]

DEEPEST = 20
LONGEST_NUMBER = 30

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{
        sign + word: float(sign + "inf")
        for sign in ("", "+", "-")
        for word in (".inf", ".Inf", ".INF")
    },
    **{word: float("nan") for word in (".nan", ".NaN", ".NAN")},
}


class YamlError(ValueError):
    """Text that is not the YAML we read; `found` are (line, path, message)."""

    def __init__(self, *found: tuple[int, str, str]) -> None:
        super().__init__("; ".join(f"line {line}: {message}" for line, _, message in found))
        self.found = found


@dataclass(slots=True)
class _Open:
    """A collection that is being read."""

    place: Place
    into: dict[str, Any] | list[Any]
    key: str | None = None
    repeated: list[tuple[int, str, str]] = field(default_factory=list)


def load_yaml(text: str) -> tuple[Any, dict[Place, int]]:
    """One document as plain data, and the line (from 1) of each key and item; raises YamlError."""
    reader = _Reader()
    try:
        for event in yaml.parse(text, Loader=_Loader):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise YamlError((line, "", f"not valid YAML: {error.problem or error.context}")) from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise YamlError((_bad_line(text), "", f"not valid YAML: {_first_line(error)}")) from None
    if reader.repeated:
        raise YamlError(*reader.repeated)
    return reader.root, reader.lines


def line_of(place: Place, lines: Mapping[Place, int]) -> int:
    """The line of a place, or of the nearest thing around it."""
    for size in range(len(place), -1, -1):
        if place[:size] in lines:
            return lines[place[:size]]
    return 1


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["unreadable"])[0]


def _bad_line(text: str) -> int:
    for number, line in enumerate(text.split("\n"), 1):
        if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]", line):
            return number
    return 1


class _Reader:
    """Takes events, builds data; no recursion, so depth cannot hurt."""

    def __init__(self) -> None:
        self.root: Any = None
        self.lines: dict[Place, int] = {}
        self.stack: list[_Open] = []
        self.repeated: list[tuple[int, str, str]] = []
        self.documents = 0

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise YamlError((line, "", "the file holds a second document ('---'); write one"))
        elif isinstance(event, yaml.AliasEvent):
            raise YamlError((line, "", f"aliases (*{event.anchor}) are not read; write it out"))
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event, line)
            self._scalar(event, line)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._refuse_tag(event, line)
            self._open({} if isinstance(event, yaml.MappingStartEvent) else [], line)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self.stack.pop()

    def _refuse_tag(self, event: Any, line: int) -> None:
        if event.anchor:
            raise YamlError((line, "", f"anchors (&{event.anchor}) are not read; write it out"))
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise YamlError((line, "", f"tags ({event.tag}) are not read; remove it"))

    def _open(self, into: dict[str, Any] | list[Any], line: int) -> None:
        if len(self.stack) >= DEEPEST:
            raise YamlError((line, "", f"nested deeper than {DEEPEST} levels"))
        if self._awaits_key():
            raise YamlError((line, "", "a key must be a word, not a list or mapping"))
        self.stack.append(_Open(self._put(into, line), into))

    def _awaits_key(self) -> bool:
        return (
            bool(self.stack)
            and isinstance(self.stack[-1].into, dict)
            and self.stack[-1].key is None
        )

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        if not self._awaits_key():
            plain = event.implicit[0] and event.style in (None, "")
            self._put(_resolve(event.value, line) if plain else event.value, line)
            return
        top = self.stack[-1]
        place = (*top.place, event.value)
        if event.value in top.into:
            first = self.lines[place]
            message = f"{event.value!r} is written twice (first in line {first})"
            self.repeated.append((line, "", message))
        top.key = event.value
        self.lines.setdefault(place, line)

    def _put(self, value: Any, line: int) -> Place:
        if not self.stack:
            self.root = value
            self.lines[()] = line
            return ()
        top = self.stack[-1]
        if isinstance(top.into, list):
            place: Place = (*top.place, len(top.into))
            top.into.append(value)
            self.lines[place] = line
            return place
        assert top.key is not None
        place = (*top.place, top.key)
        top.into[top.key], top.key = value, None
        return place


def _resolve(word: str, line: int) -> Any:
    """A plain scalar by the core schema of YAML 1.2."""
    if word in _WORDS:
        return _WORDS[word]
    if len(word) > LONGEST_NUMBER:
        if _INT.fullmatch(word) or _FLOAT.fullmatch(word):
            raise YamlError((line, "", "a number with too many digits; put it in quotes"))
        return word
    if _INT.fullmatch(word):
        return int(word, 0 if word[:2] in ("0o", "0x") else 10)
    return float(word) if _FLOAT.fullmatch(word) else word


class _Dumper(yaml.SafeDumper):
    """Block style, readable long texts, quotes round whatever YAML 1.2 would not read as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    odd = re.search(
        r"[^\n\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]", text
    )
    # YAML counts these as line breaks and would read them back as "\n".
    breaks = re.search("[\x85\u2028\u2029]", text)
    if odd or breaks:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
    if "\n" in text.rstrip("\n"):
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text)


_Dumper.add_representer(str, _represent_text)
for _pattern, _tag in ((_INT, "int"), (_FLOAT, "float")):
    _Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern.pattern})$"), list("-+.0123456789")
    )


def dump_yaml(data: Any) -> str:
    """Plain data as one readable document that load_yaml reads back the same."""
    return yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=False,
    )
