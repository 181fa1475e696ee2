"""Compare code with declared interfaces, and find imports: run inside the sandbox.

usage: python -I -S analyse.py JOB.json SITE_PACKAGES   (in the tree that is analysed)
Prints what it found as lines "tutti1:<base64 of zlib of JSON>" and "tutti-at:<path>" before it
parses a file, so that a crash can be blamed. Nothing of the tree is imported or executed.
"""

from __future__ import annotations

import ast
import base64
import importlib.util
import json
import sys
import zlib
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True

LARGEST = 2_000_000
MOST = 200
ROOTS = ("", "src/", "lib/")


def _load(name: str) -> Any:
    """A file of reviews/ that uses the standard library alone; the package itself is not here."""
    place = Path(__file__).resolve().parent.parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"tutti_{name}", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


stubs, signatures = _load("stubs"), _load("signatures")


class Source:
    """The tree's files, each read and parsed once."""

    def __init__(self) -> None:
        self.trees: dict[str, ast.Module | None] = {}
        self.faults: dict[str, tuple[str, int | None]] = {}
        self.texts: dict[str, str] = {}

    def text(self, path: str) -> str | None:
        if path not in self.texts:
            try:
                place = Path(path)
                if not place.resolve().is_relative_to(Path.cwd()) or not place.is_file():
                    raise OSError("it is not a file of the repository")
                if place.stat().st_size > LARGEST:
                    raise OSError(f"it has more than {LARGEST} bytes")
                self.texts[path] = place.read_text(encoding="utf-8", errors="replace")
            except OSError as error:
                self.faults[path] = (f"cannot be read ({error})", None)
                return None
        return self.texts[path]

    def tree(self, path: str) -> ast.Module | None:
        if path not in self.trees:
            self.trees[path] = None
            text = self.text(path)
            if text is not None:
                # A file's name may hold line breaks, which must not look like lines of ours.
                print(f"tutti-at:{path.encode('unicode_escape').decode()}", flush=True)
                try:
                    self.trees[path] = stubs.parse(text)
                except stubs.Unreadable as error:
                    self.faults[path] = (str(error), error.line)
        return self.trees[path]


def locate(dotted: str) -> tuple[str, str] | None:
    """(file, name inside it) of a dotted path, in the tree."""
    parts = dotted.split(".")
    for size in range(len(parts), 0, -1):
        stem = "/".join(parts[:size])
        for root in ROOTS:
            for name in (f"{root}{stem}.py", f"{root}{stem}/__init__.py"):
                if Path(name).is_file():
                    return name, ".".join(parts[size:])
    return None


def module_of(path: str) -> str:
    """ "src/pkg/a.py" -> "pkg.a"."""
    for root in ROOTS[1:]:
        if path.startswith(root):
            path = path[len(root) :]
    path = path.removesuffix(".py").removesuffix("/__init__")
    return path.replace("/", ".")


# Declared and real interfaces.


def check_interface(job: dict[str, Any], source: Source) -> list[dict[str, Any]]:
    """Remarks: what is declared and not there, or different, or still a skeleton."""
    remarks: list[dict[str, Any]] = []
    declared: dict[str, list[tuple[str, str]]] = {}
    for clause in job["provides"]:
        place = locate(clause["path"])
        if place is None:
            remarks.append(
                _remark("", None, clause, f"{clause['path']} does not exist: no such module")
            )
            continue
        path, name = place
        declared.setdefault(path, []).append((name, clause["clause"]))
        if source.tree(path) is not None:
            remarks += _compare(path, name, clause, source)
    for path, names in declared.items():
        remarks += _left(path, names, source)
    return remarks[:MOST]


def _remark(path: str, line: int | None, clause: dict[str, Any], message: str) -> dict[str, Any]:
    return {"path": path, "line": line, "clause": clause["clause"], "message": message}


