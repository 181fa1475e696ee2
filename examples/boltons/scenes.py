"""What goes wrong in boltons' recordings, scene by scene, and how it is put right."""

from __future__ import annotations

import ast
from typing import Any

from examples import stub
from examples.record import FIX_SECONDS, Module, Studio, module_scripts
from examples.script import Script

BASE_REF = "refs/tutti/base"
TESTS_REF = "refs/tutti/tests"


def scenes(studio: Studio) -> dict[str, list[Script]]:
    """The scenes in the order in which their turns follow each other."""
    return {
        "green_before_code": green_before_code(studio),
        "not_done": not_done(studio),
        "merge_red": merge_red(studio),
        "orchestrator_fixes": orchestrator_fixes(studio),
        "rebuild": rebuild(studio),
        "outside_paths": outside_paths(studio),
        "nothing_done": nothing_done(studio),
        "test_touched": test_touched(studio),
        "exception": exception(studio),
        "split": split(studio),
    }


def green_before_code(studio: Studio) -> list[Script]:
    """The planner delivers one test, and that one passes without any code."""
    module = studio.library.module("listutils")
    (path,) = module["tests"]
    kept = _without_test(studio.true(path), "test_splay_list")
    return [studio.tests(module, only={path: kept})]


def not_done(studio: Studio) -> list[Script]:
    """A public function that no test of the module calls is left without a body."""
    module = studio.library.module("strutils")
    path = "boltons/strutils.py"
    code = stub.stub_source(studio.true(path), only=["bytes2human"])
    return [_claims_done(studio, module, path, code, seconds=5.0)]


def merge_red(studio: Studio) -> list[Script]:
    """A function gets a better name; a test file of another module still asks for the old one."""
    module = studio.library.module("strutils")
    path = "boltons/strutils.py"
    code = studio.true(path).replace("removeprefix", "strip_prefix")
    # The method of str that it stands in for keeps its name.
    code = code.replace("str.strip_prefix", "str.removeprefix")
    return [_claims_done(studio, module, path, code, seconds=4.0)]


def orchestrator_fixes(studio: Studio) -> list[Script]:
    """One small body is missing, and the orchestrator writes it itself."""
    module = studio.library.module("queueutils")
    path = "boltons/queueutils.py"
    code = stub.stub_source(studio.true(path), only=["BasePriorityQueue.peek"])
    message = "peek has no body; the brief asks for it, with a default and with IndexError."
    fix = studio.start(module, "fix", FIX_SECONDS).write(path, studio.true(path))
    return [
        _claims_done(studio, module, path, code),
        _rejects(studio, module, "fix", [_finding(code, path, "def peek", message)]),
        fix.result(summary="Wrote the body of peek."),
    ]


def rebuild(studio: Studio) -> list[Script]:
    """Whatever no test calls is missing: too much to mend, another agent has to build it."""
    module = studio.library.module("timeutils")
    path = "boltons/timeutils.py"
    code = stub.stub_source(studio.true(path), only=TIMEUTILS_UNTESTED)
    findings = [
        _finding(code, path, f"def {name}(", f"{name} has no body.")
        for name in ("isoparse", "parse_timedelta", "decimal_relative_time", "strpdate")
    ]
    return [
        _claims_done(studio, module, path, code, seconds=3.5),
        _rejects(studio, module, "rebuild", findings),
    ]


TIMEUTILS_UNTESTED = [
    "dt_to_timestamp",
    "isoparse",
    "parse_timedelta",
    "decimal_relative_time",
    "relative_time",
    "strpdate",
    "LocalTZInfo.is_dst",
    "LocalTZInfo.utcoffset",
    "LocalTZInfo.dst",
    "_first_sunday_on_or_after",
    "USTimeZone.dst",
]


def outside_paths(studio: Studio) -> list[Script]:
    """The tests need a function of another module, so the agent writes it there."""
    module = studio.library.module("fileutils")
    own, foreign = "boltons/fileutils.py", "boltons/strutils.py"
    body = "    if not prefix or not text.startswith(prefix):\n        return text\n"
    body += "    return text[len(prefix):]\n"
    first = studio.start(module, "build", studio.build_seconds(module) - 2)
    first.write(own, studio.true(own))
    first.say("The tests call strutils.removeprefix, which has no body yet; I write it.")
    first.write(foreign, _with_body(studio.given(foreign), "removeprefix", body))
    second = studio.start(module, "build", 3.0)
    second.say("strutils.py is not mine. I put it back and rely on its interface.")
    second.restore(foreign, BASE_REF).write(own, studio.true(own))
    return [
        first.result(summary=f"Implemented {own}, and removeprefix, which its tests use."),
        second.result(summary=f"Implemented {own}; {foreign} is as it was."),
    ]


