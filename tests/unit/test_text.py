from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects.text import clean_text


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (b"plain \xc3\xa9\ttext\n", "plain é\ttext\n"),
        ("a\0b", "a␀b"),
        (b"\xff\xfebroken", "\ufffd\ufffdbroken"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("\x1b]52;c;cm0=\x07\x1b[31mred", "␛]52;c;cm0=␇␛[31mred"),
        ("user\u202etxt.exe", "user<U+202E>txt.exe"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("del\x7f c1\x9b", "del␡ c1\ufffd"),
    ],
)
def test_dangerous_characters_become_visible(raw, clean):
    assert clean_text(raw) == clean


def test_the_limit_counts_the_mark():
    assert clean_text("abcdef", 4) == "abc…"
    assert clean_text("abcd", 4) == "abcd"
    assert len(clean_text("\u202e" * 50, 20)) == 20


@given(st.one_of(st.binary(), st.text(st.characters(), max_size=200)))
def test_whatever_comes_in_can_be_stored(raw):
    text = clean_text(raw)
    assert "\0" not in text
    assert json.loads(json.dumps(text.encode("utf-8").decode())) == text
    assert clean_text(text) == text
