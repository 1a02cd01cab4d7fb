"""The circuit breaker of an endpoint: after failures in a row nothing is sent to it for a while. Pure functions.

A circuit is closed, or open until a moment. The first request after that moment is a probe: its answer closes the
circuit or opens it again, and no other request is sent meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from sluice_agent.jobs.attempts.answers import ErrorClass

FAILURES = 5
"""Failures in a row that open a circuit."""
OPEN_SECONDS = 60.0
_COUNTED = frozenset((ErrorClass.SERVER, ErrorClass.TRANSIENT, ErrorClass.TIMEOUT))
"""The classes that are failures of the endpoint. Any other answer shows that it works."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """The failures in a row, and the moment until which nothing is sent, in seconds since 1970; None: it is closed."""

    failures: int = 0
    open_until: float | None = None


CLOSED = Circuit()


def admit(circuit: Circuit, now: float, probe_seconds: float) -> tuple[Circuit, float | None]:
    """Return the circuit after a request asks to be sent, and None, or the moment at which it may ask again.

    `probe_seconds` is how long a probe may take: another follows if it was lost.
    """
    if circuit.open_until is None:
        return circuit, None
    if now < circuit.open_until:
        return circuit, circuit.open_until
    return Circuit(circuit.failures, now + probe_seconds), None


def after(circuit: Circuit, error_class: ErrorClass | None, now: float) -> Circuit:
    """Return the circuit after an answer, or after none. None is the class of a success."""
    if error_class not in _COUNTED:
        return CLOSED
    failures = min(circuit.failures + 1, FAILURES)
    return Circuit(failures, now + OPEN_SECONDS if failures == FAILURES else None)
