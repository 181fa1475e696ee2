"""What pages and the API read of reviews, checks and merges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from django.db.models import Count, F, QuerySet

from projects.git import GitError, is_sha
from projects.hub import Hub
from projects.models import Comment, Module, Project
from projects.redaction import Redactor
from reviews import diffs
from reviews.models import CheckResult, Finding, Merge, Review

#: Merges that the page of the queue shows.
SHOWN_MERGES = 50
DIFF_BYTES = 1_000_000


@dataclass(frozen=True)
class Diff:
    """The changes of a review; `problem` says why there are none to show."""

    files: tuple[diffs.DiffFile, ...] = ()
    is_cut: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Said:
    """A person's comment, in the shape of a finding: who said it stands where its source does."""

    pk: str
    source: str
    path: str
    line: int | None
    message: str
    at: datetime
    clause: str = ""


@dataclass
class ShownFile:
    """A file of a diff, its rows with the findings and comments that speak of them."""

    file: diffs.DiffFile
    rows: list[tuple[diffs.Row, list[Finding | Said]]]


@dataclass
class ShownDiff:
    files: list[ShownFile]
    elsewhere: list[Finding | Said]
    is_cut: bool
    problem: str

    @property
    def has_placed(self) -> bool:
        """Whether anything stands at a line."""
        return any(said for file in self.files for _, said in file.rows)


@dataclass
class ShownMerge:
    """A merge and what was checked on its tree."""

    merge: Merge
    checks: list[CheckResult] = field(default_factory=list)


@dataclass
class Queue:
    """Who waits to be merged in which order, what is being merged, and what was."""

    waiting: list[Module]
    current: ShownMerge | None
    ended: list[ShownMerge]


def reviews_of(project: Project) -> QuerySet[Review]:
    return Review.objects.filter(project=project).select_related("module", "person")


def review_neighbours(review: Review) -> tuple[Review | None, Review | None]:
    """The project's review before and the one after."""
    mine = reviews_of(review.project)
    before = mine.filter(pk__lt=review.pk).order_by("-pk").first()
    return before, mine.filter(pk__gt=review.pk).order_by("pk").first()


def is_overtaken(review: Review) -> bool:
    """Whether the module has a newer review, so that this one decides nothing any more."""
    return Review.objects.filter(module=review.module_id, pk__gt=review.pk).exists()


def hub_head(project: Project, ref: str) -> str:
    """The commit that a ref of the hub is at; empty when it can't be told."""
    try:
        return Hub(project.hub_path).head(ref) or ""
    except (GitError, OSError):
        return ""


def review_findings(review: Review) -> list[Finding]:
    return list(review.findings.order_by("path", "line", "pk"))


def module_findings(module: Module, limit: int = 200) -> list[Finding]:
    """The newest findings of a module, newest first."""
    return list(module.findings.order_by("-pk")[:limit])


def open_findings(modules: Iterable[int]) -> dict[int, int]:
    """How many findings each of these modules still has to answer; one query."""
    rows = Finding.objects.filter(module__in=list(modules), batch=F("module__open_findings"))
    counted = rows.exclude(batch=0).values("module").annotate(n=Count("pk"))
    return {row["module"]: row["n"] for row in counted}


def commit_checks(project: Project, commit: str) -> list[CheckResult]:
    """Every check that ran on a commit, newest first."""
    if not commit:
        return []
    return list(CheckResult.objects.filter(project=project, commit=commit).order_by("-pk")[:100])


def merges_of(project: Project) -> QuerySet[Merge]:
    return Merge.objects.filter(project=project).select_related("module").order_by("-pk")


def queue(project: Project) -> Queue:
    """Three queries, whatever the length of the queue."""
    merges = list(merges_of(project)[: SHOWN_MERGES + 1])
    checks = _checks_of(project, merges)
    shown = [ShownMerge(merge, checks[merge.tested_commit]) for merge in merges]
    current = next((row for row in shown if row.merge.ended_at is None), None)
    waiting = Module.objects.filter(project=project, status=Module.Status.MERGING)
    ended = [row for row in shown if row is not current][:SHOWN_MERGES]
    return Queue(list(waiting.order_by("-priority", "-path_length", "pk")), current, ended)


def _checks_of(project: Project, merges: Sequence[Merge]) -> dict[str, list[CheckResult]]:
    commits = {merge.tested_commit for merge in merges if merge.tested_commit}
    found: dict[str, list[CheckResult]] = defaultdict(list)
    rows = CheckResult.objects.filter(project=project, phase="merge", commit__in=commits)
    for row in rows.order_by("pk"):
        found[row.commit].append(row)
    return found


def review_diff(review: Review, redactor: Redactor) -> Diff:
    """What the reviewed commits changed, from the project's hub, without secrets."""
    base, head = review.base_commit, review.head_commit
    if not (is_sha(base) and is_sha(head)):
        return Diff(problem="This review names no commits, so there is no diff to show.")
    try:
        return _diff(review.project.hub_path, base, head, redactor)
    except (GitError, OSError) as error:
        return Diff(problem=f"The diff can't be read: {error}")


# Commits never change, so neither does their difference; a page asks for it at each refresh.
@lru_cache(maxsize=32)
def _diff(hub: Path, base: str, head: str, redactor: Redactor) -> Diff:
    found = Hub(hub).diff(base, head, max_bytes=DIFF_BYTES)
    # The last line of a cut text may hold the beginning of a secret.
    text = found.text.rpartition("\n")[0] if found.truncated else found.text
    return Diff(tuple(diffs.parse(text, hide=redactor.text)), found.truncated)


def review_comments(review: Review) -> list[Said]:
    """What people said of the module from this review to its next one."""
    mine = Review.objects.filter(module=review.module_id, pk__gt=review.pk)
    until = mine.order_by("pk").values_list("at", flat=True).first()
    rows = Comment.objects.filter(topic=review.module.topic, at__gte=review.at)
    rows = rows.filter(at__lt=until) if until else rows
    return [
        Said(f"said-{row.pk}", row.by.get_username(), row.path, row.line, row.text, row.at)
        for row in rows.select_related("by").order_by("pk")[:500]
    ]


def diff_with_findings(diff: Diff, findings: Iterable[Finding | Said]) -> ShownDiff:
    """Put each finding under the line that it names; the rest is listed apart."""
    at: dict[tuple[str, int | None], list[Finding | Said]] = defaultdict(list)
    for finding in findings:
        at[finding.path, finding.line].append(finding)
    files = []
    for file in diff.files:
        rows = []
        for row in file.rows:
            here = at.pop((file.path, row.new), []) if row.new is not None else []
            rows.append((row, here))
        files.append(ShownFile(file, rows))
    elsewhere = [finding for group in at.values() for finding in group]
    return ShownDiff(files, elsewhere, diff.is_cut, diff.problem)
