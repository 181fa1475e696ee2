"""Owned paths: gitignore-style globs, what they match, and what is wrong with one."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

LONGEST = 300
MOST_STARS = 12
MOST_IN_ONE = 3

_WILD = re.compile(r"[*?\[\\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def is_wild(glob: str) -> bool:
    """Whether a glob can match more than one file: it has wildcards or names a directory."""
    return bool(_WILD.search(glob)) or glob.endswith("/")


def fault(glob: str, tracked: Files | None = None) -> str | None:
    """Why a glob cannot be used, or None; with `tracked`, a leading slash may anchor it."""
    body = glob[1:] if glob.startswith("!") else glob
    if not body.strip() or body.startswith("#"):
        return "is empty" if not body.strip() else "is a comment, it matches nothing"
    if body != body.strip() or len(body) > LONGEST or _CONTROL.search(body):
        return f"has spaces at an end, control characters, or more than {LONGEST} characters"
    if outside := _outside(body, tracked):
        return outside
    segments = body.split("/")
    if body.count("*") > MOST_STARS or segments.count("**") > MOST_IN_ONE:
        return f"has more than {MOST_STARS} stars, or more than {MOST_IN_ONE} times **"
    if any(part != "**" and part.count("*") > MOST_IN_ONE for part in segments):
        # Each star of one name multiplies the time that a match may take.
        return f"has more than {MOST_IN_ONE} stars between two slashes"
    try:
        spec = compile_globs((body,))
    except (GitIgnorePatternError, re.error, ValueError) as error:
        return f"is not a valid glob ({error})"
    if all(pattern.include is None for pattern in spec.patterns):
        return "is not a valid glob (unbalanced bracket?)"
    return None


def _outside(body: str, tracked: Files | None) -> str | None:
    segments = [part for part in re.split(r"[/\\]", body) if part]
    anchored = (
        tracked is not None and body[:1] == "/" and bool(segments) and tracked.has_top(segments[0])
    )
    if (body.startswith(("/", "~")) and not anchored) or re.match(r"[A-Za-z]:", body):
        return "lies outside the repository (it is absolute); write it from the repository's root"
    if ".." in segments:
        return "lies outside the repository ('..')"
    if any(part.casefold() == ".git" for part in segments):
        return "touches .git, which nobody may own"
    if "." in segments:
        return "has a '.' segment and matches nothing; leave it out"
    return None


@lru_cache(maxsize=4096)
def compile_globs(globs: tuple[str, ...]) -> GitIgnoreSpec:
    """The compiled globs; raises what pathspec raises for a bad one."""
    return GitIgnoreSpec.from_lines(globs)


def matches(globs: Iterable[str], path: str) -> bool:
    """Whether a path is among the globs, the last that speaks of it wins (as in .gitignore)."""
    return compile_globs(tuple(globs)).match_file(path)


class Files:
    """The tracked files of a commit, indexed so that a glob only looks where it can match."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths: list[str] = sorted(set(paths))
        self._known = frozenset(self.paths)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._tops: set[str] = set()
        self._cache: dict[tuple[str, ...], tuple[str, ...]] = {}
        for path in self.paths:
            self._tops.add(path.split("/", 1)[0])
            for part in set(path.split("/")):
                self._by_name[part].append(path)

    def __contains__(self, path: str) -> bool:
        return path in self._known

    def has_top(self, name: str) -> bool:
        """Whether the repository's root holds an entry of that name (wildcards count as one)."""
        return name in self._tops or bool(_WILD.search(name))

    def below(self, directory: str) -> Sequence[str]:
        """Every file under "directory/"; all files for ""."""
        if not directory:
            return self.paths
        start = bisect_left(self.paths, directory + "/")
        return self.paths[start : bisect_left(self.paths, directory + "0")]

    def matched(self, globs: Sequence[str]) -> tuple[str, ...]:
        """The tracked files that the globs match, sorted; globs must be free of faults."""
        key = tuple(globs)
        if key not in self._cache:
            self._cache[key] = self._matched(key)
        return self._cache[key]

    def _matched(self, globs: tuple[str, ...]) -> tuple[str, ...]:
        candidates: set[str] = set()
        exact = True
        for glob in globs:
            if glob.startswith("!"):
                exact = False
            else:
                found, sure = self._candidates(glob)
                candidates.update(found)
                exact = exact and sure
        if not exact:
            spec = compile_globs(globs)
            candidates = {path for path in candidates if spec.match_file(path)}
        return tuple(sorted(candidates))

    def _candidates(self, glob: str) -> tuple[Iterable[str], bool]:
        """A superset of what one positive glob matches, and whether it is exactly that."""
        body = glob.strip("/")
        if tree := subtree_of(glob):
            return self.below(tree), True
        if body == "**":
            return self.paths, True
        if not _WILD.search(body) and glob[-1] != "/":
            if "/" not in glob:
                return self._by_name.get(body, ()), True
            return [path for path in (body,) if path in self._known] or self.below(body), True
        if "/" not in glob.rstrip("/"):
            return self.paths, False
        return self.below(fixed_directory(glob)), False


def fixed_directory(glob: str) -> str:
    """The directory that all matches of an anchored glob lie in: "a/b" for "a/b/*.py"."""
    fixed = []
    for part in glob.strip("/").split("/")[:-1]:
        if _WILD.search(part):
            break
        fixed.append(part)
    return "/".join(fixed)


def subtree_of(glob: str) -> str | None:
    """The directory that a glob takes whole ("a/b" for "a/b/**" and "/a/b/"), or None."""
    body = glob.removesuffix("**") if glob.endswith("/**") else glob
    body = body.removesuffix("/") if body.endswith("/") else ""
    anchored = "/" in body or (glob.endswith("/**") and body != "")
    if not body.strip("/") or _WILD.search(body) or not anchored:
        return None
    return body.strip("/")


def territory(glob: str) -> str:
    """The place that a glob's matches start at: the subtree, the fixed directory or the path."""
    tree = subtree_of(glob)
    if tree is not None:
        return tree
    return fixed_directory(glob) if _WILD.search(glob) else glob.strip("/")


def inside(globs: Sequence[str], glob: str) -> bool:
    """Whether `globs` take everything that `glob` could ever match, as far as prefixes tell."""
    if glob in globs:
        return True
    excluded = [g[1:] for g in globs if g.startswith("!")]
    if not is_wild(glob):
        return matches(globs, glob.strip("/"))
    place = territory(glob)
    if any(_under(territory(g), place) or _under(place, territory(g)) for g in excluded):
        return False
    trees = [tree for g in globs if (tree := subtree_of(g)) is not None]
    return "**" in globs or (bool(place) and any(_under(place, tree) for tree in trees))


def _under(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")
