"""The thread that evaluates the rules, in one process of all that share the database."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread

from sluice_agent.log import log_failure, warn_limited
from sluice_agent.server.alerts.evaluation import Evaluation
from sluice_agent.server.store import DATABASE_ERRORS, reason_of
from sluice_agent.server.store.lease import Lease

INTERVAL = 15.0
"""Seconds between two evaluations."""

_CLOSE_SECONDS = 5.0
_log = logging.getLogger("sluice_agent.server.alerts")


class Evaluator:
    """Runs `evaluation` each `interval` seconds, and calls `wake_sender` if webhooks are to be sent.

    `lease` elects one process of several; None: no other process uses the database.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        lease: Lease | None,
        wake_sender: Callable[[], None],
        interval: float = INTERVAL,
    ) -> None:
        self._evaluation = evaluation
        self._lease = lease
        self._wake_sender = wake_sender
        self._interval = interval
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="alerts", daemon=True)

    def start(self) -> None:
        """Start the thread. The first evaluation is at once."""
        self._thread.start()

    def close(self) -> None:
        """End the thread after the evaluation that it is at, and leave the rest to another process."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                if (self._lease is None or self._lease.is_held()) and self._evaluation.run():
                    self._wake_sender()
            except DATABASE_ERRORS as error:
                warn_limited("alerts", "Alerts wait for the database (%s)", reason_of(error))
            except Exception as error:  # noqa: BLE001 - the next one may succeed, and nothing else must fail for it
                log_failure(error, "The evaluation of alerts failed; the next one is in %g s", self._interval)
            self._stopped.wait(self._interval)
        self._release()

    def _release(self) -> None:
        try:
            if self._lease is not None:
                self._lease.release()
        except DATABASE_ERRORS as error:  # it ends by itself
            _log.warning("The lease of alerts could not be released: %s", reason_of(error))
