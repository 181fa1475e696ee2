"""The message broker. Workers load this module first, so that every actor finds it."""

from __future__ import annotations

import os
import threading
from typing import Any

import django
import dramatiq
from django.apps import apps
from django.conf import settings
from django.db import close_old_connections
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import (
    Callbacks,
    CurrentMessage,
    Middleware,
    Retries,
    ShutdownNotifications,
    TimeLimit,
)

from config import posix, processes

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


class DatabaseConnections(Middleware):
    """Give a thread's connection back to the pool round each message, as a request does."""

    def before_process_message(self, *args: Any, **kwargs: Any) -> None:
        close_old_connections()

    def after_process_message(self, *args: Any, **kwargs: Any) -> None:
        close_old_connections()

    def after_skip_message(self, *args: Any, **kwargs: Any) -> None:
        close_old_connections()


class RunsEnd(Middleware):
    """Tell the runs of this process that their worker stops, so that they end within seconds."""

    def after_process_boot(self, *args: Any, **kwargs: Any) -> None:
        # Imported while nothing works yet: a master that dies between a worker's first message and
        # the end of its start leaves it waiting for ever (dramatiq 2.2 signals it by a condition).
        shutting_down()

    def after_worker_boot(self, *args: Any, **kwargs: Any) -> None:
        from agents.supervision import supervisor  # As below.

        supervisor.reads_host = True
        supervisor.begin()

    def before_worker_shutdown(self, *args: Any, **kwargs: Any) -> None:
        shutting_down().set()

    def after_worker_shutdown(self, *args: Any, **kwargs: Any) -> None:
        shutting_down().clear()


def shutting_down() -> threading.Event:
    from agents.supervision import supervisor  # Needs the apps, which load after the broker.

    return supervisor.shutting_down


def make_broker(url: str) -> RedisBroker:
    """Make a broker that neither repeats nor ends a message by itself: rows say what is to be done.

    A message is a reminder of a row in the database, so dramatiq's 20 retries and its end after ten
    minutes would only add a second opinion.
    """
    return RedisBroker(  # type: ignore[no-untyped-call]
        url=url,
        namespace=f"{settings.REDIS_PREFIX}.dramatiq",
        middleware=[
            TimeLimit(time_limit=float("inf")),
            ShutdownNotifications(),
            Callbacks(),
            Retries(max_retries=0),
            CurrentMessage(),
            DatabaseConnections(),
            RunsEnd(),
        ],
    )


broker = make_broker(settings.REDIS_URL)
dramatiq.set_broker(broker)

if os.environ.get(processes.MARK):
    # dramatiq forks its worker, whom nobody would end when the process between is killed.
    posix.die_with_parent()

if not apps.loading:  # Else Django is starting, and loads this module itself (`config.apps`).
    django.setup()
