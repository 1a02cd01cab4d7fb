"""Every ``SLUICE_*`` and ``ACKLY_*`` variable: its default, its unit, its bounds, and the reason for them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from sluice_agent.errors import ConfigError

PREFIX = "SLUICE_"
DEFAULT_API_URL = "https://sluice.sh/api"
DEFAULT_ACKLY_URL = "https://www.ackly.dev/api/ingest"
NO_CONNECTION = UUID(int=0)
_ADDRESS = re.compile(r"(?:\[[^\s/\[\]]+\]|[^\s/\[\]]*):([0-9]{1,5})")

EndState = Literal["completed", "failed", "cancelled"]
END_STATES: tuple[EndState, ...] = get_args(EndState)
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
_IS_INGEST_KEY = object()
IngestKey = Annotated[SecretStr | None, _IS_INGEST_KEY]
"""The key of a destination: the agent is on if one of them is set."""


def key_text(key: SecretStr | None) -> str | None:
    """Return the text of a key, which must never be printed; None if it is not set."""
    return key.get_secret_value() if key is not None else None


class Settings(BaseModel):
    """The agent's settings, read from its environment: field ``api_key`` is the variable ``SLUICE_API_KEY``, and so on.

    Those of the second destination, Ackly, begin with ``ACKLY_``: ``ackly_url`` is the variable ``ACKLY_URL``. An
    argument of the same name overrides a variable. An empty variable counts as unset.
    Raises `ConfigError`, which names the variable, its value (never a key) and the values that are allowed.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, validate_by_name=True, validate_by_alias=False)

    api_key: IngestKey = None
    """The ingest key, ``sk_…``. Without one the agent is off."""

    connection_id: UUID | None = None
    """The connection that the key belongs to, a UUID. Required with a key."""

    api_url: str = DEFAULT_API_URL
    """Events are POSTed to ``{api_url}/ingest``."""

    base_url: str | None = None
    """The vendor's older name for the endpoint, without ``/api``. Read only if ``api_url`` is not set."""

    enabled: bool = True
    """``0`` switches the agent off, regardless of other settings."""

    state_dir: Path | None = None
    """The directory of the journal; ``~`` is the user's home. Unset: the first writable one of the XDG state directory,
    the temporary directory and shared memory."""

    ship: Literal["auto", "never"] = "auto"
    """``never``: this process only writes the journal; ``sluice-agent ship`` or another process sends it."""

    flush_interval: Annotated[float, Field(ge=0.05, le=60, allow_inf_nan=False)] = 1.0
    """Seconds between two looks at the journal, and so the longest that an event waits for its batch."""

    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    """The most events in one request."""

    batch_bytes: Annotated[int, Field(ge=1_000, le=50_000_000)] = 1_000_000
    """The most bytes in one request's body, before compression. An endpoint's 413 lowers it until shipping ends."""

    journal_max_bytes: Annotated[int, Field(ge=1_000_000)] = 268_435_456
    """The most bytes that the journal's directory takes; beyond it the oldest events are dropped, and counted."""

    daily_budget: Annotated[int | None, Field(ge=1)] = None
    """The most events that are sent to Sluice in a UTC day from this journal; unset: any number. As it runs out,
    heartbeats thin out first, then queue snapshots, then repeated progress. Job transitions wait for the next day."""

    heartbeat_interval: Seconds = 5.0
    """Seconds between two heartbeats of a worker; ``0``: none. Sluice shows a worker offline after 6 s of silence."""

    queues: bool = False
    """``1``: a worker samples the depth of queues, if the broker elects it among all agents. A sidecar does so without
    this setting."""

    queue_interval: Seconds = 10.0
    """Seconds between two samples of a queue's depth; ``0``: none."""

    ignore_tasks: tuple[str, ...] = ()
    """Names of tasks that are not captured, comma-separated; ``*`` and ``?`` match as in file names."""

    capture_args: bool = False
    """``1``: arguments and results are sent, after redaction."""

    message_header: bool = True
    """``0``: messages that are published here do not get the header ``sluice_agent``. Their workers then report
    `queued` once more when they receive a job, and do not know when it was created."""

    direct_dispatch: bool = True
    """``0``: Celery's dispatcher of signals is called for each job. Else it is not called for plain jobs where nothing
    else receives a signal, which costs less, but not for programs that replace the dispatcher too."""

    health_addr: str | None = None
    """``[host]:port`` at which a sidecar answers probes: ``/healthz``, ``/readyz`` and ``/metrics``."""

    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    """The lowest level that the logger ``sluice_agent`` passes on."""

    ackly_ingest_key: Annotated[IngestKey, Field(validation_alias="ACKLY_INGEST_KEY")] = None
    """The ingest key of an Ackly source. With it, jobs' ends are sent to Ackly too; without ``api_key``, only there."""

    ackly_url: Annotated[str, Field(validation_alias="ACKLY_URL")] = DEFAULT_ACKLY_URL
    """Ackly's events are POSTed here, one per request."""

    ackly_tasks: Annotated[tuple[str, ...], Field(validation_alias="ACKLY_TASKS")] = ("*",)
    """Names of the tasks whose ends are sent to Ackly, comma-separated; ``*`` and ``?`` match as in file names."""

    ackly_states: Annotated[tuple[EndState, ...], Field(validation_alias="ACKLY_STATES")] = END_STATES
    """The ends of jobs that are sent to Ackly, comma-separated: ``completed``, ``failed``, ``cancelled``."""

    def __init__(self, **values: Any) -> None:
        variables = {name: _variable(name, field) for name, field in type(self).model_fields.items()}
        environment = {name.upper(): value for name, value in os.environ.items() if value}
        found = {name: environment[variable] for name, variable in variables.items() if variable in environment}
        try:
            super().__init__(**{**found, **values})
        except ValidationError as error:
            raise ConfigError(_error_text(error, variables)) from None

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
        keys = (name for name, field in type(self).model_fields.items() if _IS_INGEST_KEY in field.metadata)
        return any(getattr(self, name) is not None for name in keys)

    @property
    def connection(self) -> UUID:
        """The connection in events and in the journal's name; zeros if Ackly is the only destination."""
        return self.connection_id or NO_CONNECTION

    @property
    def ingest_url(self) -> str:
        """The URL to which events are POSTed."""
        return f"{self.api_url}/ingest"

    @field_validator("*", mode="before")
    @classmethod
    def _strip(cls, value: Any) -> Any:
        return value.strip() if isinstance(value, str) else value  # the file of a secret ends with a newline

    @field_validator("state_dir")
    @classmethod
    def _make_absolute(cls, directory: Path | None) -> Path | None:
        try:
            return directory and directory.expanduser().absolute()  # the process may change its working directory
        except RuntimeError:
            raise ValueError("a directory: the home of that user is unknown") from None
        except OSError:
            raise ValueError("an absolute path: the current directory no longer exists") from None

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            text = key.get_secret_value()
            if not text.startswith("sk_") or not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError("a key: it begins with sk_ and has no spaces")
        return key

    @field_validator("ackly_ingest_key")
    @classmethod
    def _check_ackly_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            text = key.get_secret_value()
            if not text.isascii() or not text.isprintable() or " " in text or text.startswith("sk_"):
                raise ValueError("the ingest key of an Ackly source: it has no spaces, and does not begin with sk_")
        return key

    @field_validator("api_url", "base_url", "ackly_url")
    @classmethod
    def _check_url(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is None:
            return None
        example = DEFAULT_ACKLY_URL if info.field_name == "ackly_url" else DEFAULT_API_URL
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError(f"an address such as {example}") from None
        host = parts.hostname
        if parts.scheme not in ("http", "https") or not host or ".." in host or parts.query or parts.fragment:
            raise ValueError(f"an address such as {example}")
        if not url.isprintable() or " " in url:
            raise ValueError(f"an address such as {example}, without spaces")
        if parts.username is not None:
            raise ValueError(f"an address such as {example}, without user and password: each request carries the key")
        try:
            _ = parts.port
        except ValueError:
            raise ValueError("an address with a port from 0 to 65535") from None
        return url.rstrip("/")

    @field_validator("ignore_tasks", "ackly_tasks", "ackly_states", mode="before")
    @classmethod
    def _split_names(cls, names: Any, info: ValidationInfo) -> Any:
        if not isinstance(names, str):
            return names
        parsed = tuple(name.strip() for name in names.split(",") if name.strip())
        if not parsed and info.field_name != "ignore_tasks":
            raise ValueError("at least one name, comma-separated; unset, it means all of them")
        return parsed

    @field_validator("log_level", "ship", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("health_addr")
    @classmethod
    def _check_address(cls, address: str | None) -> str | None:
        if address is None:
            return None
        match = _ADDRESS.fullmatch(address)
        if not match or not 0 < int(match[1]) < 65_536:
            raise ValueError("[host]:port, such as :8081")
        return address

    @model_validator(mode="before")
    @classmethod
    def _read_base_url(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("base_url") and not values.get("api_url"):
            return {**values, "api_url": str(values["base_url"]).rstrip("/") + "/api"}
        return values

    @model_validator(mode="after")
    def _check_connection(self) -> Settings:
        if self.active and self.connection_id is None and self.api_key is not None:
            raise ValueError(
                f"{PREFIX}CONNECTION_ID is not set: with {PREFIX}API_KEY it must hold the UUID of the connection "
                "that the key belongs to"
            )
        return self


def variables() -> dict[str, str]:
    """Return the fields of the settings by the names of their variables."""
    return {_variable(name, field): name for name, field in Settings.model_fields.items()}


def _variable(name: str, field: FieldInfo) -> str:
    return str(field.validation_alias or f"{PREFIX}{name.upper()}")


def _error_text(error: ValidationError, variables: Mapping[str, str]) -> str:
    errors = {str(detail["loc"][0]) if detail["loc"] else "": detail for detail in error.errors()}
    if "base_url" in errors:  # `api_url` was made from it
        errors.pop("api_url", None)
    return "; ".join(
        _field_error(variables.get(field, field), detail["type"], detail["msg"], detail.get("input"))
        for field, detail in errors.items()
    )


def _field_error(variable: str, kind: str, message: str, value: Any) -> str:
    message = message.removeprefix("Value error, ")
    if not variable:
        return message
    # A key may have been put into the wrong variable, and an address may hold a password.
    is_secret = variable.endswith("_KEY") or "sk_" in str(value) or "@" in str(value)
    value_text = "its value" if is_secret else repr(value)
    rule = f"must be {message}" if kind == "value_error" else message[:1].lower() + message[1:]
    return f"{variable} is malformed: {value_text} {rule.removeprefix('input ')}"
