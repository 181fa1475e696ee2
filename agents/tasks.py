"""Dramatiq's actors: they claim, hand over, and know nothing else."""

from __future__ import annotations

import dramatiq

from agents import pipeline
from agents.services import measuring, providertests, runs


@dramatiq.actor(queue_name="runs", max_retries=0, time_limit=float("inf"))
def run_execute(run_id: int, fence: int) -> None:
    """Do a run, and go on with what its end started; a repeated message finds nothing to claim."""
    waiting = [(run_id, fence)]
    while waiting:
        run = runs.run_claim(*waiting.pop(0))
        if run is not None:
            waiting = [(started.pk, started.fence) for started in pipeline.execute(run)[:1]]


@dramatiq.actor(queue_name="short", max_retries=0, time_limit=float("inf"))
def checks_measure(measurement_id: int) -> None:
    """Measure a plan's checks; it bounds its own time."""
    measuring.measurement_do(measurement_id)


@dramatiq.actor(queue_name="runs", max_retries=0, time_limit=float("inf"))
def provider_test(test_id: int) -> None:
    """Test a profile's provider; it bounds its own time."""
    providertests.test_do(test_id)
