"""A unified diff as rows for a page: line numbers, kinds and highlighted code, within limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound

from projects.redaction import MARK

#: Rows of one page; what comes after is counted, not shown.
MAX_ROWS = 5_000
#: A file with more rows is shown without colours: highlighting costs 0.1 ms a line.
MAX_HIGHLIGHTED = 2_000
MAX_LINE = 1_000

Kind = Literal["same", "add", "del", "hunk", "note"]

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)")


@dataclass(frozen=True)
class Row:
    """One line of a diff; `old` and `new` count from 1 and are None on the side it is not on."""

    kind: Kind
    old: int | None
    new: int | None
    text: str
    html: str = ""


@dataclass(frozen=True)
class DiffFile:
    """The changes of one file; `note` says why there are no rows (binary, renamed only)."""

    path: str
    old_path: str
    status: Literal["changed", "added", "deleted", "renamed"]
    rows: tuple[Row, ...]
    note: str = ""
    left_out: int = 0

    @property
    def added(self) -> int:
        return sum(row.kind == "add" for row in self.rows)

    @property
    def deleted(self) -> int:
        return sum(row.kind == "del" for row in self.rows)


def parse(text: str, max_rows: int = MAX_ROWS, hide: Callable[[str], str] = str) -> list[DiffFile]:
    """Read `git diff` output; after `max_rows` rows in all, lines are only counted.

    `hide` takes out of each side of a file, and of its name, what may not be shown.
    """
    files = []
    left = max_rows
    for head, body in _files(text.split("\n")):
        rows = tuple(_rows(body))
        shown = tuple(_hidden(rows[: max(left, 0)], hide))
        left -= len(shown)
        head = [hide(line) for line in head]
        files.append(_file(head, _highlighted(shown, _path(head)), len(rows) - len(shown)))
    return files


def _hidden(rows: Sequence[Row], hide: Callable[[str], str]) -> Iterator[Row]:
    """The rows without what may not be shown, which may go over several lines; then cut."""
    texts = [row.text for row in rows]
    for kinds in (("same", "add"), ("same", "del"), ("hunk",)):
        at = [place for place, row in enumerate(rows) if row.kind in kinds]
        before = "\n".join(rows[place].text for place in at)
        if (after := hide(before)) == before:
            continue
        for place, text in zip(at, after.split("\n"), strict=True):
            if text != rows[place].text:
                # Where the two sides hide different parts of a line, nothing of it is shown.
                texts[place] = text if texts[place] in (text, rows[place].text) else MARK
    for row, text in zip(rows, texts, strict=True):
        yield replace(row, text=text[:MAX_LINE])


def _files(lines: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Split into files: the lines before the first hunk, and the rest.

    Lines of a hunk are counted, so that code that looks like a header is never taken for one.
    """
    head: list[str] = []
    body: list[str] = []
    old = new = 0
    for line in lines:
        if old > 0 or new > 0 or line.startswith("\\"):
            body.append(line)
            old -= line[:1] in (" ", "-", "")
            new -= line[:1] in (" ", "+", "")
        elif found := _HUNK.match(line):
            body.append(line)
            old, new = _count(found[2]), _count(found[4])
        elif line.startswith("diff --git "):
            if head:
                yield head, body
            head, body = [line], []
        elif head and line:
            head.append(line)
    if head:
        yield head, body


def _count(text: str | None) -> int:
    return 1 if text is None else int(text)


def _rows(body: Iterable[str]) -> Iterator[Row]:
    old = new = 0
    for line in body:
        mark, text = line[:1], line[1:]
        if found := _HUNK.match(line):
            old, new = int(found[1]), int(found[3])
            yield Row("hunk", None, None, line)
        elif mark == "+":
            yield Row("add", None, new, text)
            new += 1
        elif mark == "-":
            yield Row("del", old, None, text)
            old += 1
        elif mark == "\\":
            yield Row("note", None, None, text.strip())
        else:
            yield Row("same", old, new, text)
            old, new = old + 1, new + 1


def _file(head: list[str], rows: tuple[Row, ...], left_out: int) -> DiffFile:
    fields = {line.split(" ", 1)[0]: line for line in head}
    path, old_path = _path(head), _old_path(head)
    status: Literal["changed", "added", "deleted", "renamed"] = "changed"
    if "new" in fields:
        status = "added"
    elif "deleted" in fields:
        status = "deleted"
    elif "rename" in fields:
        status = "renamed"
    note = ""
    if "Binary" in fields:
        note = "A binary file; its content is not shown."
    elif not rows and not left_out:
        note = "Nothing but its name or mode changed." if status != "added" else "An empty file."
    return DiffFile(path, old_path, status, rows, note, left_out)


def _path(head: list[str]) -> str:
    for mark in ("+++ b/", "rename to "):
        if found := next((line for line in head if line.startswith(mark)), ""):
            return found.removeprefix(mark).rstrip("\t")
    return _old_path(head)


def _old_path(head: list[str]) -> str:
    for mark in ("--- a/", "rename from "):
        if found := next((line for line in head if line.startswith(mark)), ""):
            return found.removeprefix(mark).rstrip("\t")
    name = head[0].removeprefix("diff --git a/")
    return name[: (len(name) - 3) // 2]  # "<path> b/<path>"


def _highlighted(rows: tuple[Row, ...], path: str) -> tuple[Row, ...]:
    lexer = _lexer(path) if len(rows) <= MAX_HIGHLIGHTED else None
    if lexer is None:
        return tuple(_with_html(row, _plain(row.text)) for row in rows)
    # Each side is a text of its own: a comment that the change opens must not colour the old code.
    new = iter(_lines([r.text for r in rows if r.kind in ("same", "add")], lexer))
    old = iter(_lines([r.text for r in rows if r.kind in ("same", "del")], lexer))
    done = []
    for row in rows:
        html = _plain(row.text)
        if row.kind in ("same", "add"):
            html = next(new)
        if row.kind in ("same", "del"):
            html = next(old) if row.kind == "del" else (next(old), html)[1]
        done.append(_with_html(row, html))
    return tuple(done)


def _with_html(row: Row, html: SafeString) -> Row:
    return Row(row.kind, row.old, row.new, row.text, html)


def _plain(text: str) -> SafeString:
    return mark_safe(escape(text))


def _lexer(path: str) -> Lexer | None:
    try:
        return get_lexer_for_filename(path, stripnl=False, ensurenl=True)
    except ClassNotFound:
        return None


def _lines(texts: list[str], lexer: Lexer) -> list[SafeString]:
    """Highlight the lines as one text; plain when the highlighter loses count of them."""
    code = "\n".join(text.replace("\r", "") for text in texts)
    formatter: HtmlFormatter[str] = HtmlFormatter(nowrap=True)
    html = formatter_lines(code, lexer, formatter)
    if len(html) != len(texts):
        return [_plain(text) for text in texts]
    return [mark_safe(line) for line in html]


def formatter_lines(code: str, lexer: Lexer, formatter: HtmlFormatter[str]) -> list[str]:
    pieces: Iterable[tuple[int, str]] = formatter._format_lines(lexer.get_tokens(code))
    return [line.rstrip("\n") for _, line in pieces]
