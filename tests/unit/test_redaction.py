from __future__ import annotations

import base64
import json
import random
import re
import time
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from projects.redaction import MARK, Redactor, RowRedactor, forms

KEY = 'sk-ant-Abc/+9"\\é tail'
PEM = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEA\nzJ8x0kPq7hWn2vR5\n-----END KEY-----"
REDACTOR = Redactor([KEY, PEM])

pieces = st.lists(
    st.sampled_from([*sorted(forms(KEY)), KEY[:9], KEY[9:], PEM, "\n", "sk-", "plain words ", "s"]),
    max_size=12,
)


def through(redactor, chunks):
    stream = redactor.stream()
    return "".join([*(stream.feed(chunk) for chunk in chunks), stream.close()])


def cut(text, places):
    marks = sorted({min(place, len(text)) for place in places})
    return [text[a:b] for a, b in zip([0, *marks], [*marks, len(text)], strict=True)]


def leaks(text):
    plain = text.replace("\n", "").replace("\r", "")
    return [form for form in forms(KEY) | forms(PEM) if form in plain]


@given(pieces, st.lists(st.integers(0, 400), max_size=30))
def test_any_split_of_chunks_gives_the_same_and_no_secret(found, places):
    text = "".join(found)
    whole = through(REDACTOR, [text])
    assert through(REDACTOR, cut(text, places)) == whole
    assert through(REDACTOR, list(text)) == whole
    assert leaks(whole.replace(MARK, "\0")) == []
    assert whole.count("\n") == text.count("\n")


@given(st.text(), st.lists(st.integers(0, 100), max_size=8))
def test_text_without_a_secret_stays_as_it_is(text, places):
    assert through(REDACTOR, cut(text, places)) == text


@given(st.sampled_from(["aaaaaaab", "abababab", "aaaaaaaa"]), st.text("ab\n", max_size=80),
       st.lists(st.integers(0, 80), max_size=8))  # fmt: skip
def test_secrets_that_overlap_themselves(secret, text, places):
    redactor = Redactor([secret])
    whole = through(redactor, [text])
    assert through(redactor, cut(text, places)) == whole
    assert secret not in whole.replace(MARK, "\0").replace("\n", "")


def test_every_way_of_writing_it_is_found():
    raw = KEY.encode()
    for written in (
        KEY,
        json.dumps({"key": KEY}),
        json.dumps(json.dumps(KEY)),
        quote(KEY),
        quote(KEY, safe=""),
        re.sub("%..", lambda found: found.group().lower(), quote(KEY)),
        base64.b64encode(raw).decode(),
        base64.b64encode(b"user:" + raw + b":more").decode(),
        base64.urlsafe_b64encode(b"u:" + raw).decode(),
        raw.hex(),
        KEY[:7] + "\n" + KEY[7:],
    ):
        out = REDACTOR.text(f"before {written} after")
        assert MARK in out and leaks(out.replace(MARK, "\0")) == [], written
        assert out.startswith("before ") or "{" in out


def test_one_line_of_a_key_of_several_is_found():
    assert REDACTOR.text("x zJ8x0kPq7hWn2vR5 y") == f"x {MARK} y"


def test_data_is_redacted_at_every_depth():
    data = {"a": [KEY, {"b": f"x{KEY}"}, 3, None], KEY: True}
    assert leaks(json.dumps(REDACTOR.data(data), ensure_ascii=False)) == []
    assert REDACTOR.data(data)["a"][2:] == [3, None]


def test_files_are_looked_through():
    assert REDACTOR.holds(b"\xff\xfe\0" + KEY.encode() + b"\xff")
    assert not REDACTOR.holds(b"\xff\xfe\0")
    assert not Redactor().holds(KEY.encode())


def test_secret_over_two_rows_of_a_log():
    rows = RowRedactor(REDACTOR)
    out = rows.add("message", {"text": "first " + KEY[:8]})
    out += rows.add("message", {"text": KEY[8:] + " second"})
    out += rows.add("tool", {"name": KEY})
    assert [kind for kind, _ in out] == ["message", "message", "tool"]
    assert out[0][1] == {"text": f"first {MARK}"} and out[1][1] == {"text": " second"}
    assert out[2][1] == {"name": MARK}


def test_row_that_ends_like_a_secret_begins_comes_out_in_its_place():
    rows = RowRedactor(REDACTOR)
    assert rows.add("message", {"text": "words"}) == []
    assert rows.add("tool", {"name": "edit"}) == [
        ("message", {"text": "words"}),
        ("tool", {"name": "edit"}),
    ]
    assert rows.close() == []


def test_a_megabyte_takes_well_under_a_second():
    chance = random.Random(7)
    words = ["sk-ant-", "sk-ant-Abc/", KEY, "lorem", "\n", "MIIEowIBAA", "s", " "]
    text = "".join(chance.choices(words, k=200_000))[:1_000_000]
    assert len(text) > 900_000
    began = time.process_time()
    out = through(REDACTOR, [text[at : at + 65_536] for at in range(0, len(text), 65_536)])
    assert time.process_time() - began < 0.8
    assert leaks(out.replace(MARK, "\0")) == []
