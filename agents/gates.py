"""What is held against an agent's work before it counts: paths, tests, checks, interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agents import sandbox
from agents.checkouts import clean_checkout
from agents.work import Work, check, slot
from projects import globs, live
from projects.hub import Change
from projects.models import Contract, Module
from reviews import ownership
from reviews.checks import CheckOutcome, red_verdict, retry_red
from reviews.interface import check_code
from reviews.services import Remark, checks_record

RETAKES = 3


@dataclass
class Verdict:
    """What the gates found on a commit. `built`: red only because needs are not merged yet."""

    head: str
    remarks: list[Remark] = field(default_factory=list)
    locked: dict[str, str] = field(default_factory=dict)
    built: bool = False
    red: str = ""

    @property
    def passed(self) -> bool:
        return not self.remarks


def take_in(work: Work, head: str) -> tuple[str, str, list[Remark]]:
    """Merge the branch above into the module's; returns head, the commit above, and conflicts."""
    hub = work.hub
    above = str(hub.head(work.above))
    if hub.is_ancestor(above, head):
        return head, above, []
    merged = hub.merge_tree(head, above)
    if merged.tree is None:
        return head, above, [
            Remark("conflict", f"{path} conflicts with code that was merged meanwhile.", path=path)
            for path in merged.conflicts[:20]
        ]  # fmt: skip
    commit = hub.commit_tree(
        merged.tree,
        [head, above],
        f"Take in the branch above {work.module.slug}",
        author=("Tutti", "tutti@localhost"),
        trailers={"Tutti-Module": work.module.slug, "Tutti-Run": work.run.topic},
    )
    hub.swap(work.branch, commit, hub.head(work.branch))
    return commit, above, []


def red_gate(work: Work, head: str) -> Verdict:
    """Tests only, collected, and red for the right reason."""
    contract = work.contract
    head, above, remarks = take_in(work, head)
    verdict = Verdict(head, remarks)
    if remarks:
        return verdict
    changes = work.hub.changes(above, head)
    verdict.remarks += _tests_only(changes, contract)
    if not contract.tests_given and not changes:
        verdict.remarks.append(
            Remark("tests", "Nothing was written. Write the module's tests first.", clause="tests")
        )
    if verdict.remarks:
        return verdict
    outcomes = run_and_record(work, contract.checks, head, "red")
    good, sentence = red_verdict(outcomes)
    verdict.red = sentence
    if not good:
        tail = "\n".join(outcome.output[-3000:] for outcome in outcomes)
        verdict.remarks.append(Remark("red", f"{sentence}\n{tail}", clause="checks"))
    tests = work.hub.blobs(head)
    verdict.locked = {
        path: blob for path, blob in tests.items() if globs.matches(contract.tests, path)
    }
    return verdict


def green_gate(work: Work, head: str, *, began: str = "") -> Verdict:
    """Owned paths only, tests untouched, checks green, interface whole; see design of `built`."""
    for _ in range(RETAKES):
        work.reload()
        needs = work.module.needs_to_finish
        verdict = _green_once(work, head, began)
        work.reload()
        if verdict.passed or work.module.needs_to_finish == needs:
            break
        # Something that it needs was merged meanwhile: test again before anybody is blamed.
        head = verdict.head
    return verdict


def _green_once(work: Work, head: str, began: str) -> Verdict:
    contract = work.contract
    head, above, remarks = take_in(work, head)
    verdict = Verdict(head, remarks)
    if remarks:
        return verdict
    changes = work.hub.changes(above, head)
    if began and head == began:
        verdict.remarks.append(
            Remark("nothing", "The agent ended without changing anything. Build the module.")
        )
        return verdict
    verdict.remarks += _foreign(changes, contract)
    verdict.remarks += _tests_touched(work, head)
    if verdict.remarks:
        return verdict
    with clean_checkout(work.hub, head, str(work.run.pk)) as tree:
        outcomes = _checks(work, contract.checks, head, "green", tree)
        red = [outcome for outcome in outcomes if not outcome.ok]
        if red and work.module.needs_to_finish > 0:
            verdict.built = True
        else:
            verdict.remarks += [_red_check(outcome) for outcome in red]
        if not verdict.remarks:
            verdict.remarks += _code(work, contract, tree)
    if work.module.needs_to_finish > 0:
        verdict.built = True
    return verdict


