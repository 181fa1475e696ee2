"""The one API; each room adds its router here."""

from __future__ import annotations

from ninja import NinjaAPI
from ninja.security import django_auth

api = NinjaAPI(title="Tutti", version="1", urls_namespace="api", auth=django_auth)
