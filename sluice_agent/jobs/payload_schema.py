"""The JSON Schema of a job's payload (draft 2020-12): checked when it is set, and payloads checked against it.

Schemas come from users: none is fetched, regular expressions run in linear time, and a check has a deadline.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from fractions import Fraction
from functools import partial
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Any

import re2
from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MAX_BYTES = 65_536  # of a schema, as JSON
_MAX_CONTAINERS = 1_000  # objects and arrays in a schema: its check takes a millisecond for each
_MAX_DEPTH = 50  # of a schema and of a payload: the check recurses
_MAX_FAULTS = 20
_MAX_CHARACTERS = 300  # of a fault
_MAX_SHOWN = 60  # characters of the value that is at fault
_MAX_MATCH = (
    50_000_000  # steps of a regular expression times bytes: a second, where re2 has to follow all steps at once
)
_SECONDS = 1.0  # for a payload
_IN_PLACE = {
    **dict.fromkeys(("allOf", "anyOf", "oneOf"), "list"),
    **dict.fromkeys(("else", "if", "not", "then"), "schema"),
    "dependentSchemas": "map",
}
"""Keywords whose schemas apply to the same value, by what holds the schemas."""
_BELOW = {
    **dict.fromkeys(("$defs", "definitions", "patternProperties", "properties"), "map"),
    **dict.fromkeys(("additionalProperties", "contains", "items", "propertyNames"), "schema"),
    "prefixItems": "list",
}
"""Keywords whose schemas apply to a part of the value, or to none."""
_UNSUPPORTED = ("$dynamicRef", "unevaluatedItems", "unevaluatedProperties")

_deadline: ContextVar[float] = ContextVar("_deadline")


class PayloadSchemaError(ValueError):
    """A schema that can't be used. The message is a sentence without its full stop."""


class _TooLongError(Exception):
    """The deadline of a check has passed."""


def compiled(schema: object) -> Validator:
    """Return what checks payloads against `schema`, for `faults`. Raises `PayloadSchemaError` if it can't be used."""
    if not isinstance(schema, (dict, bool)):
        raise PayloadSchemaError("a schema is an object, true or false")
    if isinstance(schema, dict):
        _check_size(schema)
        if schema.get("$schema", _DIALECT) not in (_DIALECT, f"{_DIALECT}#"):
            raise PayloadSchemaError(f"$schema must be {_DIALECT} or absent: no other draft is supported")
        schema = {keyword: value for keyword, value in schema.items() if keyword != "$schema"}
    try:
        Draft202012Validator.check_schema(schema, format_checker=None)
    except SchemaError as error:
        raise PayloadSchemaError(f"it is no schema of draft 2020-12: {_text(error)}") from None
    except RecursionError:
        raise PayloadSchemaError("its schemas are nested too deeply") from None
    _check_schemas(schema)
    return _Checks(schema)


def faults(validator: Validator, payload: object) -> list[str]:
    """Return what is wrong with a payload, at most twenty sentences without full stop; nothing if it is valid."""
    if _depth(payload) > _MAX_DEPTH:
        return [f"the payload is nested more than {_MAX_DEPTH} levels deep"]
    token = _deadline.set(time.monotonic() + _SECONDS)
    try:
        return [_text(error) for error in islice(validator.iter_errors(payload), _MAX_FAULTS)]
    except _TooLongError:
        return [
            f"the check would take longer than {_SECONDS:g} s: the schema is too complex for a payload of this size"
        ]
    except RecursionError:
        return ["the payload and its schema are nested too deeply"]
    finally:
        _deadline.reset(token)


def _text(error: ValidationError | SchemaError) -> str:
    message = error.message.replace(repr(error.instance), _cut(repr(error.instance), _MAX_SHOWN))
    path = "".join(f"/{part}" for part in error.absolute_path)
    return _cut(f"{path}: {message}" if path else message, _MAX_CHARACTERS)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


# The schema


def _check_size(schema: Mapping[str, object]) -> None:
    if _depth(schema) > _MAX_DEPTH:
        raise PayloadSchemaError(f"it is nested more than {_MAX_DEPTH} levels deep")
    if len(json.dumps(schema, ensure_ascii=False)) > _MAX_BYTES or _containers(schema) > _MAX_CONTAINERS:
        raise PayloadSchemaError(
            f"it is larger than {_MAX_BYTES // 1024} KiB, or has more than {_MAX_CONTAINERS:,} objects and arrays"
        )


def _check_schemas(root: dict[str, Any] | bool) -> None:
    """Check each schema within `root`, and that none refers to itself for the same value, which would not end."""
    resource = DRAFT202012.create_resource(root)
    resolver = Registry().with_resource("", resource).resolver()
    same_value: TopologicalSorter[int] = TopologicalSorter()
    checked: set[int] = set()
    remaining: list[object] = [root]
    while remaining:
        schema = remaining.pop()
        if not isinstance(schema, dict) or id(schema) in checked:
            continue
        checked.add(id(schema))
        _check_keywords(schema, is_root=schema is root)
        in_place = list(_subschemas(schema, _IN_PLACE))
        if "$ref" in schema:
            try:
                in_place.append(resolver.lookup(schema["$ref"]).contents)
            except (Unresolvable, ValueError):
                raise PayloadSchemaError(f"$ref {schema['$ref']!r} leads to nothing in this schema") from None
        same_value.add(id(schema), *map(id, in_place))
        remaining += [*in_place, *_subschemas(schema, _BELOW)]
    try:
        same_value.prepare()
    except CycleError:
        raise PayloadSchemaError(
            "one of its schemas refers to itself for the same value, so no check would end"
        ) from None


