"""A server that plays the internal routes of the jobs API, by their description in `sluice_agent.jobs.worker.server`.

It stands for the engine: it starts each attempt once, and records what comes. It is an ingest endpoint as well, so that
an agent reports to it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

from celery import Celery

from tests.support.endpoint import Endpoint
from tests.support.ingest_server import Exchange, Request
from tests.support.misbehaviour import Behaviour, error_body

_PREFIX = "/api/internal/runs/"
QUEUE = "sluice.jobs"


class JobsServer(Endpoint):
    """The server of a test. `is_away` makes it answer 503 to the internal routes."""

    def __init__(self, key: str | None = "sk_test") -> None:
        self.specs: dict[str, dict[str, Any]] = {}
        """What `start` answers, by run."""
        self.executions: dict[tuple[str, int], str] = {}
        """Which execution has started an attempt."""
        self.outcomes: dict[tuple[str, int], dict[str, Any]] = {}
        """The outcome of each attempt."""
        self.calls: Counter[str] = Counter()
        """The requests of each kind, with those that were refused."""
        self.alive: set[str] = set()
        """The runs that were reported as going on."""
        self.canceled: set[str] = set()
        self.is_away = False
        super().__init__(key)

    def add(self, run_id: str, url: str, **fields: Any) -> None:
        """Add a run whose attempts request `url`."""
        self.specs[run_id] = {
            "run_id": run_id,
            "attempt": 1,
            "max_attempts": 3,
            "url": url,
            "headers": {"X-Run-ID": run_id},
            "body": "{}",
            "timeout_secs": 20,
            "allows_private": True,
            **fields,
        }

    def publish(self, app: Celery, run_id: str, *, claim_seconds: float = 60, shadow: str = "invoices") -> None:
        """Publish the message of a run's attempt, as the engine does."""
        attempt = self.specs[run_id]["attempt"]
        header = {"attempt": attempt, "ticket": f"ticket of {run_id}", "until": time.time() + claim_seconds}
        app.send_task(
            "sluice.run",
            task_id=run_id,
            retries=attempt - 1,
            queue=QUEUE,
            shadow=shadow,
            ignore_result=True,
            headers={"sluice_attempt": header},
        )

    def read(self, request: Request) -> tuple[int, bytes] | None:
        """Check a request; those of the internal routes need the key."""
        if not request.path.startswith(_PREFIX):
            return super().read(request)
        request.body = request.raw
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return 401, error_body(401, "no such key")
        return None

    def behaviours(self) -> tuple[Behaviour, ...]:
        """Answer the internal routes after the script of the test."""
        *scripted, ok = super().behaviours()
        return (*scripted, self._internal, ok)

    def loses_answer(self, exchange: Exchange) -> bool:
        """Do what a request asks for, and reset the connection in place of an answer."""
        self._answer(exchange.request)
        exchange.reset()
        return True

    def _internal(self, exchange: Exchange) -> bool:
        if not exchange.request.path.startswith(_PREFIX):
            return False
        status, answer = self._answer(exchange.request)
        exchange.send(status, json.dumps(answer).encode())
        return True

    def _answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        *run, action = request.path.removeprefix(_PREFIX).split("/")
        self.calls[action] += 1
        if self.is_away:
            return 503, {}
        body = json.loads(request.raw)
        if action == "beat":
            self.alive.update(body["executions"].values())
            return 200, {"canceled": [name for name, run in body["executions"].items() if run in self.canceled]}
        return self._start(run[0], body) if action == "start" else self._finish(run[0], body)

    def _start(self, run_id: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        spec = self.specs[run_id]
        assert body["ticket"] == f"ticket of {run_id}"
        key = run_id, body["attempt"]
        with self._lock:
            if spec["attempt"] != body["attempt"] or run_id in self.canceled:
                return 409, {}
            is_first = self.executions.setdefault(key, body["execution"]) == body["execution"]
        return (200, spec) if is_first else (409, {})

    def _finish(self, run_id: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        key = run_id, body["attempt"]
        assert self.executions[key] == body["execution"]
        with self._lock:
            if run_id in self.canceled:
                return 409, {}
            self.outcomes[key] = body["outcome"]
        error_class = body["outcome"]["error_class"]
        if error_class is None:
            return 200, {"status": "completed"}
        if body["attempt"] < self.specs[run_id]["max_attempts"]:
            return 200, {"status": "queued"}
        return 200, {"status": "timed_out" if error_class == "timeout" else "dead_letter"}
