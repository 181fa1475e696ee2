"""The merge queue: intent, checks on the merged tree, compare-and-swap, done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.utils import timezone

from projects import live
from projects.hub import Hub
from projects.lifecycle import transition
from projects.models import Contract, Dependency, Module
from reviews import ownership
from reviews.checks import CheckOutcome
from reviews.digests import digest
from reviews.models import Merge, Review
from reviews.services import Remark

S = Module.Status
M = Merge.Status

#: Runs check commands on a commit: (commit, commands) -> outcomes. Handed down by the pipeline.
Tester = Callable[[str, Sequence[str]], list[CheckOutcome]]


@dataclass
class Tested:
    """What became of a merge: the row, the outcomes of its checks, and why it was refused."""

    merge: Merge
    outcomes: list[CheckOutcome]
    remarks: list[Remark]


def reconcile(module: Module, branch: str, hub: Hub, by: live.Actor) -> list[Merge]:
    """Complete or give up merges of a branch that a dead worker left; by commit, never twice."""
    done = []
    open_merges = Merge.objects.filter(
        project_id=module.project_id, branch=branch, status__in=[M.TESTING, M.SWAPPING]
    )
    for merge in open_merges.select_related("module"):
        head = hub.head(branch)
        landed = (
            merge.status == M.SWAPPING
            and head is not None
            and bool(merge.tested_commit)
            and hub.is_ancestor(merge.tested_commit, head)
        )
        if landed:
            merged(merge, by)
            done.append(merge)
        else:
            abandon(merge, "Its worker was lost; it is done again.")
    return done


def begin(module: Module, branch: str, base: str, head: str, run_topic: str) -> Merge:
    """The intent row; the database lets one be open per branch."""
    with live.change(module.project_id) as change:
        merge = Merge.objects.create(
            project_id=module.project_id,
            module=module,
            run_topic=run_topic,
            branch=branch,
            base_commit=base,
            head_commit=head,
        )
        change.event("merge.testing", module.topic, live.SYSTEM, slug=module.slug, base=base)
    return merge


def test(merge: Merge, contract: Contract, hub: Hub, tester: Tester) -> Tested:
    """Merge in memory and check the result; the branch does not move."""
    module = merge.module
    combined = hub.merge_tree(merge.base_commit, merge.head_commit)
    if combined.tree is None:
        where = ", ".join(combined.conflicts)
        branch = short(merge.branch)
        message = f"Merging into {branch} conflicts in {where}. Take the newer code in."
        remarks = [Remark("conflict", message, path=path) for path in combined.conflicts[:20]]
        return Tested(merge, [], remarks)
    commit = hub.commit_tree(
        combined.tree,
        [merge.base_commit, merge.head_commit],
        f"Merge {module.slug}",
        author=("Tutti", "tutti@localhost"),
        trailers=_trailers(merge),
    )
    if remarks := _foreign(hub, merge, commit, contract):
        return Tested(merge, [], remarks)
    outcomes = tester(commit, _commands(module, contract))
    merge.tested_commit = commit
    return Tested(merge, outcomes, [_red(merge, outcome) for outcome in outcomes if not outcome.ok])


def intend(merge: Merge) -> str:
    """Write down that the branch is about to move, so that whoever comes after a crash can tell.

    Returns why it must not, or nothing.
    """
    with live.change(merge.project_id):
        why = _unwanted(merge, M.TESTING)
        if not why:
            values = {"status": M.SWAPPING, "tested_commit": merge.tested_commit}
            Merge.objects.filter(pk=merge.pk).update(**values)
    return why


def land(merge: Merge, hub: Hub, by: live.Actor) -> str:
    """Move the branch from where it was tested to exactly the tested commit, and the module too.

    Returns why not, or nothing. Called in an open change, which keeps the project locked until
    both have moved: no verdict, no cancelling and no next plan comes between.
    """
    if why := _unwanted(merge, M.SWAPPING):
        return why
    if not hub.swap(merge.branch, merge.tested_commit, merge.base_commit):
        return "The branch moved meanwhile; it is tested again."
    merged(merge, by)
    return ""


def _unwanted(merge: Merge, status: str) -> str:
    """Why a merge must not go on, or nothing; asked under the project's lock."""
    if Merge.objects.select_for_update().filter(pk=merge.pk, status=status).first() is None:
        return "Somebody else took this merge over."
    module = Module.objects.only("status", "head_commit").get(pk=merge.module_id)
    if module.status != S.MERGING or module.head_commit != merge.head_commit:
        return f"{merge.module.slug} is {module.status} now, and merges no more."
    return ""


