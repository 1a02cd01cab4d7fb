"""The settings of a job: what a client may give, with limits and defaults, and what a version keeps.

Lengths are counted in bytes of UTF-8. An empty text, list or object, and 0, are as good as absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from annotated_types import GroupedMetadata, MaxLen, MinLen
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from typing_extensions import TypedDict

from sluice_agent.jobs import cron
from sluice_agent.jobs.celery_target import CeleryTarget, arguments_in, is_task, parse_target, target_of
from sluice_agent.jobs.json_text import canonical, parse
from sluice_agent.jobs.payload_schema import compiled, faults
from sluice_agent.outbound.addresses import parse_url

_LONGEST = 2**31 - 1  # seconds, and other numbers that a row holds
_LONGEST_GRACE = 30 * 86_400  # seconds

_NO_NUL = r"^[^\x00]*$"
_ONE_LINE = r"^[^\x00-\x1f\x7f]*$"

ATTEMPTS = 3
"""Attempts of a run, where none are set."""

ATTEMPTS_OF_TASK = 1
"""The same for a Celery task, which is never sent twice unless that was asked for."""

RetryStrategy = Literal["", "exponential", "linear", "fixed", "custom"]
VersionPolicy = Literal["pin", "latest", "minor"]
OverlapPolicy = Literal["", "allow", "skip", "cancel_running"]


@dataclass(frozen=True, slots=True)
class Text(GroupedMetadata):
    """Marks a text of `least` to `most` bytes, which fulfils `pattern`."""

    most: int
    least: int = 0
    pattern: str = _NO_NUL

    def __iter__(self) -> Iterator[object]:
        """Yield the rules that pydantic applies."""
        yield MinLen(self.least)
        yield MaxLen(self.most)
        yield from StringConstraints(pattern=self.pattern)
        yield AfterValidator(self._check)

    def _check(self, text: str) -> str:
        if len(text.encode()) > self.most:
            raise ValueError(f"has more than {self.most} bytes")
        return text


def line(most: int, least: int = 0) -> Text:
    """Return the mark of a text without control characters."""
    return Text(most, least, _ONE_LINE)


def _or_default(default: int) -> Any:
    return BeforeValidator(lambda value: default if value == 0 and not isinstance(value, bool) else value)


def _check_url(url: str) -> str:
    if url:
        parse_url(url)
    return url


def _check_endpoint(url: str) -> str:
    if is_task(url):
        parse_target(url)
        return url
    return _check_url(url)


def _check_zone(name: str) -> str:
    if name:
        cron.parse_zone(name)
    return name


def _check_schema(schema: dict[str, Any]) -> dict[str, Any]:
    if schema:
        compiled(schema)
        canonical(schema)
    return schema


def _check_json(value: dict[str, Any]) -> dict[str, Any]:
    canonical(value)
    return value


class NamedLimit(TypedDict):
    """At most `max` runs start within `window_secs`, of all jobs of the project that have a limit of this name."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc] # pydantic's way

    name: Annotated[str, line(128, least=1)]
    max: Annotated[int, Field(ge=1, le=_LONGEST)]
    window_secs: Annotated[int, Field(ge=1, le=_LONGEST)]


Url = Annotated[str, line(2048), AfterValidator(_check_url)]
Endpoint = Annotated[str, line(2048, least=1), AfterValidator(_check_endpoint)]
Count = Annotated[int, Field(ge=0, le=_LONGEST)]
Cron = Annotated[str, line(1000)]
Tags = Annotated[dict[Annotated[str, line(64, least=1)], Annotated[str, line(256)]], Field(max_length=20)]
Metadata = Annotated[dict[Annotated[str, line(128, least=1)], Annotated[str, Text(1024)]], Field(max_length=50)]


