"""Sluice's ids: UUIDs that depend only on a connection and on what the framework calls the job or the worker."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha1
from uuid import UUID, uuid5


def job_uuid(connection_id: str, external_id: str) -> bytes:
    """Return the id of a job, as the database has it."""
    digest = bytearray(sha1(_namespace(connection_id) + external_id.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50  # what uuid5 does, in a third of the time: it runs for each event
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def job_id(connection_id: str, external_id: str) -> str:
    """Return the id of a job, as clients have it."""
    return str(UUID(bytes=job_uuid(connection_id, external_id)))


def job_uuids(text: str, connection_ids: Iterable[str]) -> list[bytes]:
    """Return the ids that `text` may mean: Sluice's own, if it is a UUID, and the framework's in each connection."""
    return [*own_uuids(text), *(job_uuid(connection_id, text) for connection_id in connection_ids)]


def own_uuids(text: str) -> list[bytes]:
    """Return Sluice's own id in `text`, none if it is not a UUID."""
    try:
        return [UUID(text).bytes]
    except ValueError:
        return []


def worker_id(connection_id: str, external_id: str) -> str:
    """Return the id of a worker. It differs from that of a job with the same external id."""
    return str(uuid5(UUID(connection_id), f"worker:{external_id}"))


def queue_id(connection_id: str, name: str) -> str:
    """Return the id of a queue."""
    return str(uuid5(UUID(connection_id), f"queue:{name}"))


@lru_cache(maxsize=1024)
def _namespace(connection_id: str) -> bytes:
    return UUID(connection_id).bytes
