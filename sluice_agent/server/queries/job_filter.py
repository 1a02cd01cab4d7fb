"""The filters of a list of jobs: the one definition that the API, bulk actions, pages and the terminal share.

`JobFilter` reads itself from the parameters of an address or from JSON, and writes itself back; `PARAMETERS` describes
each filter. This file needs no package of the extra ``[server]``, as the terminal's commands work without it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, ClassVar, TypeVar
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from sluice_agent.model import Framework, JobState
from sluice_agent.server.queries.job_problem import JobProblem
from sluice_agent.server.timestamps import Moment

_MOST_VALUES = 100  # alternatives of one filter
_TIME = "a date, or a date and time, in UTC unless it has an offset."
_T = TypeVar("_T")


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _split(value: object) -> object:
    texts = value if isinstance(value, list) else [value]
    return [part for text in texts for part in (text.split(",") if isinstance(text, str) else [text])]


Text = Annotated[str, Field(min_length=1, max_length=1_024, pattern=r"^[^\x00]*$")]
"""A text of the contract has no NUL, which PostgreSQL refuses."""

Several = Annotated[Sequence[_T], BeforeValidator(_as_list), Field(max_length=_MOST_VALUES)]
"""One value, or a list of alternatives."""

States = Annotated[Sequence[JobState], BeforeValidator(_split), Field(max_length=_MOST_VALUES)]
"""The same, also with commas between."""


def _described(description: str, name: str | None = None) -> Any:
    return Field(alias=name, description=description)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """The filters of a list of jobs. An empty one selects all; several values of one filter are alternatives.

    Times are microseconds since 1970. The constructor takes what is valid: what comes from outside is read by `parse`
    or `from_json`, under the names of the parameters.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    states: Annotated[States, _described("A state, or several with commas between.", "state")] = ()
    names: Annotated[Several[Text], _described("The name of a task.", "name")] = ()
    queues: Annotated[Several[Text], _described("The name of a queue.", "queue")] = ()
    workers: Annotated[Several[Text], _described("The id of a worker.", "worker")] = ()
    error_classes: Annotated[Several[Text], _described("The class of the error.", "errorClass")] = ()
    error_locations: Annotated[
        Several[Text], _described("Where the error was raised: `mail/tasks.py:123 in send`.", "errorLocation")
    ] = ()
    connection_id: Annotated[UUID | None, _described("Only this connection.", "connectionId")] = None
    framework: Annotated[Framework | None, _described("Only this framework.")] = None
    root_id: Annotated[Text | None, _described("Jobs of this canvas, its root included.", "rootId")] = None
    group_id: Annotated[Text | None, _described("Jobs of this group.", "groupId")] = None
    problem: Annotated[
        JobProblem | None,
        _described(
            "Jobs that are probably stuck: active for much longer than others of their task (slow), active on a worker "
            "that is gone (lost), queued after their expires (expired), or with an ETA in the past (overdue)."
        ),
    ] = None
    created_from: Annotated[Moment | None, _described(f"Created then or later: {_TIME}", "from")] = None
    created_to: Annotated[Moment | None, _described(f"Created before: {_TIME}", "to")] = None
    search: Annotated[
        Annotated[Text, Field(max_length=500)] | None,
        _described("A part of a task's name in any case, or a whole id of a job."),
    ] = None

    @classmethod
    def parse(cls, parameters: Iterable[tuple[str, str]]) -> JobFilter:
        """Return the filter in the parameters of an address. Those that are none of its own are ignored.

        Raises `InvalidFilterError`.
        """
        values: dict[str, list[str]] = {}
        for name, value in parameters:
            if name in PARAMETERS:
                values.setdefault(name, []).append(value)
        repeated = [name for name in values if len(values[name]) > 1 and not PARAMETERS[name].is_repeatable]
        if repeated:
            raise InvalidFilterError(dict.fromkeys(repeated, "It may be given once only."))
        return cls.from_json(
            {name: texts if PARAMETERS[name].is_repeatable else texts[0] for name, texts in values.items()}
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> JobFilter:
        """Return the filter in an object of JSON. Raises `InvalidFilterError`, also for a name that is no filter's."""
        try:
            return _ADAPTER.validate_python(values)
        except ValidationError as error:
            faults = {str(fault["loc"][0]): str(fault["msg"]) for fault in reversed(error.errors())}
            raise InvalidFilterError(faults) from None

    def to_json(self) -> dict[str, Any]:
        """Return the filter as an object of JSON, without what is not filtered."""
        values: dict[str, Any] = _ADAPTER.dump_python(self, mode="json", by_alias=True)
        return {name: value for name, value in values.items() if value not in (None, [])}

    def to_parameters(self) -> list[tuple[str, str]]:
        """Return the filter as the parameters of an address."""
        return [
            (name, text)
            for name, value in self.to_json().items()
            for text in (value if isinstance(value, list) else [value])
        ]

    def within_states(self, allowed: Collection[JobState]) -> JobFilter:
        """Return the filter, with the states that are `allowed` if it names none."""
        return self if self.states else replace(self, states=list(allowed))


class InvalidFilterError(ValueError):
    """Values that are no filter, with a message for each parameter that is wrong."""

    def __init__(self, details: Mapping[str, str]) -> None:
        self.details = {name: message.removeprefix("Value error, ") for name, message in details.items()}
        super().__init__("; ".join(f"{name}: {message}" for name, message in self.details.items()))


@dataclass(frozen=True, slots=True)
class Parameter:
    """One filter as a parameter: its field, its description, and the JSON schema of its value or list of values."""

    field: str
    description: str
    schema: Mapping[str, Any]

    @property
    def is_repeatable(self) -> bool:
        """True if several values are alternatives."""
        return self.schema.get("type") == "array"

    @property
    def value_schema(self) -> Mapping[str, Any]:
        """The schema of one value."""
        schema: Mapping[str, Any] = self.schema["items"] if self.is_repeatable else self.schema
        return schema


def _parameters() -> dict[str, Parameter]:
    schema = _ADAPTER.json_schema(by_alias=True)
    names = zip(fields(JobFilter), schema["properties"].items(), strict=True)
    return {
        name: Parameter(field.name, described.pop("description"), _simplified(described, schema["$defs"]))
        for field, (name, described) in names
    }


def _simplified(schema: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a value that is given, without references."""
    schema = next((choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"), schema)
    if "$ref" in schema:
        return {name: value for name, value in definitions[schema["$ref"].rpartition("/")[2]].items() if name in _KEPT}
    items = {"items": _simplified(schema["items"], definitions)} if "items" in schema else {}
    return {name: value for name, value in schema.items() if name not in {"title", "default"}} | items


_KEPT = ("type", "enum")  # of the definition of an enumeration
_ADAPTER = TypeAdapter(JobFilter)
PARAMETERS: Mapping[str, Parameter] = _parameters()
"""The filters, by the names of their parameters."""
