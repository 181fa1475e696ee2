"""What a repository holds at a commit, as far as plans are made from it: values alone. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from projects.coupling import ImportEdge

_TEST_FOLDERS = frozenset({"tests", "test", "testing", "__tests__", "spec", "specs", "e2e"})
_TEST_NAME = re.compile(
    r"^(?:test_.*|.*_test|conftest)\.py$|\.(?:test|spec)\.[cm]?[jt]sx?$|_test\.go$|_spec\.rb$"
)
_ASIDE = frozenset({"docs", "doc", "examples", "example", "misc", "scripts", "tools", "benchmarks",
                    "bench", ".github", "requirements"})  # fmt: skip
_CODE = frozenset({"py", "js", "jsx", "mjs", "cjs", "ts", "tsx", "go", "rs", "rb", "java", "kt",
                   "swift", "c", "cc", "cpp", "h", "hpp", "cs", "php", "ex", "exs", "scala", "clj",
                   "dart", "lua", "vue", "svelte"})  # fmt: skip
_SETUP_NAMES = re.compile(
    r"^(?:pyproject\.toml|setup\.(?:cfg|py)|tox\.ini|pytest\.ini|noxfile\.py|package\.json|go\.mod"
    r"|Cargo\.toml|Makefile|requirements[^/]*\.txt|\.github/workflows/[^/]+\.ya?ml)$"
)


@dataclass(frozen=True)
class Codebase:
    """Files with their bytes, imports between them, commits' files, and texts of the set-up."""

    sizes: Mapping[str, int]
    imports: tuple[ImportEdge, ...] = ()
    together: tuple[frozenset[str], ...] = ()
    setup: Mapping[str, str] = field(default_factory=dict)
    #: Why a part of it is not known; empty when all is.
    missing: str = ""

    def code(self) -> list[str]:
        """Files that programs are written in, without tests and what stands aside."""
        return [path for path in sorted(self.sizes) if is_code(path)]

    def tests(self) -> list[str]:
        """Files that test, with what helps them."""
        return [path for path in sorted(self.sizes) if is_test(path) and suffix(path) in _CODE]


def suffix(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[2].lower()


def is_test(path: str) -> bool:
    """Whether a file belongs to the tests, by its name alone."""
    folders = path.split("/")[:-1]
    name = path.rpartition("/")[2]
    return bool(_TEST_NAME.search(name)) or any(one.lower() in _TEST_FOLDERS for one in folders)


def test_folder(path: str) -> str:
    """The outermost folder of a path that is for tests by its name; "" when none is."""
    parts = path.split("/")[:-1]
    for depth, name in enumerate(parts, 1):
        if name.lower() in _TEST_FOLDERS:
            return "/".join(parts[:depth])
    return ""


def is_code(path: str) -> bool:
    """Whether a file is code that a module could own, by its name alone."""
    top, _, rest = path.partition("/")
    if rest and (top.lower() in _ASIDE or top.startswith(".")):
        return False
    return suffix(path) in _CODE and not is_test(path) and path not in ("setup.py", "noxfile.py")


def setup_files(paths: Iterable[str]) -> list[str]:
    """Files that say how the project is built and tested; at most forty."""
    return [path for path in sorted(paths) if _SETUP_NAMES.match(path)][:40]


def kilobytes(size: int) -> str:
    """300 -> "0.3 kB"."""
    return f"{size / 1000:.1f} kB" if size < 10_000 else f"{size // 1000} kB"
