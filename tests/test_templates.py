from __future__ import annotations

from tests.check_templates import broken_templates


def test_every_template_compiles():
    assert not broken_templates()
