from __future__ import annotations

from tests.truncation import may_truncate

__all__ = ["may_truncate"]