def merged(merge: Merge, by: live.Actor) -> None:
    """The branch holds the tested commit: done row, module merged, dependents released."""
    with live.change(merge.project_id) as change:
        values = {"status": M.MERGED, "ended_at": timezone.now()}
        if not Merge.objects.filter(pk=merge.pk, status=M.SWAPPING).update(**values):
            return
        merge.refresh_from_db()
        module = Module.objects.get(pk=merge.module_id)
        if module.parent_id:
            Module.objects.filter(pk=module.parent_id).update(head_commit=merge.tested_commit)
        change.event(
            "merge.done",
            module.topic,
            by,
            slug=module.slug,
            commit=merge.tested_commit,
            branch=merge.branch,
            digests={merge.pk: digest(merge)},
        )
        if module.status == S.MERGING:
            transition(module, S.MERGED, by=by, merged_commit=merge.tested_commit)


def refuse(merge: Merge, reason: str) -> None:
    Merge.objects.filter(pk=merge.pk, status__in=[M.TESTING, M.SWAPPING]).update(
        status=M.REFUSED,
        reason=reason,
        tested_commit=merge.tested_commit,
        ended_at=timezone.now(),
    )


def abandon(merge: Merge, reason: str) -> None:
    Merge.objects.filter(pk=merge.pk, status__in=[M.TESTING, M.SWAPPING]).update(
        status=M.ABANDONED, reason=reason, ended_at=timezone.now()
    )


def short(branch: str) -> str:
    return branch.removeprefix("refs/heads/")


def _commands(module: Module, contract: Contract) -> list[str]:
    """Own checks, those of merged modules that depend on it, then the project's `at: merge`."""
    commands = list(contract.checks)
    dependents = Dependency.objects.filter(
        needs=module, contract__module__status=S.MERGED, declared=True
    ).select_related("contract", "contract__module")
    for dependent in dependents.order_by("contract__module_id"):
        if dependent.contract.module.contract_id == dependent.contract_id:
            commands += dependent.contract.checks
    if module.parent_id is None:
        commands += [check["run"] for check in module.plan.checks if check["at"] == "merge"]
    return list(dict.fromkeys(commands))


def _foreign(hub: Hub, merge: Merge, commit: str, contract: Contract) -> list[Remark]:
    changes = hub.changes(merge.base_commit, commit)
    allowed = [*contract.owns, *contract.tests, *contract.exceptions]
    slug = merge.module.slug
    return [
        Remark("ownership", f"{path} is not owned by {slug}.", path=path, clause="owns")
        for path in ownership.outside(changes, allowed, [])
    ]


def _red(merge: Merge, outcome: CheckOutcome) -> Remark:
    tail = outcome.output[-4000:]
    return Remark(
        "merge",
        f"On the merged tree `{outcome.command}` is {outcome.kind}:\n{tail}",
        clause="checks",
    )


def _trailers(merge: Merge) -> dict[str, str]:
    review = Review.objects.filter(module=merge.module).order_by("-pk").first()
    trailers = {"Tutti-Module": merge.module.slug, "Tutti-Run": merge.run_topic}
    if review:
        trailers["Tutti-Review"] = str(review.pk)
        if review.person:
            trailers["Tutti-Accountable"] = review.person.get_username()
    return trailers