def _left(path: str, names: list[tuple[str, str]], source: Source) -> list[dict[str, Any]]:
    """Skeleton bodies in what is declared of a file, or why the file could not be read."""
    if source.tree(path) is None:
        message, line = source.faults.get(path, ("cannot be read", None))
        return [_remark(path, line, {"clause": names[0][1]}, f"{path} {message}")]
    clauses = dict(names)
    found = []
    for skeleton in stubs.skeletons(source.texts[path]):
        name = stubs.covered(skeleton.qualname, clauses)
        if name is not None:
            message = (
                f"{skeleton.qualname} is still a skeleton (it only raises NotImplementedError)"
            )
            found.append(_remark(path, skeleton.line, {"clause": clauses[name]}, message))
    return found


def _compare(path: str, name: str, clause: dict[str, Any], source: Source) -> list[dict[str, Any]]:
    if not name:
        return []
    found = _find(path, name, source)
    if found is None:
        return [_remark(path, None, clause, f"{clause['path']} is missing")]
    if found == "unknown":
        return []
    line = found.lineno
    kind = found.kind.value
    if clause["word"] == "class" and kind != "class":
        return [_remark(path, line, clause, f"{name} must be a class; it is a {kind}")]
    if clause["word"] == "async" and "async" not in found.labels:
        return [_remark(path, line, clause, f"{name} must be async")]
    if clause["signature"] is None:
        return []
    if kind == "attribute":
        constant = _constant(getattr(found, "value", None))
        if constant and "property" not in found.labels:
            return [_remark(path, line, clause, f"{name} must be callable; it is a constant")]
        return []
    if kind == "module":
        return [_remark(path, line, clause, f"{name} must be callable; it is a module")]
    problems = _signature_problems(clause["signature"], found, kind == "class")
    return [_remark(path, line, clause, f"{name}: {problem}") for problem in problems]


def _constant(value: Any) -> bool:
    return isinstance(value, str) and value[:1] in "0123456789'\"[{"


def _visited(path: str, source: Source) -> Any:
    import griffe

    cache = source.__dict__.setdefault("modules", {})
    if path not in cache:
        try:
            cache[path] = griffe.visit(
                module_of(path), filepath=Path(path).resolve(), code=source.texts[path]
            )
        except (Exception, RecursionError) as error:
            source.faults[path] = (f"cannot be analysed ({type(error).__name__})", None)
            source.trees[path] = cache[path] = None
    return cache[path]


def _find(path: str, name: str, source: Source, depth: int = 0) -> Any:
    """The griffe object, None when it is missing, "unknown" when nothing static can tell."""
    found = _visited(path, source)
    if found is None:
        return "unknown"
    parts = name.split(".")
    for place, part in enumerate(parts):
        if found.kind.value == "attribute":
            return _assigned(path, found, ".".join(parts[place:]), source, depth)
        members = getattr(found, "members", {})
        if part not in members:
            return _inherited(path, found, ".".join(parts[place:]), source, depth)
        found = members[part]
        if found.is_alias:
            rest = ".".join([found.target_path, *parts[place + 1 :]])
            there = locate(rest)
            if there is None or depth > 10 or source.tree(there[0]) is None or not there[1]:
                return "unknown"
            return _find(*there, source, depth + 1)
    return found


def _assigned(path: str, attribute: Any, rest: str, source: Source, depth: int) -> Any:
    """A member of what was assigned: `OMD = OrderedMultiDict` gives OMD the other's members."""
    value = str(attribute.value or "")
    if depth <= 10 and value.isidentifier() and value in attribute.module.members:
        return _find(path, f"{value}.{rest}", source, depth + 1)
    return "unknown"


def _inherited(path: str, owner: Any, rest: str, source: Source, depth: int) -> Any:
    """A member that may come from a base class, or be made by a star import or __getattr__."""
    if owner.kind.value == "module":
        dynamic = "__getattr__" in owner.members or any("*" in name for name in owner.members)
        return "unknown" if dynamic else None
    if owner.kind.value != "class":
        return None
    for base in getattr(owner, "bases", ()):
        name = str(base).split("[")[0].split("(")[0]
        module = owner.module
        if depth > 10 or name not in module.members:
            if name != "object":
                return _builtin(name, rest)
            continue
        found = _find(path, f"{name}.{rest}", source, depth + 1)
        if found is not None:
            return found
    return None


