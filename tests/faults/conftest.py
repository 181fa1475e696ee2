from __future__ import annotations

from tests.acceptance.conftest import team

__all__ = ["team"]
