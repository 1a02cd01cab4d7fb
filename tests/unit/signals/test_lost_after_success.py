"""Jobs whose pool process is lost after their success was stored."""

from __future__ import annotations

import time

import pytest
from billiard.einfo import ExceptionInfo
from celery import __version__
from celery.exceptions import WorkerLostError

from sluice_agent.signals.lost_after_success import patch_stored_successes
from sluice_agent.signals.main_process import MainProcess
from tests.unit.signals.observed import Observed, app, late

pytestmark = pytest.mark.skipif(
    tuple(map(int, __version__.split(".")[:2])) < (5, 7), reason="Celery marks such a job as failed"
)


@pytest.mark.parametrize("clock", [0.0, 3600.0])
def test_such_a_job_has_completed(clock: float) -> None:
    """Celery fires no signal for it: the job would run for ever. The end can't be before the start."""
    observed = Observed()
    main_process = MainProcess(observed.sink, observed.recorder, observed.names, observed.requests, observed.runs)
    patch_stored_successes(observed.sink, main_process.report_unannounced)
    request = observed.receive("stored", of=late)
    request.on_accepted(1, time.monotonic())
    request.time_start += clock - 1
    app.backend.store_result("stored", 3, "SUCCESS")
    try:
        raise WorkerLostError("signal 9")  # noqa: TRY301 - as billiard does
    except WorkerLostError:
        request.on_failure(ExceptionInfo())
    assert observed.walk == "completed"
    assert ("runtime" in observed.last) is (clock == 0.0)
