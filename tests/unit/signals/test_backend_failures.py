"""Ends that a worker's main process can't store: Celery raises, and fires no signal."""

from __future__ import annotations

import pytest
from billiard.einfo import ExceptionInfo
from celery.exceptions import WorkerLostError
from celery.worker.request import Request

from sluice_agent.signals.backend_failures import patch_backend_failures
from sluice_agent.signals.main_process import MainProcess
from tests.unit.signals.observed import Observed, away_task


@pytest.fixture
def observed() -> Observed:
    observed = Observed()
    main_process = MainProcess(observed.sink, observed.recorder, observed.names, observed.requests, observed.runs)
    patch_backend_failures(observed.sink, main_process.report_unannounced)
    return observed


@pytest.fixture
def request_(observed: Observed) -> Request:
    return observed.receive(of=away_task)


def info_of(error: BaseException) -> ExceptionInfo:
    """Return Celery's record of an exception."""
    try:
        raise error  # noqa: TRY301 - as billiard does
    except BaseException:  # noqa: BLE001
        return ExceptionInfo()


@pytest.mark.parametrize(
    ("error", "walk"),
    [
        (WorkerLostError("signal 9"), "failed"),
        (SystemExit(3), "failed"),
        (SystemExit(-241), ""),
        (ValueError("reported by the task process"), ""),
    ],
)
def test_a_lost_process_is_reported(observed: Observed, request_: Request, error: BaseException, walk: str) -> None:
    """With the backend away its job would run for ever; one that was stopped by a signal has another reason."""
    with pytest.raises(ConnectionError):
        request_.on_failure(info_of(error))
    assert observed.walk == walk


def test_a_hard_time_limit_is_reported(observed: Observed, request_: Request) -> None:
    """The job would run for ever; its soft limit is the task's own matter."""
    request_.on_timeout(soft=True, timeout=1)
    assert observed.jobs == []
    with pytest.raises(ConnectionError):
        request_.on_timeout(soft=False, timeout=2)
    assert (observed.walk, observed.last["error"]) == ("failed", "TimeLimitExceeded: TimeLimitExceeded(2,)")


def test_a_revocation_is_reported(observed: Observed, request_: Request) -> None:
    """A job that an operator has stopped would seem to run."""
    request_.on_accepted(1, 1.0)
    with pytest.raises(ConnectionError):
        request_.terminate(_Pool(), signal=15)
    assert (observed.walk, observed.last["signum"], observed.last["terminated"]) == ("cancelled", "15", True)


class _Pool:
    """A pool that kills no process."""

    def terminate_job(self, *_: object) -> None: ...
