"""What a destination is: one object with everything that is particular to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.responses import Response, Verdict
from sluice_agent.transport.journal.line_selector import JobFilter


class UnsendableError(ValueError):
    """The destination's format can't hold an event."""


@dataclass(frozen=True, slots=True)
class Request:
    """The body of a POST, and the headers that are its own."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """The most events and bytes that are read for one request, and the most events a day (UTC); None: any number."""

    max_lines: int
    max_bytes: int
    daily_budget: int | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """An endpoint that events are sent to. Its cursor, its lock and its accounts have its `name`.

    The functions of the settings return what they have for this destination: `key`, which is sent as a bearer token,
    None if it is not set; `url`, the address of every POST; `limits`; `job_filter`, which selects the jobs that it
    takes, None: all lines. The field of the settings that holds a key is parsed by an `IngestKey`.
    """

    name: str
    key_variable: str
    """The environment variable with the key, for messages."""
    url_variable: str
    """The environment variable with the address, for messages."""
    key: Callable[[Settings], str | None]
    url: Callable[[Settings], str]
    limits: Callable[[Settings], Limits]
    job_filter: Callable[[Settings], JobFilter | None]
    encode: Callable[[list[bytes]], Request]
    """Makes the request for some lines of the journal. Raises `UnsendableError`."""
    classify: Callable[[Response, int, datetime], Verdict]
    """Returns the verdict of a response to so many events, at a time (with a time zone)."""
    probe: bytes
    """The body of a request that verifies the key, and delivers nothing: `sluice-agent doctor` sends it."""
    deduplicates: bool
    """Whether a batch may be sent again. If not, `limits` allow one event a request."""
    needs_connection: bool
    """Whether a journal for this destination needs `SLUICE_CONNECTION_ID`."""
    confirms_refusals: bool = False
    """Whether an answer to `probe` shows that it is the endpoint that has refused a batch, not a firewall before it."""
