from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import pytest

VENDOR = Path(__file__).resolve().parents[2] / "static" / "vendor"
FILES = tomllib.loads((VENDOR / "VENDOR.toml").read_text())["file"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file["name"])
def test_vendored_file_is_the_one_that_was_taken(file):
    path = VENDOR / file["path"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
    assert file["version"] in file["path"]
    assert (path.parent / "LICENSE").exists() and file["licence"]


def test_every_vendored_script_is_listed():
    found = {path.relative_to(VENDOR).as_posix() for path in VENDOR.rglob("*.js")}
    assert found == {file["path"] for file in FILES}


def test_own_parts_stay_small():
    static = VENDOR.parent
    assert (static / "css" / "tutti.css").stat().st_size < 25_000
    assert (static / "js" / "live.js").stat().st_size < 15_000


def test_pages_hold_no_inline_script_or_style():
    templates = VENDOR.parents[1] / "templates"
    for path in templates.rglob("*.html"):
        text = path.read_text()
        assert " style=" not in text and "<style" not in text, path
        assert " onclick=" not in text and "hx-on" not in text, path
        assert "<script>" not in text, path