def leaked(work: Work, head: str) -> Verdict:
    """The turn wrote a secret into files; they are back as they were, the rest is kept."""
    paths, work.leaks = work.leaks, []
    return Verdict(
        head,
        [
            Remark(
                "secret",
                f"{path} held a key that this site keeps secret, and is back as it was. Read keys "
                "from the environment when the program runs; never write one into a file.",
                path=path,
                clause="secrets",
            )
            for path in map(work.log.redactor.text, paths)
        ],
    )


def run_and_record(
    work: Work, commands: Sequence[str], commit: str, phase: str, *, retry: bool = False
) -> list[CheckOutcome]:
    """Run checks on a clean checkout of a commit and keep what they did."""
    with clean_checkout(work.hub, commit, str(work.run.pk)) as tree:
        return _checks(work, commands, commit, phase, tree, retry=retry)


def _checks(
    work: Work,
    commands: Sequence[str],
    commit: str,
    phase: str,
    tree: Path,
    *,
    retry: bool = False,
) -> list[CheckOutcome]:
    outcomes = check(work, commands, tree)
    if retry and any(not outcome.ok for outcome in outcomes):
        outcomes = retry_red(outcomes, lambda command: check(work, [command], tree))
    checks_record(
        project_id=work.run.project_id,
        module=work.run.module,
        outcomes=outcomes,
        by=live.Actor.run(work.run.pk),
        run_topic=work.run.topic,
        phase=phase,
        commit=commit,
    )
    return outcomes


def _tests_only(changes: Sequence[Change], contract: Contract) -> list[Remark]:
    return [
        Remark(
            "ownership",
            f"{path} is not a test path of this module. Only the tests are written now.",
            path=path,
            clause="tests",
        )
        for path in ownership.outside(changes, [], contract.tests)
    ]


def _foreign(changes: Sequence[Change], contract: Contract) -> list[Remark]:
    owned = [*contract.owns, *contract.exceptions]
    return [
        Remark(
            "ownership",
            f"{path} is not owned by this module. Put it back as it was; if the module can't be "
            "built without it, ask for an exception with a reason.",
            path=path,
            clause="owns",
        )
        for path in ownership.outside(changes, owned, contract.tests)
    ]


def _tests_touched(work: Work, head: str) -> list[Remark]:
    module: Module = work.module
    if not module.locked_tests:
        return []
    now = {
        path: blob
        for path, blob in work.hub.blobs(head).items()
        if globs.matches(work.contract.tests, path)
    }
    touched = {p for p in {*now, *module.locked_tests} if now.get(p) != module.locked_tests.get(p)}
    return [
        Remark(
            "tests",
            f"{path} is a locked test. Put it back as it was; code until it passes.",
            path=path,
            clause="tests",
        )
        for path in sorted(touched)
    ]


def _red_check(outcome: CheckOutcome) -> Remark:
    return Remark(
        "check",
        f"`{outcome.command}` is {outcome.kind}:\n{outcome.output[-4000:]}",
        clause="checks",
    )


def _code(work: Work, contract: Contract, tree: Path) -> list[Remark]:
    """Interface, stubs left and imports, by analysis in the sandbox."""
    if not contract.provides:
        return []
    with slot(work):
        found = check_code(
            contract.provides,
            contract.owns,
            _promises(work),
            tree,
            sandbox.Runner(),
            environment=work.environment,
            stop=work.stop,
        )
    return [
        Remark(
            "interface",
            work.log.redactor.text(one.message),
            path=one.path,
            line=one.line,
            clause=one.clause,
        )
        for one in found
    ]


def _promises(work: Work) -> dict[str, tuple[list[str], list[str]]]:
    """Other modules' owned paths and what they provide, for those that this one needs."""
    needs = work.contract.needs.select_related("needs__contract")
    return {
        need.needs.slug: (need.needs.contract.owns, need.needs.contract.provides)
        for need in needs
        if need.needs.contract and need.needs.contract.provides
    }