def _builtin(name: str, rest: str) -> Any:
    import builtins

    known = getattr(builtins, name, None)
    if isinstance(known, type):
        return "unknown" if hasattr(known, rest.split(".")[0]) else None
    return "unknown"


def _signature_problems(declared: str, found: Any, is_class: bool) -> list[str]:
    if is_class and "__init__" not in found.members:
        return []
    parameters = found.members["__init__"].parameters if is_class else found.parameters
    real = {
        one.name: (one.kind.value.replace(" ", "-"), one.default is not None) for one in parameters
    }
    problems: list[str] = signatures.differences(signatures.declared(declared), real)
    return problems


# Imports.


class TreeFinder(MetaPathFinder):
    """Lets grimp find the tree's packages, and nobody import them.

    The tree is never on sys.path: a file of it must not take the place of a library here.
    """

    def __init__(self, packages: list[str]) -> None:
        self.packages = frozenset(packages)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname not in self.packages:
            return None
        roots = [str(Path.cwd() / root) for root in ROOTS]
        spec = PathFinder.find_spec(fullname, roots)
        if spec is not None:
            spec.loader = None
        return spec


def build_graphs(packages: list[str]) -> tuple[Any, Any] | None:
    """grimp's graphs with and without imports under TYPE_CHECKING, or None where it cannot."""
    import grimp

    finder = TreeFinder(packages)
    sys.meta_path.insert(0, finder)
    try:
        usable = [package for package in packages if _in_tree(package)]
        if not usable:
            return None
        everything = grimp.build_graph(*usable, cache_dir=None)
        runtime = grimp.build_graph(*usable, cache_dir=None, exclude_type_checking_imports=True)
    except (Exception, RecursionError) as error:
        print(f"tutti-note:grimp: {type(error).__name__}: {str(error)[:200]!a}")
        return None
    finally:
        sys.meta_path.remove(finder)
    return everything, runtime


def _in_tree(package: str) -> bool:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    origin = spec.origin if spec else None
    return origin is not None and Path(origin).resolve().is_relative_to(Path.cwd())


def import_edges(job: dict[str, Any], source: Source) -> list[list[Any]]:
    """[importer file, imported file, typing only, line] for every import between files."""
    edges: dict[tuple[str, str], tuple[bool, int]] = {}
    known: set[str] = set()
    graphs = build_graphs(job["packages"])
    if graphs is not None:
        everything, runtime = graphs
        files = {name: _module_file(name) for name in everything.modules}
        known = {path for path in files.values() if path}
        for importer, path in files.items():
            for imported in everything.find_modules_directly_imported_by(importer):
                target = files.get(imported)
                if path and target and path != target:
                    typing_only = not runtime.direct_import_exists(
                        importer=importer, imported=imported
                    )
                    details = everything.get_import_details(importer=importer, imported=imported)
                    line = min((one["line_number"] for one in details), default=0)
                    edges[path, target] = (typing_only, line)
    for path in job["files"]:
        if path not in known:
            for _, names, line, typing_only in _imported(path, source):
                for target in {there[0] for there in map(locate, names) if there} - {path}:
                    was = edges.get((path, target), (True, line))
                    edges[path, target] = (was[0] and typing_only, was[1])
    return [[a, b, typing_only, line] for (a, b), (typing_only, line) in sorted(edges.items())]


def _module_file(name: str) -> str | None:
    there = locate(name)
    return there[0] if there and not there[1] else None


_Imported = list[tuple["ast.Import | ast.ImportFrom", list[str], int, bool]]


