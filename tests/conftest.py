"""The cast and the servers that the tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django import DjangoDbBlocker

from config import embedded

# What the tests start is the project's own; they run where bubblewrap does not, too.
os.environ.setdefault("TUTTI_ALLOW_UNCONFINED", "yes")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that all processes end together; the rest stays random."""
    folders = ("faults", "browser", "acceptance")
    items.sort(key=lambda item: [folder not in item.path.parts for folder in folders])


def pytest_collection_finish() -> None:
    """Have the collector of garbage pass over what stays loaded until the end."""
    gc.collect()
    gc.freeze()


# --- Servers -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def services() -> None:
    """Have PostgreSQL and Valkey up: the embedded ones, unless the environment names others."""
    if embedded.wanted():
        embedded.start()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(services: None) -> None:
    """Let pytest-django make its test database only once the servers are up."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Let a test database be emptied, which append-only tables allow only when told so.

    A superuser deletes rows instead: to truncate every table takes longer than most tests.
    """
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        cursor.execute(f"ALTER DATABASE {name} SET tutti.allow_truncate = 'on'")
        cursor.execute("SHOW is_superuser")
        if cursor.fetchone() == ("on",):
            # For every connection: beside a browser's event loop a test has one of its own.
            type(connection.ops).sql_flush = staticmethod(sql_deleting)  # type: ignore[assignment]
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL alone has one.


def sql_deleting(style: Any, tables: list[str], **options: Any) -> list[str]:
    """SQL that empties the tables, whatever refers to their rows or guards them.

    Those that Django would fill again at once, with the same rows, stay as they are.
    """
    kept = {"django_content_type", "auth_permission"}
    names = [connection.ops.quote_name(table) for table in tables if table not in kept]
    if not names:
        return []
    return [
        # It waits for whoever still writes, but not for a page that is still being read: that one
        # may want a table which is locked here already.
        f"LOCK TABLE {', '.join(names)} IN EXCLUSIVE MODE",
        "SET LOCAL session_replication_role = replica",
        "; ".join(f"DELETE FROM {name}" for name in names),
    ]


@pytest.fixture
def tutti_home(settings, tmp_path: Path) -> Iterator[Path]:
    """Give one test a data directory of its own; the servers stay where they are."""
    settings.TUTTI_HOME = tmp_path / "home"
    settings.TUTTI_HOME.mkdir()
    settings.TUTTI_SOURCE_ROOTS = [tmp_path]
    yield settings.TUTTI_HOME


@pytest.fixture
def service_env(transactional_db: None) -> dict[str, str]:
    """Give the environment with which another process of Tutti finds the test's database."""
    found = connection.settings_dict
    host, name = quote(found["HOST"], safe="/"), found["NAME"]
    login = quote(found["USER"]) + (f":{quote(found['PASSWORD'])}" if found["PASSWORD"] else "")
    where = f"localhost:{found['PORT']}" if found["PORT"] else ""
    return {
        **os.environ,
        "DATABASE_URL": f"postgresql://{login}@{where}/{name}?host={host}",
        "REDIS_URL": settings.REDIS_URL,
        "TUTTI_HOME": str(settings.TUTTI_HOME),
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }


# Hashing a password as slowly as in earnest would be most of the time of many tests.
settings.PASSWORD_HASHERS = ["tests.hashers.QuickHasher"]
# So would a look at each static file, once for each client that a test makes.
settings.WHITENOISE_AUTOREFRESH = True
# How quickly a busy machine makes up examples says nothing of what is tested.
hypothesis_settings.register_profile(
    "tutti", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("tutti")


# --- The cast: alice owns, bob is a member, charlie is a stranger --------------------------------


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", "alice@example.org", "alice-password")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob", "bob@example.org", "bob-password")


@pytest.fixture
def charlie(db: None) -> User:
    return User.objects.create_user("charlie", "charlie@example.org", "charlie-password")


# --- Projects ------------------------------------------------------------------------------------
