"""Parameters that several routes have."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from sluice_agent.jobs.routes.access import Caller
from sluice_agent.server.errors import RefusedError

_NO_NUL = r"^[^\x00]*$"

Id = Annotated[str, Path(max_length=64, pattern=_NO_NUL)]
Project = Annotated[
    str | None,
    Query(max_length=255, pattern=_NO_NUL, description="Required, but for a key of one connection."),
]
OfJob = Annotated[str | None, Query(max_length=64, pattern=_NO_NUL, description="Only of this job.")]
TagKey = Annotated[str | None, Query(max_length=64, pattern=_NO_NUL, description="Only with this tag.")]
TagValue = Annotated[str | None, Query(max_length=256, pattern=_NO_NUL, description="Only with this value of the tag.")]


def project_of(caller: Caller, project: str | None) -> str:
    """Return the project that a list is of: the one that is asked for, or else the caller's only one.

    Raises `RefusedError`: 400 if there is none, 403 if the caller may not use it.
    """
    wanted = project or caller.project
    if wanted is None:
        raise RefusedError(400, "The parameter project_id is needed.", {"project_id": "is missing"})
    check_project(caller, wanted)
    return wanted


def check_project(caller: Caller, project: str) -> None:
    """Raise `RefusedError` (403) if the caller may not use a project."""
    if not caller.may_use(project):
        raise RefusedError(403, f"This key belongs to the project {caller.project}.")


def tag_of(key: str | None, value: str | None) -> tuple[str, str | None] | None:
    """Return the tag that a list is filtered by. Raises `RefusedError` (400) for a value without a key."""
    if key is None and value is not None:
        raise RefusedError(400, "The parameter tag_value needs tag_key.", {"tag_value": "needs tag_key"})
    return None if key is None else (key, value)
