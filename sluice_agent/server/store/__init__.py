"""The database: its tables and migrations, the writers, and what a writer decides. Routes see only the facade."""

from sluice_agent.server.store.batch import BatchResult, CommittedFrames, IngestBatch
from sluice_agent.server.store.database import DATABASE_ERRORS, reason_of
from sluice_agent.server.store.driver import UnavailableError
from sluice_agent.server.store.store import Store

__all__ = [
    "DATABASE_ERRORS",
    "BatchResult",
    "CommittedFrames",
    "IngestBatch",
    "Store",
    "UnavailableError",
    "reason_of",
]
