from __future__ import annotations

from importlinter.cli import lint_imports

from config import embedded


def test_rooms_import_downward_only(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(embedded.CHECKOUT)
    failed = lint_imports(no_cache=True, no_logo=True)
    assert not failed, capsys.readouterr().out
