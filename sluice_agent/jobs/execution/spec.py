"""The requests of an attempt, as its worker gets them: made from the run, and the version that it is started by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from sluice_agent.jobs.attempts.headers import request_headers
from sluice_agent.jobs.attempts.records import Spec
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.environments import Environment
from sluice_agent.jobs.runs.run_token import AttemptOfToken, run_token
from sluice_agent.jobs.signatures import signature_headers

_SECOND = 1_000_000  # microseconds
_TOKEN_SLACK = 60  # seconds that a token outlives its attempt


def spec_of(
    row: Row[Any],
    settings: JobSettings,
    environment: Environment,
    secrets: Sequence[str],
    token_secret: bytes,
    *,
    allows_private: bool,
) -> Spec:
    """Return the requests of the attempt that `row`, of `run`, has under way. Those of one start are always the same.

    They have a token of the run, and are signed by the job's `secrets`, if it has any. Those of the environment go to
    its address alone.
    """
    token_end = row.started_at + (settings.timeout_secs + _TOKEN_SLACK) * _SECOND
    headers = request_headers(row.id, row.job_id, row.attempt)
    of = AttemptOfToken(row.id, row.attempt, row.retries)
    headers["X-Run-Token"] = run_token(token_secret, of, row.started_at, max(token_end, row.expires_at or 0))
    message_id = f"{row.id}-{row.retries + 1}"  # another one for each attempt, also after a replay
    headers |= signature_headers(secrets, message_id, row.started_at // _SECOND, row.payload.encode())
    return Spec(
        run_id=row.id,
        attempt=row.attempt,
        max_attempts=settings.max_attempts,
        url=environment.url_of(settings.endpoint_url),
        fallback_url=settings.fallback_endpoint_url or None,
        headers=headers,
        secrets=dict(environment.secrets),
        body=row.payload,
        timeout_secs=settings.timeout_secs,
        allows_private=allows_private,
        debug_mode=row.debug_mode,
    )
