"""Records of jobs as JSON, of which those of jobs with very many events are kept: to walk through these takes seconds.

A kept record holds as long as the job's fold is the same: see `MOST_WALKED_STEPS`.
"""

from __future__ import annotations

from collections.abc import Hashable
from threading import Lock
from typing import Any

from fastapi import Response
from pydantic import TypeAdapter
from sqlalchemy import Connection

from sluice_agent.server.queries.job import recent_executions
from sluice_agent.server.queries.stored_job import JobHead, steps_of
from sluice_agent.server.record.record import record_of
from sluice_agent.server.routes.responses import Execution, JobRecord
from sluice_agent.server.store.memory import MOST_WALKED_STEPS

_KEPT_BYTES = 16_000_000  # of all records that are kept
_RECORD, _EXECUTIONS = TypeAdapter(JobRecord), TypeAdapter(list[Execution])
_END = b"[]}"  # of a record without recent executions, which are its last field


class JobRecords:
    """The answers to requests for one job. The records of jobs with more than `many` events are kept. Any thread may
    use it."""

    def __init__(self, many: int = MOST_WALKED_STEPS) -> None:
        self._many = many
        self._kept: dict[Hashable, bytes] = {}  # in the order of their last use
        self._lock = Lock()

    def answer(self, reader: Connection, head: JobHead) -> Response:
        """Return the record of a job. Raises `ValidationError` if it is not what the API describes."""
        key = head.number, head.uuid, head.fold
        record = self._find(key) or self._read(reader, head, key)
        recent = _EXECUTIONS.dump_json(_EXECUTIONS.validate_python(recent_executions(reader, head)), by_alias=True)
        return Response(b"%s%s}" % (record, recent), media_type="application/json")

    def _read(self, reader: Connection, head: JobHead, key: Hashable) -> bytes:
        steps = steps_of(reader, head)
        content: dict[str, Any] = {**record_of(steps), "recentExecutions": []}
        record = _RECORD.dump_json(_RECORD.validate_python(content), by_alias=True).removesuffix(_END)
        if len(steps) > self._many and head.fold is not None:
            self._keep(key, record)
        return record

    def _find(self, key: Hashable) -> bytes | None:
        with self._lock:
            record = self._kept.pop(key, None)
            if record is not None:
                self._kept[key] = record
            return record

    def _keep(self, key: Hashable, record: bytes) -> None:
        with self._lock:
            self._kept[key] = record
            while sum(map(len, self._kept.values())) > _KEPT_BYTES:
                del self._kept[next(iter(self._kept))]
