"""The filter of a bulk action: the names and values of the list of jobs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy import Connection, select

from sluice_agent.model import Framework, JobState
from sluice_agent.server.queries.selection import JobFilter, known_connections, select_jobs
from sluice_agent.server.store.schema import job
from sluice_agent.server.timestamps import moment_of

LARGEST = 100_000
"""Jobs of one bulk action: more are left to the next one."""

_T = TypeVar("_T")


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _split(value: object) -> object:
    texts = _as_list(value)
    if not isinstance(texts, list):
        return value
    return [part for text in texts for part in (text.split(",") if isinstance(text, str) else [text])]


def _check_time(text: str) -> str:
    if moment_of(text) is None:
        raise ValueError("not a date and time such as 2026-02-27T10:29:55Z")
    return text


Text = Annotated[str, Field(min_length=1, max_length=1_024, pattern=r"^[^\x00]*$")]
"""A text of the contract has no NUL, which PostgreSQL refuses."""

Several = Annotated[list[_T], BeforeValidator(_as_list), Field(max_length=100)]
"""One value, or a list of alternatives."""

States = Annotated[list[JobState], BeforeValidator(_split), Field(max_length=100)]
Time = Annotated[str, AfterValidator(_check_time)]


class BulkFilter(BaseModel):
    """Which jobs a bulk action is about, as in ``GET /api/jobs``; an empty one means all that the action is for."""

    model_config = ConfigDict(extra="forbid")

    state: States = []
    name: Several[Text] = []
    queue: Several[Text] = []
    worker: Several[Text] = []
    error_class: Annotated[Several[Text], Field(alias="errorClass")] = []
    connection_id: Annotated[UUID | None, Field(alias="connectionId")] = None
    framework: Framework | None = None
    root_id: Annotated[Text | None, Field(alias="rootId")] = None
    group_id: Annotated[Text | None, Field(alias="groupId")] = None
    created_from: Annotated[Time | None, Field(alias="from")] = None
    created_to: Annotated[Time | None, Field(alias="to")] = None
    search: Annotated[Text | None, Field(max_length=500)] = None

    def to_job_filter(self, allowed: Collection[JobState]) -> JobFilter:
        """Return it as the filter of a list; without states, those that are `allowed`."""
        return JobFilter(
            states=self.state or allowed,
            names=self.name,
            queues=self.queue,
            workers=self.worker,
            error_classes=self.error_class,
            framework=self.framework,
            root_id=self.root_id,
            group_id=self.group_id,
            created_from=moment_of(self.created_from),
            created_to=moment_of(self.created_to),
            search=self.search,
        )


def matching_jobs(reader: Connection, wanted: JobFilter, connections: Collection[int]) -> list[bytes]:
    """Return Sluice's ids of the jobs of `connections` that `wanted` selects, the oldest first."""
    selection = select_jobs(reader, known_connections(reader, connections), wanted)
    conditions = [
        job.c.connection.in_(selection.states),
        *selection.in_states(),
        *selection.created(indexed=True),
        *(dimension.residual() for dimension in selection.dimensions),
    ]
    query = select(job.c.uuid).where(*conditions).order_by(job.c.created_at, job.c.number).limit(LARGEST)
    return [bytes(uuid) for uuid in reader.scalars(query)]
