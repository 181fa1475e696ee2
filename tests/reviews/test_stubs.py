from __future__ import annotations

import pytest

from reviews.stubs import LARGEST, Skeleton, Unreadable, covered, skeletons

SOURCE = '''\
import abc
from abc import abstractmethod
from typing import Protocol, overload


def done(): return 1


def bare():
    """Doc."""
    raise NotImplementedError


def said(): raise NotImplementedError("later")


async def late():
    raise NotImplementedError


def guarded(x):
    if x:
        raise NotImplementedError
    return x


class Base:
    def _hook(self): raise NotImplementedError
    def public(self): raise NotImplementedError
    def __len__(self): raise NotImplementedError
    @abstractmethod
    def one(self): raise NotImplementedError
    @abc.abstractmethod
    def two(self): raise NotImplementedError
    @overload
    def three(self): raise NotImplementedError
    @property
    def four(self): raise NotImplementedError


class Child(Base):
    def _hook(self): return 1
    def public(self): return 1


class Shape(Protocol[int]):
    def area(self): raise NotImplementedError


if True:
    try:
        def inside(): raise NotImplementedError
    except ImportError:
        def outer():
            def inner(): raise NotImplementedError
            return inner


def other(): raise NotImplemented
'''


def test_only_bodies_that_merely_raise_are_skeletons() -> None:
    assert [found.qualname for found in skeletons(SOURCE)] == [
        "bare", "said", "late", "Base.public", "Base.__len__", "Base.four", "inside",
        "outer.inner",
    ]  # fmt: skip
    assert skeletons(SOURCE)[0] == Skeleton("bare", 11)


def test_empty_file_has_none() -> None:
    assert skeletons("") == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f(:", "is not valid Python"),
        ("a\x00b", "null bytes"),
        ("x" * (LARGEST + 1), "at most"),
        ("(" * 5000 + ")" * 5000, "Python|parsed"),
        ("x = " + "-" * 20_000 + "1", "Python|parsed"),
        ("\n".join(" " * n + "if x:" for n in range(200)), "is not valid Python"),
    ],
)
def test_unreadable_source_is_said(source: str, said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        skeletons(source)


def test_covered_by_declaration() -> None:
    assert covered("C.m", ["x", "C"]) == "C"
    assert covered("C.m", ["C.m"]) == "C.m"
    assert covered("anything", [""]) == ""
    assert covered("Cx.m", ["C"]) is None