def _check_keywords(schema: dict[str, Any], *, is_root: bool) -> None:
    for keyword in _UNSUPPORTED:
        if keyword in schema:
            raise PayloadSchemaError(f"the keyword {keyword} is not supported")
    if not is_root and ("$id" in schema or "$schema" in schema):
        raise PayloadSchemaError("$id and $schema may only be at the root: nothing is fetched by them")
    if not schema.get("$ref", "#").startswith("#"):
        raise PayloadSchemaError(
            f"$ref {schema['$ref']!r} is remote, and nothing is fetched: copy that schema into $defs, and refer to it"
            " by #/$defs/…"
        )
    for pattern in (*([schema["pattern"]] if "pattern" in schema else []), *schema.get("patternProperties", ())):
        _expression(pattern)


def _subschemas(schema: Mapping[str, Any], keywords: Mapping[str, str]) -> Iterator[object]:
    for keyword in keywords.keys() & schema.keys():
        value = schema[keyword]
        yield from _parts(value) if keywords[keyword] != "schema" else (value,)


def _expression(pattern: str) -> Any:
    """Return a compiled regular expression, which re2 keeps. Raises `PayloadSchemaError`."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20  # bytes: a larger one would take seconds for a payload, although its time is linear
    try:
        return re2.compile(_bytes(pattern), options)
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise PayloadSchemaError(
            f"pattern {pattern!r} can't be used ({text}): expressions are those of RE2, without look-around and back"
            " references"
        ) from None


def _matches(expression: Any, text: str) -> bool:
    _check_deadline()
    encoded = _bytes(text)
    if expression.programsize * len(encoded) > _MAX_MATCH:
        raise _TooLongError
    return expression.search(encoded) is not None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # JSON may contain half a surrogate pair, which is no text


def _depth(value: object) -> int:
    """Return how many objects and arrays are within each other, and no more than one above the limit."""
    level = [value]
    depth = 0
    while depth <= _MAX_DEPTH:
        level = [part for held in level if isinstance(held, (dict, list)) for part in _parts(held)]
        if not level:
            break
        depth += 1
    return depth


def _containers(value: object) -> int:
    remaining = [value]
    count = 0
    while remaining:
        held = remaining.pop()
        if isinstance(held, (dict, list)):
            count += 1
            remaining.extend(_parts(held))
    return count


def _parts(held: dict[str, Any] | list[Any]) -> Any:
    return held.values() if isinstance(held, dict) else held


# The keywords that jsonschema checks with Python's regular expressions, in quadratic time or with overflows


def _pattern(validator: Any, pattern: str, value: Any, _schema: object) -> Iterator[ValidationError]:
    if validator.is_type(value, "string") and not _matches(_expression(pattern), value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], value: Any, _schema: object
) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    for pattern, schema in patterns.items():
        expression = _expression(pattern)
        for name, part in value.items():
            if _matches(expression, name):
                yield from validator.descend(part, schema, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, schema: Any, value: Any, parent: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    expressions = [_expression(pattern) for pattern in parent.get("patternProperties", ())]
    known = parent.get("properties", {})
    for name, part in value.items():
        _check_deadline()
        if name in known or any(_matches(expression, name) for expression in expressions):
            continue
        if schema is False:
            yield ValidationError(f"{name!r} is no property of it")
        else:
            yield from validator.descend(part, schema, path=name)


def _unique_items(validator: Any, is_unique: bool, value: Any, _schema: object) -> Iterator[ValidationError]:
    if is_unique and validator.is_type(value, "array"):
        seen = set()
        for index, item in enumerate(value):
            _check_deadline()
            key = _comparable(item)
            if key in seen:
                yield ValidationError(f"item {index} is there twice")
                return
            seen.add(key)


def _comparable(value: object) -> object:
    """Return what is equal for equal values of JSON: 1 and 1.0 are equal, and 1 and true are not."""
    if isinstance(value, dict):
        return dict, frozenset((name, _comparable(part)) for name, part in value.items())
    if isinstance(value, list):
        return list, tuple(map(_comparable, value))
    return isinstance(value, bool), value


def _multiple_of(validator: Any, divisor: float, value: Any, _schema: object) -> Iterator[ValidationError]:
    if validator.is_type(value, "number"):
        try:
            is_multiple = Fraction(repr(value)) % Fraction(repr(divisor)) == 0  # as decimal: 0.3 is a multiple of 0.1
        except ValueError:  # a number beyond those of a float
            is_multiple = False
        if not is_multiple:
            yield ValidationError(f"{value!r} is no multiple of {divisor!r}")


def _within_deadline(
    check: Callable[..., Any], validator: Any, argument: Any, value: Any, schema: Any
) -> Iterator[ValidationError]:
    _check_deadline()
    return iter(check(validator, argument, value, schema) or ())


def _check_deadline() -> None:
    if time.monotonic() > _deadline.get():
        raise _TooLongError


_OWN = {
    "additionalProperties": _additional_properties,
    "multipleOf": _multiple_of,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "uniqueItems": _unique_items,
}
_Checks = extend(
    Draft202012Validator,
    {
        keyword: partial(_within_deadline, check)
        for keyword, check in {**Draft202012Validator.VALIDATORS, **_OWN}.items()
    },
)
