"""The destinations: which there are, with their environment variables, and the interface that the shipper uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.http import noop
from sluice_agent.transport.delivery.responses import Verdict
from sluice_agent.transport.journal.selector import JobFilter


class Destination(Protocol):
    """An endpoint that events are sent to. Its cursor has its name; `job_filter` selects the jobs that it takes.

    A destination that does not deduplicate is sent one event at a time.
    """

    name: str
    deduplicates: bool
    last_response: str
    job_filter: JobFilter | None

    def send(self, lines: list[bytes], on_sending: Callable[[], None] = noop) -> Verdict:
        """Send the events in `lines`, and return the verdict. Raises nothing itself.

        `on_sending` is called just before the request is sent: until then nothing can have arrived.
        """

    def close(self) -> None:
        """Close the connection that `send` keeps open."""


@dataclass(frozen=True, slots=True)
class DestinationSpec:
    """Description of a destination: its name, its environment variables, and what it takes from the settings.

    `key` returns the key in the settings, None if it is not set. Without `needs_connection`, a journal for this
    destination needs no `SLUICE_CONNECTION_ID`.
    """

    name: str
    key_variable: str
    url_variable: str
    key: Callable[[Settings], str | None]
    url: Callable[[Settings], str]
    job_filter: Callable[[Settings], JobFilter | None]
    deduplicates: bool
    needs_connection: bool


def _text(key: SecretStr | None) -> str | None:
    return key.get_secret_value() if key is not None else None


SLUICE = DestinationSpec(
    name="sluice",
    key_variable="SLUICE_API_KEY",
    url_variable="SLUICE_API_URL",
    key=lambda settings: _text(settings.api_key),
    url=lambda settings: settings.ingest_url,
    job_filter=lambda _: None,
    deduplicates=True,
    needs_connection=True,
)
ACKLY = DestinationSpec(
    name="ackly",
    key_variable="ACKLY_INGEST_KEY",
    url_variable="ACKLY_URL",
    key=lambda settings: _text(settings.ackly_ingest_key),
    url=lambda settings: settings.ackly_url,
    job_filter=lambda settings: JobFilter(settings.ackly_states, settings.ackly_tasks),
    deduplicates=False,
    needs_connection=False,
)
DESTINATIONS = (SLUICE, ACKLY)


def configured(settings: Settings) -> tuple[DestinationSpec, ...]:
    """Return the destinations whose keys are set; `stats()` reports on the first one.

    Without any key it is Sluice alone: another process ships there.
    """
    return tuple(spec for spec in DESTINATIONS if spec.key(settings) is not None) or (SLUICE,)


def job_filters(settings: Settings) -> dict[str, JobFilter | None]:
    """Return the job filters of the configured destinations, by name and in their order."""
    return {spec.name: spec.job_filter(settings) for spec in configured(settings)}
