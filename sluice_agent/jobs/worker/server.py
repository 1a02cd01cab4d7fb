"""The one file of the room that uses HTTP: the server's internal routes, by which attempts start and finish.

    POST {url}/internal/runs/{run}/start    attempt, ticket, execution     200: a `Spec`; 409: drop the message
    POST {url}/internal/runs/{run}/finish   attempt, execution, outcome    200: {"status"}; 409: ended already
    POST {url}/internal/runs/beat           executions                     200: {"canceled"}: those to abort

`execution` is a random name of one execution of a message. By it the server recognises a `start` that is repeated,
since its answer was lost, and does not take it for a second message; and who knows it may finish the attempt.
"""

from __future__ import annotations

import json
import os
import ssl
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from sluice_agent.jobs.attempts.records import Outcome, Spec
from sluice_agent.outbound.quiet import quiet

_CONNECT = 5.0  # seconds
_SILENCE = 10.0
_MOST_IDLE = 100  # connections that are kept open
_INVALID = (400, 413)


class ServerAwayError(Exception):
    """The server can't be reached, or can't answer now. The message has the reason."""


class RefusedError(Exception):
    """The server refuses what this worker asks for: a retry alone does not help. The message has the reason."""


class InvalidError(RefusedError):
    """The server does not understand what this worker sends, and never will: they are of different versions."""


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
        self._idle: deque[httpx.Client] = deque()

    def start(self, run_id: str, attempt: int, ticket: str, execution: str) -> Spec | None:
        """Return the requests of an attempt; None if it must not begin. Raises `ServerAwayError`, `RefusedError`."""
        body = {"attempt": attempt, "ticket": ticket, "execution": execution}
        answer = self._post(f"{quote(run_id, safe='')}/start", body)
        if answer.status_code == 409:
            return None
        try:
            return Spec.model_validate_json(answer.content)
        except ValidationError as error:
            raise RefusedError(f"{self.url} answers with no attempt ({error.error_count()} faults)") from None

    def finish(self, run_id: str, attempt: int, execution: str, outcome: Outcome) -> str | None:
        """Return the status of the run after an attempt; None if it had ended. Raises as `start`."""
        body = {"attempt": attempt, "execution": execution, "outcome": outcome.model_dump(mode="json")}
        answer = self._post(f"{quote(run_id, safe='')}/finish", body)
        return None if answer.status_code == 409 else str(_object(answer).get("status"))

    def beat(self, executions: Mapping[str, str]) -> list[str]:
        """Report that these executions go on, each with its run, and return those to be aborted. Raises as `start`."""
        canceled = _object(self._post("beat", {"executions": dict(executions)})).get("canceled")
        return [str(execution) for execution in canceled] if isinstance(canceled, list) else []

    def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """Return an answer with 200 or 409."""
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")  # escapes would double its size
        try:
            with quiet(), self._client() as client:
                answer = client.post(f"{self.url}/internal/runs/{path}", content=content, headers=self._headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ImportError) as error:
            raise ServerAwayError(f"{self.url} does not answer ({type(error).__name__}: {error})") from error
        if answer.status_code in (200, 409):
            return answer
        if answer.status_code in (408, 425, 429) or answer.status_code >= 500:
            raise ServerAwayError(f"{self.url} answers {answer.status_code}")
        message = f"{self.url} answers {answer.status_code}{_remedy(answer.status_code)}"
        raise InvalidError(message) if answer.status_code in _INVALID else RefusedError(message)

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        """Yield a client that nothing else uses meanwhile. It has one connection, which stays open.

        Of a client that many threads share, each request looks at all connections: with a hundred slots that takes
        longer than the request.
        """
        try:
            client = self._idle.pop()
        except IndexError:
            client = self._new_client()
        try:
            yield client
        except BaseException:
            client.close()
            raise
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(client)
        else:
            client.close()

    def _new_client(self) -> httpx.Client:
        context = _authorities() if self.url.startswith("https:") else _PLAIN
        timeout = httpx.Timeout(_SILENCE, connect=_CONNECT)
        return httpx.Client(timeout=timeout, follow_redirects=False, verify=context)


_PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # with no authorities: loading them takes 20 ms


@lru_cache(maxsize=1)
def _authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ServerAwayError(f"{answer.url} answers with something else than JSON: it may be another server")
    return content


def _remedy(status: int) -> str:
    if status in (401, 403):
        return ": set SLUICE_API_KEY to a key that may run jobs"
    if status in _INVALID:
        return ": are this worker and the server of the same version?"
    return ": is SLUICE_API_URL the address of a server with the jobs API?"
