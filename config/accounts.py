"""Who may open an account."""

from __future__ import annotations

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.http import HttpRequest

from projects import selectors


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """People join by invitation unless the site opens the door."""
        token = request.session.get("invitation") or ""
        return bool(settings.SIGNUP_OPEN) or selectors.invitation(token) is not None
