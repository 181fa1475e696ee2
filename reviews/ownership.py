"""Judge changed paths against the paths that a module owns. Pure: no files, no database."""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Iterable, Mapping, Sequence

import pathspec

from projects.hub import Change
from projects.text import clean_text

GLOBS, GLOB_LENGTH, GLOB_STARS = 200, 300, 12
# A glob becomes a regular expression whose time grows with the power of its stars.
SEGMENT_STARS, DOUBLE_STARS = 3, 3


def compile_globs(globs: Sequence[str]) -> pathspec.GitIgnoreSpec:
    """Return the matcher of gitignore-style globs; ValueError says which glob is bad and why."""
    return _compile(tuple(globs))


def matches(globs: Sequence[str], files: Iterable[str]) -> list[str]:
    """Return those of `files` that the globs match, in their order."""
    spec = compile_globs(globs)
    return [path for path in files if spec.match_file(path)]


def unmatched(globs: Sequence[str], files: Sequence[str]) -> list[str]:
    """Return the globs that match none of `files`; exclusions (`!…`) are not asked."""
    return [glob for glob in globs if not glob.startswith("!") and not matches([glob], files)]


def overlap(one: Sequence[str], two: Sequence[str], files: Iterable[str]) -> list[str]:
    """Return those of `files` that both lists of globs match."""
    return matches(two, matches(one, files))


def outside(
    changes: Iterable[Change], owned: Sequence[str], tests: Sequence[str] = ()
) -> list[str]:
    """Return the changed paths that neither `owned` nor `tests` covers, sorted."""
    mine, given = compile_globs(owned), compile_globs(tests)
    return sorted(
        change.path
        for change in changes
        if not mine.match_file(change.path) and not given.match_file(change.path)
    )


def check_tests_only(changes: Iterable[Change], tests: Sequence[str]) -> list[str]:
    """Return the changed paths that are no test paths, sorted; empty is good."""
    return outside(changes, (), tests)


def touched(changes: Iterable[Change], tests: Sequence[str]) -> list[str]:
    """Return the changed paths that are test paths, sorted; for an executor, empty is good."""
    given = compile_globs(tests)
    return sorted(change.path for change in changes if given.match_file(change.path))


def locked(changes: Iterable[Change], hashes: Mapping[str, str]) -> list[str]:
    """Return the locked paths (path to blob) whose content or kind the changes alter, sorted."""
    return sorted(
        change.path
        for change in changes
        if change.path in hashes
        and (
            change.new_blob != hashes[change.path] or change.old_mode not in (None, change.new_mode)
        )
    )


def links_outside(links: Mapping[str, str], owned: Sequence[str]) -> list[str]:
    """Return the links (path to target) that lead out of the owned paths, sorted."""
    spec = compile_globs(owned)
    return sorted(
        path for path, target in links.items() if not spec.match_file(_goal(path, target))
    )


def _goal(path: str, target: str) -> str:
    return posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).lstrip("/")


@functools.lru_cache(maxsize=1024)
def _compile(globs: tuple[str, ...]) -> pathspec.GitIgnoreSpec:
    if len(globs) > GLOBS:
        raise ValueError(f"There are {len(globs)} globs; at most {GLOBS} are allowed.")
    for glob in globs:
        _check(glob)
    try:
        return pathspec.GitIgnoreSpec.from_lines(globs)
    except (ValueError, TypeError) as error:
        shown = clean_text(", ".join(globs), 200)
        raise ValueError(f"A glob of “{shown}” is not in gitignore style: {error}.") from error


def _check(glob: str) -> None:
    shown = f"The glob “{clean_text(glob, 100).replace(chr(10), ' ')}”"
    if not glob.strip() or glob.startswith("#"):
        raise ValueError(f"{shown} is empty; write a path such as src/** or README.md.")
    if len(glob) > GLOB_LENGTH or glob.count("*") > GLOB_STARS:
        raise ValueError(
            f"{shown} is too long; at most {GLOB_LENGTH} characters and {GLOB_STARS} stars."
        )
    segments = [part for part in glob.split("/") if part != "**"]
    if any(part.count("*") > SEGMENT_STARS for part in segments) or (
        glob.count("**") > DOUBLE_STARS
    ):
        raise ValueError(
            f"{shown} has too many stars; {SEGMENT_STARS} between two slashes and {DOUBLE_STARS} "
            "double ones are allowed."
        )
    if clean_text(glob) != glob or "\n" in glob:
        raise ValueError(f"{shown} holds control characters; write it as plain text.")
    body = glob.removeprefix("!")
    if ".." in body.split("/") or body.startswith(("~", "//")) or body[1:3] == ":\\":
        raise ValueError(f"{shown} leads out of the repository; write a path inside it.")
    if ".git" in body.lower().split("/"):
        raise ValueError(f"{shown} names git's own directory, which no module can own.")
    if body.count("[") != body.count("]"):
        raise ValueError(f"{shown} has an unclosed bracket; close it or write \\[ for the sign.")
