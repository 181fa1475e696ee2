"""Prove a project's record: its chain, and the judgements that the chain tells of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from projects.models import Event, Project
from projects.services.audit import verify_chain
from projects.snapshot import snapshot
from reviews.digests import digest
from reviews.models import CheckResult, Finding, Merge, Review

Judgement = Review | CheckResult | Merge

#: Kind of an event to what it tells of, and how a person calls that.
TELLING: dict[str, tuple[type[Judgement], str]] = {
    "review.recorded": (Review, "Review"),
    "review.overruled": (Review, "Review"),
    "checks.recorded": (CheckResult, "Check result"),
    "merge.done": (Merge, "Merge"),
}
#: Events whose rows are read at once: a check's output may be long.
AT_ONCE = 100


def verify(project: Project) -> str:
    """The first thing that is wrong with a project's record, or an empty text."""
    with snapshot():
        return verify_chain(project) or next(_broken_rows(project), "")


def _broken_rows(project: Project) -> Iterator[str]:
    """Rows that are not what the chain says. Events from before it said so tell of none."""
    events = Event.objects.filter(project=project, kind__in=TELLING, data__has_key="digests")
    found: list[Event] = []
    for event in events.order_by("number").iterator(AT_ONCE):
        found.append(event)
        if len(found) == AT_ONCE:
            yield from _differences(found)
            found = []
    yield from _differences(found)


def _differences(events: Iterable[Event]) -> Iterator[str]:
    told: dict[type[Judgement], set[int]] = defaultdict(set)
    for event in events:
        told[TELLING[event.kind][0]].update(map(int, event.data["digests"]))
    now = {model: _digests(model, pks) for model, pks in told.items()}
    for event in events:
        model, name = TELLING[event.kind]
        for pk, said in event.data["digests"].items():
            what = f"{name} {pk}, which event {event.number} ({event.kind}) tells of,"
            if int(pk) not in now[model]:
                yield f"{what} is missing."
            elif now[model][int(pk)] != said:
                yield f"{what} was changed after it was written{_or_findings(model)}."


def _digests(model: type[Judgement], pks: set[int]) -> Mapping[int, str]:
    findings: dict[int | None, list[Finding]] = defaultdict(list)
    if model is Review:
        for finding in Finding.objects.filter(review__in=pks).order_by("pk"):
            findings[finding.review_id].append(finding)
    rows = model._default_manager.filter(pk__in=pks)
    return {row.pk: digest(row, findings[row.pk]) for row in rows}


def _or_findings(model: type[Judgement]) -> str:
    return ", or its findings were" if model is Review else ""
