from __future__ import annotations

import pytest

from reviews.signatures import declared, differences


def compare(wanted: str, real: str) -> list[str]:
    return differences(declared(wanted), declared(real))


@pytest.mark.parametrize(
    ("wanted", "real"),
    [
        ("(a, b=1)", "(a, b=2, *, c=3, **rest)"),
        ("(a, /, b)", "(a, b)"),
        ("(*, a)", "(a)"),
        ("(self, a)", "(a)"),
        ("(a)", "(self, a)"),
        ("(cls)", "()"),
        ("(*args, **more)", "(*a, **k)"),
        ("(self, a, /)", "(self, a, /)"),
        ("()", "(*args)"),
    ],
)
def test_call_that_the_contract_allows_works(wanted: str, real: str) -> None:
    assert compare(wanted, real) == []


@pytest.mark.parametrize(
    ("wanted", "real", "problem"),
    [
        ("(a)", "()", "has no parameter 'a'"),
        ("()", "(a)", "needs 'a', which the contract does not name; give it a default"),
        ("(a=1)", "(a)", "parameter 'a' must have a default"),
        ("(a)", "(*, a)", "parameter 'a' must be positional-or-keyword; it is keyword-only"),
        ("(a)", "(a, /)", "parameter 'a' must be positional-or-keyword; it is positional-only"),
        ("(*a)", "()", "does not take *a"),
        ("(**k)", "()", "does not take **k"),
        ("(a, b)", "(b, a)", "parameters must come in the order a, b"),
        ("(b)", "(a=1, b=2)", "parameters must come in the order b"),
    ],
)
def test_call_that_would_fail_is_named(wanted: str, real: str, problem: str) -> None:
    assert compare(wanted, real) == [problem]
