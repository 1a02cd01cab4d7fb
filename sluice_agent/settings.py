"""Every ``SLUICE_*`` and ``ACKLY_*`` variable: its default, its unit, its bounds, and the reason for them.

No pydantic: it would take every process of an app 30 ms and 4 MB.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args
from uuid import UUID

from sluice_agent.errors import ConfigError
from sluice_agent.setting_values import (
    Address,
    IngestKey,
    MalformedError,
    Names,
    Number,
    OneOf,
    Secret,
    directory,
    flag,
    host_port,
    uuid,
)

PREFIX = "SLUICE_"
DEFAULT_API_URL = "https://sluice.sh/api"
DEFAULT_ACKLY_URL = "https://www.ackly.dev/api/ingest"
NO_CONNECTION = UUID(int=0)
_DAY = 86_400  # seconds

EndState = Literal["completed", "failed", "cancelled"]
END_STATES: tuple[EndState, ...] = get_args(EndState)
_Value = TypeVar("_Value")


def setting(default: _Value, parse: Callable[[Any], Any], *, variable: str = "") -> _Value:
    """Return the field of a setting, whose value `parse` returns. `variable` is its variable if that has another name.

    `parse` is given a text of the environment, or any object of a caller, and raises `MalformedError`. None is allowed
    where it is the default.
    """
    return field(default=default, metadata={"parse": parse, "variable": variable})


@dataclass(frozen=True, init=False)
class Settings:
    """The agent's settings, read from its environment: field ``api_key`` is the variable ``SLUICE_API_KEY``, and so on.

    Those of the second destination, Ackly, begin with ``ACKLY_``: ``ackly_url`` is the variable ``ACKLY_URL``. An
    argument of the same name overrides a variable. An empty variable counts as unset.
    Raises `ConfigError`, which names the variable, its value (never a key) and the values that are allowed.
    """

    api_key: Secret | None = setting(
        None, IngestKey("a key: it begins with sk_ and has no spaces", begins_with_sk=True)
    )
    """The ingest key, ``sk_…``. Without one the agent is off."""

    connection_id: UUID | None = setting(None, uuid)
    """The connection that the key belongs to, a UUID. Required with a key."""

    api_url: str = setting(DEFAULT_API_URL, Address(DEFAULT_API_URL))
    """Events are POSTed to ``{api_url}/ingest``."""

    base_url: str | None = setting(None, Address(DEFAULT_API_URL))
    """The vendor's older name for the endpoint, without ``/api``. Read only if ``api_url`` is not set."""

    enabled: bool = setting(True, flag)
    """``0`` switches the agent off, regardless of other settings."""

    state_dir: Path | None = setting(None, directory)
    """The directory of the journal; ``~`` is the user's home. Unset: the first writable one of the XDG state directory,
    the temporary directory and shared memory."""

    ship: Literal["auto", "never"] = setting("auto", OneOf("auto", "never"))
    """``never``: this process only writes the journal; ``sluice-agent ship`` or another process sends it."""

    flush_interval: float = setting(1.0, Number(float, 0.05, 60))
    """Seconds between two looks at the journal, and so the longest that an event waits for its batch."""

    batch_size: int = setting(500, Number(int, 1, 10_000))
    """The most events in one request."""

    batch_bytes: int = setting(1_000_000, Number(int, 1_000, 50_000_000))
    """The most bytes in one request's body, before compression. An endpoint's 413 lowers it until shipping ends."""

    journal_max_bytes: int = setting(268_435_456, Number(int, 1_000_000))
    """The most bytes that the journal's directory takes; beyond it the oldest events are dropped, and counted."""

    daily_budget: int | None = setting(None, Number(int, 1))
    """The most events that are sent to Sluice in a UTC day from this journal; unset: any number. As it runs out,
    heartbeats thin out first, then queue snapshots, then repeated progress. Job transitions wait for the next day."""

    heartbeat_interval: float = setting(5.0, Number(float, 0, _DAY))
    """Seconds between two heartbeats of a worker; ``0``: none. Sluice shows a worker offline after 6 s of silence."""

    queues: bool = setting(False, flag)
    """``1``: a worker samples the depth of queues, if the broker elects it among all agents. A sidecar does so without
    this setting."""

    queue_interval: float = setting(10.0, Number(float, 0, _DAY))
    """Seconds between two samples of a queue's depth; ``0``: none."""

    ignore_tasks: tuple[str, ...] = setting((), Names(may_be_empty=True))
    """Names of tasks that are not captured, comma-separated; ``*`` and ``?`` match as in file names."""

    capture_args: bool = setting(False, flag)
    """``1``: arguments and results are sent, after redaction."""

    message_header: bool = setting(True, flag)
    """``0``: messages that are published here do not get the header ``sluice_agent``. Their workers then report
    `queued` once more when they receive a job, and do not know when it was created."""

    direct_dispatch: bool = setting(True, flag)
    """``0``: Celery's dispatcher of signals is called for each job. Else it is not called for plain jobs where nothing
    else receives a signal, which costs less, but not for programs that replace the dispatcher too."""

    health_addr: str | None = setting(None, host_port)
    """``[host]:port`` at which a sidecar answers probes: ``/healthz``, ``/readyz`` and ``/metrics``."""

    log_level: Literal["debug", "info", "warning", "error", "critical"] = setting(
        "info", OneOf("debug", "info", "warning", "error", "critical")
    )
    """The lowest level that the logger ``sluice_agent`` passes on."""

    ackly_ingest_key: Secret | None = setting(
        None,
        IngestKey(
            "the ingest key of an Ackly source: it has no spaces, and does not begin with sk_", begins_with_sk=False
        ),
        variable="ACKLY_INGEST_KEY",
    )
    """The ingest key of an Ackly source. With it, jobs' ends are sent to Ackly too; without ``api_key``, only there."""

    ackly_url: str = setting(DEFAULT_ACKLY_URL, Address(DEFAULT_ACKLY_URL), variable="ACKLY_URL")
    """Ackly's events are POSTed here, one per request."""

    ackly_tasks: tuple[str, ...] = setting(("*",), Names(), variable="ACKLY_TASKS")
    """Names of the tasks whose ends are sent to Ackly, comma-separated; ``*`` and ``?`` match as in file names."""

    ackly_states: tuple[EndState, ...] = setting(END_STATES, Names(OneOf(*END_STATES)), variable="ACKLY_STATES")
    """The ends of jobs that are sent to Ackly, comma-separated: ``completed``, ``failed``, ``cancelled``."""

    def __init__(self, **values: Any) -> None:
        environment = {name.upper(): text for name, text in os.environ.items() if text}
        names = {_variable(known): known.name for known in fields(self)}
        given = {name: environment[variable] for variable, name in names.items() if variable in environment} | values
        if unknown := given.keys() - names.values():
            raise TypeError(f"there is no setting {', '.join(sorted(unknown))}")
        parsed, faults = {}, []
        for known in fields(self):
            try:
                parsed[known.name] = _parsed(known, given[known.name]) if known.name in given else known.default
            except MalformedError as error:
                faults.append(_fault(_variable(known), error.value, error.rule))
        if faults:
            raise ConfigError("; ".join(faults))
        if parsed["base_url"] is not None and "api_url" not in given:
            parsed["api_url"] = f"{parsed['base_url']}/api"
        vars(self).update(parsed)
        if self.active and self.connection_id is None and self.api_key is not None:
            raise ConfigError(
                f"{PREFIX}CONNECTION_ID is not set: with {PREFIX}API_KEY it must hold the UUID of the connection "
                "that the key belongs to"
            )

    @property
    def active(self) -> bool:
        """True if the agent captures: it is enabled, with a key, or with a connection if another process ships."""
        return self.enabled and (self.has_key or (self.ship == "never" and self.connection_id is not None))

    @property
    def off_reason(self) -> str:
        """The reason why the agent is off, where it is not `active`."""
        return f"{PREFIX}API_KEY is not set" if self.enabled else f"{PREFIX}ENABLED is 0"

    @property
    def has_key(self) -> bool:
        """True if the key of a destination is set."""
        keys = (known.name for known in fields(self) if isinstance(known.metadata["parse"], IngestKey))
        return any(getattr(self, name) is not None for name in keys)

    @property
    def connection(self) -> UUID:
        """The connection in events and in the journal's name; zeros if Ackly is the only destination."""
        return self.connection_id or NO_CONNECTION

    @property
    def ingest_url(self) -> str:
        """The URL to which events are POSTed."""
        return f"{self.api_url}/ingest"


def key_text(key: Secret | None) -> str | None:
    """Return the text of a key, which must never be printed; None if it is not set."""
    return key.get_secret_value() if key is not None else None


def variables() -> dict[str, str]:
    """Return the fields of the settings by the names of their variables."""
    return {_variable(known): known.name for known in fields(Settings)}


def _variable(known: Field[Any]) -> str:
    variable: str = known.metadata["variable"]
    return variable or f"{PREFIX}{known.name.upper()}"


def _parsed(known: Field[Any], value: Any) -> Any:
    if value is None and known.default is None:
        return None
    # The file of a secret ends with a newline.
    return known.metadata["parse"](value.strip() if isinstance(value, str) else value)


def _fault(variable: str, value: Any, rule: str) -> str:
    # A key may have been put into the wrong variable, and an address may hold a password.
    is_secret = variable.endswith("_KEY") or "sk_" in str(value) or "@" in str(value)
    return f"{variable} is malformed: {'its value' if is_secret else repr(value)} {rule}"
