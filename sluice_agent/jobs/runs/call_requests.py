"""The bodies of the calls that an endpoint makes about its run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sluice_agent.jobs.definitions.settings import Text, line
from sluice_agent.jobs.json_text import dumps

MOST_ANNOTATIONS = 50
"""Entries of a run's metadata."""

_LONGEST_ERROR = 16_384  # bytes
_LONGEST_LINE = 8_192
_LONGEST_DATA = 16_384


def _check_data(value: Any) -> Any:
    if value is not None and len(dumps(value).encode()) > _LONGEST_DATA:
        raise ValueError(f"has more than {_LONGEST_DATA} bytes")
    return value


class _Call(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ProgressCall(_Call):
    """How far a run is."""

    percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
    message: Annotated[str, Text(1024)] = ""


class LogCall(_Call):
    """A line of a run's log."""

    message: Annotated[str, Text(_LONGEST_LINE, least=1)]
    level: Literal["debug", "info", "warning", "error"] = "info"
    data: Annotated[Any, AfterValidator(_check_data)] = None

    @property
    def data_text(self) -> str | None:
        """The data as JSON."""
        return None if self.data is None else dumps(self.data)


class AnnotateCall(_Call):
    """What is added to a run's metadata."""

    annotations: Annotated[
        dict[Annotated[str, line(128, least=1)], Annotated[str, Text(1024)]],
        Field(min_length=1, max_length=MOST_ANNOTATIONS),
    ]


class CompleteCall(_Call):
    """The end of a run, with its result."""

    result: Any = None

    @property
    def result_text(self) -> str | None:
        """The result as JSON."""
        return None if self.result is None else dumps(self.result)


class FailCall(_Call):
    """The end of a run that has failed."""

    error: Annotated[str, Text(_LONGEST_ERROR, least=1)]


class ContinueCall(_Call):
    """A run that goes on with this one, with its payload or another one."""

    payload: Any = None


class EmptyCall(_Call):
    """A call without a body."""
