"""Reminders to workers: a run's id and fence. Losing one only delays, for rows are the truth."""

from __future__ import annotations

import logging

import dramatiq
import redis
from dramatiq.errors import BrokerError

from agents.models import Run

logger = logging.getLogger(__name__)


def send(run: Run) -> None:
    """Wake a worker for a queued run. The sweep sends again what nobody claimed."""
    message: dramatiq.Message[None] = dramatiq.Message(
        queue_name="runs",
        actor_name="run_execute",
        args=(run.pk, run.fence),
        kwargs={},
        options={},
    )
    try:
        dramatiq.get_broker().enqueue(message)
    except (redis.RedisError, BrokerError, OSError) as error:
        logger.warning("Run %s will be sent again: %s", run.pk, error)
