"""The bodies of requests that make, change and copy jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from sluice_agent.jobs.celery_target import is_task
from sluice_agent.jobs.definitions.settings import ATTEMPTS_OF_TASK, JobSettings, line

MOST_JOBS = 50
"""Jobs of one batch."""

ProjectId = Annotated[
    str, line(255, least=1), Field(description="A key of a connection has one: the connection's name.")
]


Id = Annotated[str, line(64, least=1)]


class JobCreate(JobSettings):
    """A new job."""

    project_id: ProjectId
    enabled: bool = True

    def settings(self) -> JobSettings:
        """Return the settings among its fields."""
        return JobSettings.model_construct(**{name: getattr(self, name) for name in JobSettings.model_fields})


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class JobBatch(_Request):
    """Jobs of which each is made if it can be."""

    jobs: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST_JOBS)]


class JobClone(_Request):
    """The name and slug of a copy. It is enabled unless `enabled` is false."""

    name: Annotated[str, line(255, least=1)]
    slug: Annotated[str, line(128, least=1)]
    enabled: bool | None = None


class JobIds(_Request):
    """Jobs that are switched: by `ids`, or by `job_ids`."""

    ids: Annotated[list[Id] | None, Field(max_length=MOST_JOBS)] = None
    job_ids: Annotated[list[Id] | None, Field(max_length=MOST_JOBS)] = None

    @model_validator(mode="after")
    def _check(self) -> JobIds:
        if not self.ids and not self.job_ids:
            raise ValueError("ids: needs one id or more")
        if self.ids and self.job_ids:
            raise ValueError("job_ids: give either ids or job_ids")
        return self

    @property
    def all(self) -> list[str]:
        """The ids, by either name."""
        return self.ids or self.job_ids or []


class DependencyCreate(_Request):
    """A job that must have ended as `condition` demands before runs of this one begin."""

    depends_on_job_id: Id
    condition: Annotated[str | None, Field(pattern="^(completed|failed|any)$")] = None


_Changes: Any = create_model(
    "_Changes",
    __base__=_Request,
    **{  # type: ignore[call-overload]
        name: (Annotated[field.rebuild_annotation(), Field()] | None, None)
        for name, field in (JobSettings.model_fields | {"enabled": JobCreate.model_fields["enabled"]}).items()
    },
)


class JobUpdate(_Changes):
    """Settings that change. One that is absent or null stays as it is; an empty one is cleared."""

    if TYPE_CHECKING:
        enabled: bool | None
        webhook_secret: str | None


def changed(settings: JobSettings, update: JobUpdate) -> JobSettings:
    """Return `settings` with the changes of `update`. Raises `ValueError` if they do not fit."""
    given = {name: value for name, value in update if value is not None and name != "enabled"}
    if settings.task is None and is_task(given.get("endpoint_url", "")):
        given.setdefault("max_attempts", ATTEMPTS_OF_TASK)  # those of a request must not become publishes
    return JobSettings.model_validate(dict(settings) | given)