def nothing_done(studio: Studio) -> list[Script]:
    """The agent ends well and has written nothing."""
    script = studio.start(studio.library.module("gcutils"), "build", 1.5)
    script.say("Everything that was asked for is in place.")
    return [script.result(summary="Done.")]


def test_touched(studio: Studio) -> list[Script]:
    """The executor makes its test easier instead of its code right."""
    module = next(child for child in children(studio) if child["slug"].endswith("/debugutils"))
    (own,), test = module["owns"], "tests/test_debugutils_trace.py"
    first = studio.start(module, "build", 4.0).write(own, studio.true(own))
    first.say("One assertion depends on the order of the output; I take it out.")
    first.write(test, _without_last_assert(studio.true(test)))
    second = studio.start(module, "build", 2.5)
    second.say("The tests are given. I put the file back.")
    second.restore(test, TESTS_REF).write(own, studio.true(own))
    return [
        first.result(summary=f"Implemented {own} and relaxed one test."),
        second.result(summary=f"Implemented {own} against the tests as given."),
    ]


def exception(studio: Studio) -> list[Script]:
    """The agent asks for a path that it does not own, and writes there once it may."""
    module = studio.library.module("jsonutils")
    page, own = "docs/jsonutils.rst", "boltons/jsonutils.py"
    reason = "The brief asks for the page of this module, and nobody owns it."
    first = studio.start(module, "build", 2.0).say("The page lies outside my paths; I ask for it.")
    second = studio.start(module, "build", studio.build_seconds(module))
    second.write(own, studio.true(own)).write(page, studio.true(page))
    return [
        first.result(exception={"paths": [page], "reason": reason}),
        second.result(summary=f"Implemented {own} and wrote {page}."),
    ]


def split(studio: Studio) -> list[Script]:
    """A module of two independent files goes on as two."""
    module = studio.library.module("tracing")
    script = studio.start(module, "build", 2.0)
    script.think("tbutils and debugutils do not import each other; two agents can write them.")
    parts = children(studio)
    scripts = [script.result(split={"modules": parts})]
    for part in parts:
        scripts += module_scripts(studio, part)
    return scripts


def children(studio: Studio) -> list[Module]:
    """The modules that tracing splits into; its planner has written their tests."""
    parent = studio.library.module("tracing")
    return [
        _child(studio, parent, "tbutils", "Tracebacks", parent["checks"][:1]),
        _child(studio, parent, "debugutils", "Tracing", parent["checks"][1:]),
    ]


def _child(studio: Studio, parent: Module, name: str, title: str, checks: list[str]) -> Module:
    child: dict[str, Any] = {
        "slug": f"tracing/{name}",
        "title": title,
        "brief": f"Implement boltons/{name}.py as the brief of {parent['slug']} says.",
        "owns": [f"boltons/{name}.py"],
        "tests": {"paths": [path for path in parent["tests"] if name in path], "given": True},
        "provides": [line for line in parent["provides"] if f".{name}." in line],
        "checks": checks,
    }
    return {**child, "estimate_seconds": round(studio.build_seconds(child)) + 2}


def _claims_done(
    studio: Studio, module: Module, path: str, code: str, *, seconds: float | None = None
) -> Script:
    script = studio.start(module, "build", seconds or studio.build_seconds(module))
    script.write(path, code)
    for command in module["checks"]:
        script.run(command)
    return script.say("The tests pass.").result(summary=f"Implemented {path}.")


def _rejects(
    studio: Studio, module: Module, verdict: str, findings: list[dict[str, Any]]
) -> Script:
    script = studio.start_review(module).say("The tests pass, but the contract is not fulfilled.")
    missing = "one body is missing" if len(findings) == 1 else "many bodies are missing"
    return script.result(
        verdict=verdict, summary=f"{module['title']}: {missing}.", findings=findings
    )


def _finding(code: str, path: str, text: str, message: str) -> dict[str, Any]:
    line = next(n for n, found in enumerate(code.splitlines(), start=1) if text in found)
    return {"path": path, "line": line, "clause": "brief", "message": message}


def _function(source: str, name: str) -> ast.FunctionDef:
    found = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    return next(node for node in found if node.name == name)


def _without_test(source: str, name: str) -> str:
    node = _function(source, name)
    lines = source.splitlines(keepends=True)
    return "".join(lines[: node.lineno - 1] + lines[node.end_lineno :])


def _with_body(source: str, name: str, body: str) -> str:
    node = _function(source, name)
    lines = source.splitlines(keepends=True)
    start = node.body[-1].lineno - 1
    return "".join([*lines[:start], body, *lines[node.end_lineno :]])


def _without_last_assert(source: str) -> str:
    lines = source.splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if line.lstrip().startswith("assert"))
    indent = lines[last][: len(lines[last]) - len(lines[last].lstrip())]
    return "".join([*lines[:last], f"{indent}assert True\n", *lines[last + 1 :]])
