"""What a page of the jobs API is about: one project of those that its reader may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Query
from sqlalchemy import Connection, Row

from sluice_agent.jobs.definitions.jobs import Job, find_job, list_projects
from sluice_agent.jobs.runs.replays import Replay, find_replay
from sluice_agent.jobs.runs.runs import find_run
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.access.principal import LOOPBACK, Principal
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.jobs_api.api import Api
from sluice_agent.server.pages.render import POLLED, Layout, url_of
from sluice_agent.server.pages.scope import ConnectionId, PageViewer, Scope, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.timestamps import to_moment

SIGN_IN = "To trigger, change or replay, sign in as operator: sluice-agent key link prints a link."

_NO_JOB = "There is no such job: it was deleted, or the address has a mistake. Job definitions has all that there are."
_NO_RUN = (
    "There is no such run: it was deleted with its job, or some time after its end (30 days, unless the server was "
    "started with another --jobs-keep), or the address has a mistake."
)
_NO_REPLAY = (
    "There is no such replay: it was removed 30 days after its end, or the address has a mistake. Dead letters leads "
    "to those that there are."
)
_NO_NUL = r"^[^\x00]*$"

ProjectName = Annotated[str | None, Query(alias="project", max_length=255, pattern=_NO_NUL)]


@dataclass(frozen=True, slots=True)
class JobsSources:
    """What pages of the jobs API read from, and the API by which they change something."""

    pages: Sources
    store: JobsStore
    api: Api

    @property
    def moment(self) -> int:
        """The present, in microseconds since 1970."""
        return to_moment(self.pages.now())


class Wanted:
    """Who wants a page, of which project and connection."""

    def __init__(self, principal: PageViewer, project: ProjectName = None, connection_id: ConnectionId = None) -> None:
        self.principal = principal
        self.project = project or None
        self.connection_id = connection_id


WantedScope = Annotated[Wanted, Depends()]
"""The parameter of a page's route: only those who may read see it."""


@dataclass(frozen=True, slots=True)
class JobsScope:
    """The project of a page, None if there is none yet; those that the reader may choose, and who that is."""

    connections: Scope
    project: str | None
    projects: Sequence[str]

    @property
    def may_act(self) -> bool:
        """Whether the reader may trigger, change and replay."""
        return self.connections.principal.may_act

    @property
    def why_not(self) -> str | None:
        """Why the reader may not act, if a sentence helps."""
        return SIGN_IN if self.connections.principal is LOOPBACK else None

    @property
    def own_project(self) -> str | None:
        """The only project that the reader may use; None: any."""
        return _own_project(self.connections.principal, self.connections)

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of an address that name the project and the connection, as far as that is needed."""
        project = {"project": self.project} if len(self.projects) > 1 and self.project else {}
        connection = self.connections.connection
        return project | ({"connectionId": connection.id} if connection and self.connections.is_ambiguous else {})

    def href(self, path: str, **parameters: str) -> str:
        """Return an address in the project and the connection."""
        return url_of(path, {**parameters, **self.parameters})

    def layout(self, sources: JobsSources, page: str, title: str, *, is_live: bool = False) -> Layout:
        """Return what surrounds a page."""
        types = POLLED if is_live else ()
        now = sources.pages.now()
        return Layout(page, title, now, self.connections, types, project=self.project, projects=self.projects)


def jobs_scope_of(sources: JobsSources, reader: Connection, wanted: Wanted) -> JobsScope:
    """Return the scope of a list: without a project, that of the connection that is asked for, or of the newest job.

    Raises `RefusedError` if there is no such project or connection, or if the reader may not use it.
    """
    scope = _scope_of(sources, wanted)
    projects = list_projects(reader)
    own = _own_project(wanted.principal, scope)
    if own is not None:
        if wanted.project not in (None, own):
            raise RefusedError(403, "This key belongs to another project.")
        return JobsScope(scope, own if own in projects else None, [own] if own in projects else [])
    if wanted.project is not None and wanted.project not in projects:
        raise RefusedError(404, "There is no job of this project. Open the page without it to see the newest.")
    of_connection = _project_of(scope) if wanted.connection_id is not None else None
    newest = projects[0] if projects else None
    return JobsScope(scope, wanted.project or (of_connection if of_connection in projects else newest), projects)


def scope_of_job(sources: JobsSources, reader: Connection, wanted: Wanted, job_id: str) -> tuple[JobsScope, Job]:
    """Return a job, and the scope of its page. Raises `RefusedError` (404) if the reader has no such job."""
    connections = _scope_of(sources, wanted)
    try:
        job = find_job(reader, job_id.replace("\0", ""), _own_project(wanted.principal, connections))
    except RefusedError:
        raise RefusedError(404, _NO_JOB) from None
    return _scope_of_project(reader, wanted.principal, connections, job.project_id), job


def scope_of_run(sources: JobsSources, reader: Connection, wanted: Wanted, run_id: str) -> tuple[JobsScope, Row[Any]]:
    """Return the row of a run, and the scope of its page. Raises `RefusedError` (404) if the reader has no such run."""
    connections = _scope_of(sources, wanted)
    try:
        row = find_run(reader, run_id.replace("\0", ""), _own_project(wanted.principal, connections))
    except RefusedError:
        raise RefusedError(404, _NO_RUN) from None
    return _scope_of_project(reader, wanted.principal, connections, row.project_id), row


def scope_of_replay(
    sources: JobsSources, reader: Connection, wanted: Wanted, replay_id: str
) -> tuple[JobsScope, Replay]:
    """Return a replay, and the scope of its page. Raises `RefusedError` (404) if the reader has no such replay."""
    connections = _scope_of(sources, wanted)
    try:
        found = find_replay(reader, replay_id.replace("\0", ""), _own_project(wanted.principal, connections))
    except RefusedError:
        raise RefusedError(404, _NO_REPLAY) from None
    return _scope_of_project(reader, wanted.principal, connections, found.wanted.project), found


def _scope_of_project(reader: Connection, principal: Principal, connections: Scope, project: str) -> JobsScope:
    """Return the scope of the page of something in `project`, which the reader may use."""
    own = _own_project(principal, connections)
    return JobsScope(connections, project, [own] if own is not None else list_projects(reader))


def _scope_of(sources: JobsSources, wanted: Wanted) -> Scope:
    with sources.pages.store.reading() as reader:
        return scope_of(reader, wanted.principal, wanted.connection_id)


def _own_project(principal: Principal, scope: Scope) -> str | None:
    return None if principal.connections is None else _project_of(scope) or ""  # no job is of the project ""


def _project_of(scope: Scope) -> str | None:
    """Return the project of a connection: its name, or its id if it has no name."""
    return None if scope.connection is None else scope.connection.name or scope.connection.id
