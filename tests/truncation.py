"""Emptying the test database between tests, which append-only tables allow only when told so."""

from __future__ import annotations

import pytest
from django.db import connection


@pytest.fixture(scope="session", autouse=True)
def may_truncate(django_db_setup: None, django_db_blocker) -> None:
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        cursor.execute(f"ALTER DATABASE {name} SET tutti.allow_truncate = 'on'")
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL alone has one.