class JobSettings(BaseModel):
    """What an update can change; of each version all of it is kept."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    group_id: Annotated[str, line(255)] = ""
    name: Annotated[str, line(255, least=1)]
    slug: Annotated[str, line(128, least=1)]
    description: Annotated[str, Text(2000)] = ""
    cron: Cron = ""
    payload_schema: Annotated[dict[str, Any], AfterValidator(_check_schema)] = {}
    tags: Tags = {}
    endpoint_url: Endpoint
    fallback_endpoint_url: Url = ""
    max_attempts: Annotated[int, Field(ge=0, le=100)] = ATTEMPTS
    """0 is as good as absent: `ATTEMPTS`, or `ATTEMPTS_OF_TASK`."""
    timeout_secs: Annotated[int, Field(ge=0, le=86_400), _or_default(300)] = 300
    max_concurrency: Count = 0
    execution_window_cron: Cron = ""
    timezone: Annotated[str, line(64), AfterValidator(_check_zone)] = ""
    rate_limit_max: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    rate_limit_window_secs: Count = 0
    max_concurrency_per_key: Count = 0
    rate_limit_keys: Annotated[list[NamedLimit], Field(max_length=20)] = []
    default_run_metadata: Metadata = {}
    dedup_window_secs: Count = 0
    webhook_url: Url = ""
    webhook_secret: Annotated[str, line(256)] = ""
    run_ttl_secs: Count = 0
    retry_strategy: RetryStrategy = ""
    retry_delays_secs: Annotated[list[Annotated[int, Field(ge=1, le=_LONGEST)]], Field(max_length=100)] = []
    environment_id: Annotated[str, line(255)] = ""
    version_policy: VersionPolicy = "pin"
    backwards_compatible: bool = False
    cron_payload: Annotated[dict[str, Any], AfterValidator(_check_json)] = {}
    cron_overlap_policy: OverlapPolicy = ""
    cron_grace_secs: Annotated[int, Field(ge=0, le=_LONGEST_GRACE)] = 0

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """A field that is null is absent, and without attempts they are those of the endpoint's kind."""
        if not isinstance(given, dict):
            return given
        fields = {name: value for name, value in given.items() if value is not None}
        attempts, url = fields.get("max_attempts", 0), fields.get("endpoint_url")
        if attempts == 0 and not isinstance(attempts, bool):
            fields["max_attempts"] = ATTEMPTS_OF_TASK if isinstance(url, str) and is_task(url) else ATTEMPTS
        return fields

    @model_validator(mode="after")
    def _check_expressions(self) -> JobSettings:
        for name in ("cron", "execution_window_cron"):
            expression = getattr(self, name)
            if expression:
                try:
                    cron.parse(expression, self.timezone or "UTC")
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
        return self

    @model_validator(mode="after")
    def _check_cron_payload(self) -> JobSettings:
        """The payload of cron's runs fits the schema, and makes a call of the task. An empty one is not checked against
        the schema, as cron has no other by default."""
        if self.task is not None:
            try:
                arguments_in(self.task, canonical(self.cron_payload))
            except ValueError as error:
                raise ValueError(f"cron_payload: {error}") from None
        if self.cron_payload and self.payload_schema:
            wrong = faults(compiled(self.payload_schema), self.cron_payload)
            if wrong:
                raise ValueError(f"cron_payload: does not fit payload_schema: {'; '.join(wrong)}")
        return self

    @model_validator(mode="after")
    def _check_fallback(self) -> JobSettings:
        if self.fallback_endpoint_url and is_task(self.endpoint_url):
            raise ValueError("fallback_endpoint_url: a Celery task has none")
        return self

    @property
    def task(self) -> CeleryTarget | None:
        """The Celery task that is the endpoint; None if that is one of HTTP."""
        return target_of(self.endpoint_url)

    @property
    def circuit(self) -> str:
        """What its circuit is of: the endpoint, and the environment that may replace its address."""
        return f"{self.environment_id} {self.endpoint_url}" if self.environment_id else self.endpoint_url

    def to_json(self) -> str:
        """Return the settings as they are stored: without those that have their default."""
        fields = type(self).model_fields
        return canonical({name: value for name, value in self if value != fields[name].default})


@lru_cache(maxsize=1024)
def settings_from(stored: str) -> JobSettings:
    """Return the settings in a text of `JobSettings.to_json`. They are not checked again: limits may have changed."""
    return JobSettings.model_construct(**parse(stored.encode()))
