"""The framework's ids of jobs that are known by Sluice's."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import Connection, select

from sluice_agent.server.store.schema import job


def external_ids_of(reader: Connection, ids: Iterable[str]) -> dict[str, str]:
    """Return the framework's id of each job in `ids` that has not been removed, by Sluice's id."""
    statement = select(job.c.uuid, job.c.external_id).where(job.c.uuid.in_([UUID(id_).bytes for id_ in ids]))
    return {str(UUID(bytes=uuid)): external_id for uuid, external_id in reader.execute(statement)}
