"""The circuit breaker of an endpoint."""

from __future__ import annotations

from sluice_agent.jobs.attempts.answers import ErrorClass
from sluice_agent.jobs.attempts.circuit import CLOSED, FAILURES, Circuit, admit, after

NOW = 1_000.0


def failed(times: int) -> Circuit:
    circuit = CLOSED
    for _ in range(times):
        circuit = after(circuit, ErrorClass.SERVER, NOW)
    return circuit


def test_failures_in_a_row_open_a_circuit() -> None:
    """An endpoint that is down would get each run and each of its attempts."""
    assert admit(failed(FAILURES - 1), NOW, 30) == (failed(FAILURES - 1), None)
    assert admit(failed(FAILURES), NOW + 59, 30) == (failed(FAILURES), NOW + 60)


def test_a_circuit_lets_one_probe_through() -> None:
    """An endpoint that has just come back would get all runs that wait, at once."""
    circuit, again_at = admit(failed(FAILURES), NOW + 60, 30)
    assert again_at is None
    assert admit(circuit, NOW + 61, 30) == (circuit, NOW + 90)
    assert admit(circuit, NOW + 90, 30)[1] is None, "the first probe was lost"
    assert after(circuit, None, NOW + 61) == CLOSED
    assert after(circuit, ErrorClass.TIMEOUT, NOW + 61) == Circuit(FAILURES, NOW + 121)


def test_only_failures_of_the_endpoint_count() -> None:
    """A job with a wrong payload would stop all others that use the same endpoint."""
    for error_class in (ErrorClass.CLIENT, ErrorClass.AUTH, ErrorClass.RATE_LIMITED, ErrorClass.UNKNOWN, None):
        assert after(failed(FAILURES - 1), error_class, NOW) == CLOSED
    for error_class in (ErrorClass.SERVER, ErrorClass.TRANSIENT, ErrorClass.TIMEOUT):
        assert after(failed(FAILURES - 1), error_class, NOW).open_until == NOW + 60