def _imported(path: str, source: Source) -> _Imported:
    """Import statements of a file with the dotted names that they bring in."""
    tree = source.tree(path)
    if tree is None:
        return []
    found: _Imported = []
    work: list[tuple[ast.AST, bool]] = [(tree, False)]
    while work:
        node, typing_only = work.pop()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found.append((node, names, node.lineno, typing_only))
        elif isinstance(node, ast.ImportFrom):
            base = _base(path, node)
            if base is not None:
                names = [f"{base}.{alias.name}".strip(".") for alias in node.names]
                found.append((node, names, node.lineno, typing_only))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            work += [(child, True) for child in node.body]
            work += [(child, typing_only) for child in node.orelse]
        elif isinstance(node, ast.Module | ast.stmt | ast.excepthandler | ast.match_case):
            work += [(child, typing_only) for child in ast.iter_child_nodes(node)]
    return found


def _base(path: str, node: ast.ImportFrom) -> str | None:
    if not node.level:
        return node.module or ""
    parts = module_of(path).split(".")
    keep = len(parts) - node.level + (1 if path.endswith("__init__.py") else 0)
    if keep < 0:
        return None
    return ".".join([*parts[:keep], *([node.module] if node.module else [])])


def check_reach(job: dict[str, Any], source: Source) -> list[dict[str, Any]]:
    """Imports by the job's files of names that another module does not declare."""
    remarks: list[dict[str, Any]] = []
    promises: dict[str, dict[str, Any]] = job["promises"]
    graphs = build_graphs(job["packages"])
    for path in job["files"]:
        if graphs is not None and not _may_reach(graphs[0], path, promises):
            continue
        aliases: dict[str, str] = {}
        for node, names, line, _ in _imported(path, source):
            for alias, name in zip(node.names, names, strict=True):
                remarks += _reached(path, name, line, promises)
                target = locate(name)
                if target and not target[1] and target[0] in promises:
                    bound = alias.asname or (
                        alias.name if isinstance(node, ast.ImportFrom) else name
                    )
                    aliases[bound] = name
        if aliases:
            remarks += _used(path, aliases, source, promises)
    return remarks[:MOST]


def _may_reach(graph: Any, path: str, promises: dict[str, Any]) -> bool:
    importer = module_of(path)
    if importer not in graph.modules:
        return True
    return any(
        _module_file(name) in promises for name in graph.find_modules_directly_imported_by(importer)
    )


def _reached(path: str, name: str, line: int, promises: dict[str, Any]) -> list[dict[str, Any]]:
    target = locate(name)
    if target is None or target[0] not in promises or not target[1]:
        return []
    promise, wanted = promises[target[0]], target[1].split(".")[0]
    if wanted.startswith("__") or "" in promise["names"] or wanted in promise["names"]:
        return []
    message = (
        f"{name} reaches past the interface of {promise['module']}, which does not provide"
        f" {wanted}. Use what it provides, or ask for it to be added to its contract"
    )
    if wanted == "*":
        message = (
            f"importing everything from {target[0]} reaches past what {promise['module']} provides"
        )
    return [
        {"path": path, "line": line, "clause": f"consumes {promise['module']}", "message": message}
    ]


def _used(
    path: str, aliases: dict[str, str], source: Source, promises: dict[str, Any]
) -> list[dict[str, Any]]:
    """Attributes read from imported modules: `dictutils.name` after `from pkg import dictutils`."""
    tree = source.tree(path)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for node in ast.walk(tree) if tree is not None else ():
        if not isinstance(node, ast.Attribute):
            continue
        dotted = _dotted(node.value)
        if dotted in aliases:
            for remark in _reached(path, f"{aliases[dotted]}.{node.attr}", node.lineno, promises):
                found.setdefault((remark["message"], 0), remark)
    return sorted(found.values(), key=lambda remark: (remark["line"], remark["message"]))


def _dotted(node: ast.expr) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.path += sys.argv[2:]
    source, answer = Source(), dict[str, Any]()
    if "provides" in job:
        answer["interface"] = check_interface(job, source)
    if "promises" in job:
        answer["reach"] = check_reach(job, source)
    if job.get("edges"):
        answer["edges"] = import_edges(job, source)
    packed = base64.b64encode(zlib.compress(json.dumps(answer).encode())).decode()
    for start in range(0, len(packed), 4000):
        print(f"tutti1:{packed[start : start + 4000]}")
    print("tutti1.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
