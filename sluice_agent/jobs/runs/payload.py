"""The payload of a run: its canonical text, whether it fits the job's schema, and the key that it may have."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sluice_agent.jobs.celery_target import arguments_in
from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.json_text import canonical, parse
from sluice_agent.jobs.payload_schema import compiled, faults
from sluice_agent.server.errors import RefusedError

_DEPENDENCY_KEY = "dependency_key"
_LONGEST_KEY = 256  # bytes


@dataclass(frozen=True, slots=True)
class Payload:
    """A payload: its canonical text, and the SHA-256 of that in hexadecimal digits.

    `dependency_key` is a text in it by which runs of several jobs belong together, None: it has none.
    """

    text: str
    hash: str
    dependency_key: str | None


def payload_of(value: Any) -> Payload:
    """Return the payload that `value` is. Raises `RefusedError` (400) if it is too deep."""
    try:
        text = canonical(value)
    except ValueError as error:
        raise RefusedError(400, "The request is not valid.", {"payload": str(error)}) from None
    key = value.get(_DEPENDENCY_KEY) if isinstance(value, dict) else None
    is_key = isinstance(key, str) and 0 < len(key.encode()) <= _LONGEST_KEY and key.isprintable()
    return Payload(text, hashlib.sha256(text.encode()).hexdigest(), key if is_key else None)


def check_payload(job: Job, payload: Payload) -> None:
    """Raise `RefusedError` (400) if a payload does not fit the schema of `job`, or makes no call of its task."""
    if job.settings.payload_schema:
        wrong = faults(_validator(canonical(job.settings.payload_schema)), parse(payload.text.encode()))
        if wrong:
            details = {f"payload ({number})": fault for number, fault in enumerate(wrong, 1)}
            raise RefusedError(400, "The payload does not fit the job's payload_schema.", details)
    target = job.settings.task
    if target is not None:
        try:
            arguments_in(target, payload.text)
        except ValueError as error:
            raise RefusedError(400, "The payload is no call of the job's task.", {"payload": str(error)}) from None


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    return compiled(parse(schema.encode()))
