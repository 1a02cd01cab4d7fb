"""The server's internal routes, by which attempts start and finish.

    POST {url}/internal/runs/{run}/start    attempt, ticket, execution     200: a `Spec`; 409: drop the message
    POST {url}/internal/runs/{run}/finish   attempt, execution, outcome    200: {"status"}; 409: ended already
    POST {url}/internal/runs/beat           executions                     200: {"canceled"}: those to abort

`execution` is a random name of one execution of a message. By it the server recognises a `start` that is repeated,
since its answer was lost, and does not take it for a second message; and who knows it may finish the attempt.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

from pydantic import ValidationError

from sluice_agent.jobs.attempts.records import Outcome, Spec
from sluice_agent.jobs.worker.connection import Connection, Response, UnreachableError

_MOST_IDLE = 100  # connections that are kept open


class ServerAwayError(Exception):
    """The server can't be reached, or can't answer now. The message has the reason."""


class RefusedError(Exception):
    """The server refuses what this worker asks for: a retry alone does not help. The message has the reason."""


class AttemptServer(Protocol):
    """The server of attempts, as who executes them sees it. Thread-safe; all methods raise as those of `JobsServer`."""

    def start(self, run_id: str, attempt: int, ticket: str, execution: str) -> Spec | None:
        """Return the requests of an attempt; None if it must not begin."""

    def finish(self, run_id: str, attempt: int, execution: str, outcome: Outcome) -> str | None:
        """Return the status of the run after an attempt; None if it had ended."""

    def beat(self, executions: Mapping[str, str]) -> list[str]:
        """Report executions as going on, each with its run, and return those that are canceled."""


class JobsServer:
    """The server at `url`, such as ``http://127.0.0.1:8787/api``. `key` is sent as a bearer token. Thread-safe."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Begin with no connections: a forked child must not use its parent's."""
        self._idle: deque[Connection] = deque()

    def start(self, run_id: str, attempt: int, ticket: str, execution: str) -> Spec | None:
        """Return the requests of an attempt; None if it must not begin. Raises `ServerAwayError`, `RefusedError`."""
        body = {"attempt": attempt, "ticket": ticket, "execution": execution}
        answer = self._post(f"{quote(run_id, safe='')}/start", body)
        if answer.status == 409:
            return None
        try:
            return Spec.model_validate_json(answer.content)
        except ValidationError as error:
            raise RefusedError(f"{self.url} answers with no attempt ({error.error_count()} faults)") from None

    def finish(self, run_id: str, attempt: int, execution: str, outcome: Outcome) -> str | None:
        """Return the status of the run after an attempt; None if it had ended. Raises as `start`."""
        body = {"attempt": attempt, "execution": execution, "outcome": outcome.model_dump(mode="json")}
        answer = self._post(f"{quote(run_id, safe='')}/finish", body)
        return None if answer.status == 409 else str(self._object(answer).get("status"))

    def beat(self, executions: Mapping[str, str]) -> list[str]:
        """Report that these executions go on, each with its run, and return those to be aborted. Raises as `start`."""
        canceled = self._object(self._post("beat", {"executions": dict(executions)})).get("canceled")
        return [str(execution) for execution in canceled] if isinstance(canceled, list) else []

    def _object(self, answer: Response) -> dict[str, Any]:
        try:
            content = json.loads(answer.content)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ServerAwayError(f"{self.url} answers with something else than JSON: it may be another server")
        return content

    def _post(self, path: str, body: dict[str, Any]) -> Response:
        """Return an answer with 200 or 409."""
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")  # escapes would double its size
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = Connection(self.url)
        try:
            answer = connection.post(f"/internal/runs/{path}", content, self._headers)
        except UnreachableError as error:
            raise ServerAwayError(f"{self.url} does not answer ({error})") from error
        except BaseException:  # what comes next on it would be the answer to this request
            connection.close()
            raise
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        if answer.status in (200, 409):
            return answer
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise ServerAwayError(f"{self.url} answers {answer.status}")
        raise RefusedError(f"{self.url} answers {answer.status}{_remedy(answer.status)}")


def _remedy(status: int) -> str:
    if status in (401, 403):
        return ": set SLUICE_API_KEY to a key that may run jobs"
    if status in (400, 413):
        return ": are this worker and the server of the same version?"
    return ": is SLUICE_API_URL the address of a server with the jobs API?"
