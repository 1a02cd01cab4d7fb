"""A decoder for batches in which every event is valid: two calls of C for all events, where a validator needs many.

Its types are made from the JSON schema of an event, so each limit has one definition. It gives no reasons: what it
refuses is for a parser that does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal

import msgspec

from sluice_agent.model import WireEvent

_DEPTH = 8  # levels of lists and objects in an open object; each doubles the number of msgspec's types
_TEXT_OR_NUMBER: dict[str, type] = {"string": str, "integer": int, "number": float}
_LIMITS = {"minLength": "min_length", "maxLength": "max_length", "minimum": "ge", "maximum": "le"}


def event_decoder(
    schema: Mapping[str, Any], most: int, without_pattern: Collection[str]
) -> Callable[[bytes], list[WireEvent]]:
    """Return a function that decodes a body ``{"events": [ … ]}`` of at most `most` events, all of which are valid.

    It returns them with their fields in the order of `schema`, and raises `ValueError` for any other body: one that is
    not JSON in UTF-8, or has an event that does not match `schema`, a number that is too large for a float, or more
    levels in an open object than is usual. The patterns of the fields in `without_pattern` are not checked.

    `schema` is a JSON schema without references. Raises `ValueError` if it has a keyword that is not known here.
    """
    events_type = _limited(_list_of(_type_of(schema, without_pattern)), max_length=most)
    batch_type = msgspec.defstruct("Batch", [("events", events_type)], forbid_unknown_fields=True)
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(batch_type)

    def decode(body: bytes) -> list[WireEvent]:
        try:
            events: list[WireEvent] = msgspec.to_builtins(decoder.decode(body).events)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(str(error)) from None
        return events

    return decode


def _type_of(schema: Mapping[str, Any], without_pattern: Collection[str]) -> Any:
    """Return the type of the values that match `schema`. One of an object with named fields is a struct: unlike a
    TypedDict, it refuses other fields."""
    match {keyword: value for keyword, value in schema.items() if keyword != "title"}:
        case {"type": "string", "enum": values, **rest} if not rest:
            literal: Any = Literal
            return literal[tuple(values)]
        case {"type": "array", "items": items, **rest} if not rest:
            return _list_of(_type_of(items, without_pattern))
        case {"type": "object", "additionalProperties": True, **rest} if not rest:
            return _object_of(_value_type())
        case {
            "type": "object",
            "additionalProperties": False,
            "properties": properties,
            "required": required,
            **rest,
        } if not rest:
            fields = [_field(name, field, name in required, without_pattern) for name, field in properties.items()]
            return msgspec.defstruct("Object", fields, forbid_unknown_fields=True, kw_only=True)
        case {"type": "string" | "integer" | "number" as name, **constraints} if constraints.keys() <= _LIMITS.keys():
            limits = {_LIMITS[keyword]: value for keyword, value in constraints.items()}
            return _limited(_TEXT_OR_NUMBER[name], **limits)
    raise ValueError(f"the schema has unknown keywords: {schema}")


def _field(
    name: str, schema: Mapping[str, Any], is_required: bool, without_pattern: Collection[str]
) -> tuple[str, Any] | tuple[str, Any, Any]:
    """Return the field of a struct. An optional one is absent, and never null."""
    if name in without_pattern:
        schema = {keyword: value for keyword, value in schema.items() if keyword != "pattern"}
    field_type = _type_of(schema, without_pattern)
    return (name, field_type) if is_required else (name, field_type | msgspec.UnsetType, msgspec.UNSET)


def _value_type() -> Any:
    """Return the type of a JSON value of at most `_DEPTH` levels: one without a limit is too deep to be encoded."""
    scalar: Any = str | int | float | bool | None
    value = scalar
    for _ in range(_DEPTH):
        value = scalar | _list_of(value) | _object_of(value)
    return value


def _limited(kind: Any, **limits: Any) -> Any:
    return Annotated[kind, msgspec.Meta(**limits)]


def _list_of(item: Any) -> Any:
    return list[item]


def _object_of(value: Any) -> Any:
    return dict[str, value]
