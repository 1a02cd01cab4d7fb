"""Where the requests of jobs may go, and which Celery tasks they may call. It is
checked here as a job is defined and triggered, and again as a request is made."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_agent.jobs.celery_target import TaskRules, is_task
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.environments import Environments, UnknownEnvironmentError, environment_of
from sluice_agent.outbound.addresses import AddressError, check_literal
from sluice_agent.server.errors import RefusedError

_URLS = ("endpoint_url", "fallback_endpoint_url", "webhook_url")


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """The rules of one server. `allows_private` is true if requests may go to private addresses and loopback; `tasks`
    are those of Celery tasks, `environments` those that jobs may name. None: such names are labels."""

    allows_private: bool
    tasks: TaskRules
    environments: Environments | None = None

    def check(self, settings: JobSettings, project: str) -> None:
        """Raise `RefusedError` (400) if a URL of `settings` names an address that is not allowed, or if a job of
        `project` may not have its environment.

        Names are not looked up: what they lead to may be another address by the time of the request.
        """
        self.check_task(settings)
        if settings.task is not None and settings.environment_id and self.environments is not None:
            raise _refused("environment_id", "a Celery task has none: its workers have their own variables")
        self.check_environment(settings, project)
        for name in _URLS:
            url = getattr(settings, name)
            if url and not is_task(url):
                try:
                    check_literal(url, allows_private=self.allows_private)
                except AddressError as error:
                    raise _refused(name, f"{error}") from None

    def check_task(self, settings: JobSettings) -> None:
        """Raise `RefusedError` (400) if the endpoint of `settings` is a task that this server does not send."""
        fault = None if settings.task is None else self.tasks.fault(settings.task)
        if fault is not None:
            raise _refused("endpoint_url", fault)

    def check_environment(self, settings: JobSettings, project: str) -> None:
        """Raise `RefusedError` (400) if a job of `project` may not have the environment of `settings`, or if requests
        may not go to its address."""
        if settings.task is not None or not settings.environment_id:
            return
        try:
            environment = environment_of(self.environments, settings.environment_id, project)
            check_literal(environment.url_of(settings.endpoint_url), allows_private=self.allows_private)
        except (UnknownEnvironmentError, AddressError) as error:
            raise _refused("environment_id", f"{error}") from None


def _refused(field: str, reason: str) -> RefusedError:
    return RefusedError(400, "The request is not valid.", {field: reason})
