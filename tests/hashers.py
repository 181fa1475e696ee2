from __future__ import annotations

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class QuickHasher(PBKDF2PasswordHasher):
    """Django's own algorithm with one round, so that a server with Django's settings reads it."""

    iterations = 1
