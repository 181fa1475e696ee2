"""The pages of projects: each view parses, calls one service or selector, and renders."""

from __future__ import annotations

from projects.views.live import is_live, live_response

__all__ = ["is_live", "live_response"]
