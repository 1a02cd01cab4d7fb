"""What server and worker exchange of one attempt: the request to send, and what has come of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sluice_agent.jobs.attempts.answers import ErrorClass


class Spec(BaseModel):
    """The requests of an attempt, as the server answers `start`. Headers and body are not printed: they hold secrets.

    Fields that a newer server adds are ignored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str
    attempt: Annotated[int, Field(ge=1)]
    max_attempts: Annotated[int, Field(ge=1)]
    url: str
    fallback_url: str | None = None
    headers: Annotated[dict[str, str], Field(repr=False)] = {}
    secrets: Annotated[dict[str, str], Field(repr=False)] = {}
    """By name, for headers of the request to `url` alone: the fallback gets none."""
    body: Annotated[str, Field(repr=False)] = "{}"
    """JSON."""
    timeout_secs: Annotated[float, Field(gt=0)]
    """For all requests of the attempt together."""
    allows_private: bool = False
    """Whether the requests may go to private addresses."""
    debug_mode: bool = False
    """Whether the heads of requests and answers are reported."""


class Exchange(BaseModel):
    """The heads of a request and of its answer. Secrets are replaced."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: str
    request_headers: dict[str, str]
    status_code: Annotated[int | None, Field(ge=0, le=999)] = None
    """None: there was no answer."""
    answer_headers: dict[str, str] | None = None


class Trace(BaseModel):
    """Times of an attempt in milliseconds, at least 1 where there is one. What did not end counts as far as it went."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    dns_ms: Annotated[int, Field(ge=0)] = 0
    """For the look-up of the name."""
    connect_ms: Annotated[int, Field(ge=0)] = 0
    """For the connection over TCP."""
    tls_ms: Annotated[int, Field(ge=0)] = 0
    """For TLS, after the connection."""
    ttfb_ms: Annotated[int, Field(ge=0)] = 0
    """From then to the headers of the answer, with TLS."""
    transfer_ms: Annotated[int, Field(ge=0)] = 0
    dispatch_ms: Annotated[int, Field(ge=0)] = 0
    """The sum of `connect_ms`, `ttfb_ms` and `transfer_ms`."""
    total_ms: Annotated[int, Field(ge=0)] = 0
    """From the beginning to the end, with look-ups and the fallback."""
    exchanges: tuple[Exchange, ...] = ()
    """With `debug_mode`: the requests, in their order."""

    def to_json(self) -> str:
        """Return the trace as it is kept."""
        return self.model_dump_json(exclude_none=True, exclude=None if self.exchanges else {"exchanges"})


class Outcome(BaseModel):
    """What has come of an attempt, as a worker sends it with `finish`. Without `error_class` it is a success."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status_code: Annotated[int | None, Field(ge=0, le=999)] = None
    """Of the endpoint's answer; of the fallback's, where that is a success."""
    error_class: ErrorClass | None = None
    error: str | None = None
    result: Annotated[str | None, Field(repr=False)] = None
    """JSON."""
    is_result_cut: bool = False
    """True if the answer was longer than what is read of it: the result is a string with its beginning."""
    retry_after_secs: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    ends_run: bool = False
    """True if the endpoint has forbidden another attempt, by `X-Sluice-No-Retry: true`."""
    used_fallback: bool = False
    was_stopped: bool = False
    """True if the worker has broken the request off as it ended: nothing follows about the endpoint."""
    trace: Trace = Trace()
