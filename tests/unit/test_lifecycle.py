from __future__ import annotations

import pytest

from projects import lifecycle
from projects.models import Module

S = Module.Status


def test_every_status_is_in_the_table():
    assert set(lifecycle.TABLE) == set(S)


def test_every_module_can_reach_merged():
    reachable: set[str] = {S.DRAFT}
    while True:
        more = {to for status in reachable for to in lifecycle.TABLE[status]} - reachable
        if not more:
            break
        reachable |= more
    assert S.MERGED in reachable


@pytest.mark.parametrize("status", sorted(set(S) - {S.MERGED, S.CANCELLED}))
def test_every_unfinished_module_can_be_cancelled(status):
    assert lifecycle.may_follow(status, S.CANCELLED)


@pytest.mark.parametrize("status", [S.MERGED, S.CANCELLED])
def test_an_ended_module_cannot_be_cancelled(status):
    assert not lifecycle.may_follow(status, S.CANCELLED)


def test_nothing_is_merged_but_from_the_queue():
    assert [status for status in S if S.MERGED in lifecycle.TABLE[status]] == [S.MERGING]


def test_nothing_runs_from_a_draft():
    assert lifecycle.TABLE[S.DRAFT] == {S.WAITING}


def test_a_person_can_send_a_module_back_to_each_stage():
    assert lifecycle.TABLE[S.NEEDS_PERSON] == {
        S.PLANNING,
        S.BUILDING,
        S.BUILT,
        S.REVIEWING,
        S.FIXING,
        S.MERGING,
    }
