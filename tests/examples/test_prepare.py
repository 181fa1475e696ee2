from __future__ import annotations

import dataclasses

import pytest

from examples import sdist
from examples.library import Library
from examples.prepare import prepare
from examples.tree import git


def test_a_killed_preparation_is_started_again(example, tmp_path):
    partial = tmp_path / "examples" / ".itsdangerous.partial"
    (partial / "repo").mkdir(parents=True)
    (partial / "repo" / "junk").write_text("half")
    prepared = prepare("itsdangerous", tmp_path)

    assert not partial.exists()
    assert not (prepared.repo / "junk").exists()
    other = example("itsdangerous").repo
    assert git(prepared.repo, "rev-parse", "HEAD") == git(other, "rev-parse", "HEAD")


def test_an_unknown_example_is_named(tmp_path):
    with pytest.raises(ValueError, match="no example named 'flask'; there are boltons"):
        prepare("flask", tmp_path)


def test_a_spoiled_download_is_not_used(example, tmp_path):
    example("itsdangerous")
    source = Library.load("itsdangerous").source
    other = dataclasses.replace(source, sha256="0" * 64)
    (tmp_path / "itsdangerous-2.2.0.tar.gz").write_bytes(b"spoiled")
    with pytest.raises(sdist.SourceError, match="pip could not fetch itsdangerous"):
        sdist.fetch(other, tmp_path)
