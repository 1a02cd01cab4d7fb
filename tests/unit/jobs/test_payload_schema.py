"""The JSON Schema of a payload: which schemas are accepted, and which payloads are valid."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sluice_agent.jobs.payload_schema import PayloadSchemaError, compiled, faults

ORDER = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["id", "lines"],
    "properties": {
        "id": {"type": "string", "pattern": "^o-[0-9]+$"},
        "lines": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/line"}},
    },
    "patternProperties": {"^x-": {"type": "string"}},
    "additionalProperties": False,
    "$defs": {"line": {"type": "object", "properties": {"count": {"type": "integer", "minimum": 1}}}},
}
LIST = {
    "$ref": "#/$defs/n",
    "$defs": {"n": {"properties": {"n": {"$ref": "#/$defs/n"}}, "additionalProperties": False}},
}


def nested(levels: int, key: str) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {key: value}
    return value


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"id": "o-1", "lines": [{"count": 2}], "x-note": "a"}, []),
        ({"id": "o-1", "lines": [{"count": 0}]}, ["/lines/0/count: 0 is less than the minimum of 1"]),
        ({"id": "1", "lines": [{}]}, ["/id: '1' does not match '^o-[0-9]+$'"]),
        ({"id": "o-1\n", "lines": [{}]}, [r"/id: 'o-1\n' does not match '^o-[0-9]+$'"]),
        ({"id": "o-1", "lines": [{}], "x-note": 1}, ["/x-note: 1 is not of type 'string'"]),
        ({"id": "o-1", "lines": [{}], "note": 1}, ["'note' is no property of it"]),
        ({}, ["'id' is a required property", "'lines' is a required property"]),
        (None, ["None is not of type 'object'"]),
    ],
)
def test_faults_name_the_place(payload: object, expected: list[str]) -> None:
    """A payload that the endpoint can't use would be accepted, or a valid one refused."""
    assert faults(compiled(ORDER), payload) == expected


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ([], "an object, true or false"),
        ("string", "an object, true or false"),
        ({"type": "strin"}, "no schema of draft 2020-12: /type: 'strin'"),
        ({"properties": []}, "no schema of draft 2020-12"),
        ({"$ref": 5}, "no schema of draft 2020-12"),
        ({"$schema": 5}, r"\$schema must be"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "no other draft is supported"),
        (
            {"$ref": "https://example.com/order.json"},
            r"is remote, and nothing is fetched: copy that schema into \$defs",
        ),
        ({"items": {"anyOf": [{"$ref": "order.json"}]}}, "is remote"),
        ({"$ref": "#/x/y", "x": {"y": {"$ref": "file:///etc/passwd"}}}, "is remote"),
        ({"$ref": "#/$defs/line"}, "leads to nothing in this schema"),
        ({"$ref": "#line"}, "leads to nothing in this schema"),
        ({"properties": {"a": {"$id": "http://example.com/"}}}, "may only be at the root"),
        ({"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}}, "may only be at the root"),
        ({"$ref": "#"}, "refers to itself for the same value"),
        ({"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}}, "refers to itself"),
        ({"unevaluatedProperties": False}, "the keyword unevaluatedProperties is not supported"),
        ({"$dynamicRef": "#a"}, r"the keyword \$dynamicRef is not supported"),
        ({"pattern": "(?=a)b"}, "without look-around and back references"),
        ({"pattern": "("}, "can't be used"),
        ({"patternProperties": {"[": {}}}, "can't be used"),
        ({"pattern": "(a{1000}){1000}"}, "can't be used"),
        (nested(51, "not"), "nested more than 50 levels"),
        ({"const": [[]] * 1000}, "more than 1,000 objects and arrays"),
        ({"const": "x" * 66_000}, "larger than 64 KiB"),
    ],
)
def test_a_schema_that_can_not_be_used_is_refused(schema: object, reason: str) -> None:
    """Each trigger of the job would fail, reach into the network, or not end."""
    with pytest.raises(PayloadSchemaError, match=reason):
        compiled(schema)


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        (True, [None, 1], []),
        (False, [], [None, 1]),
        ({}, [None, {"a": 1}], []),
        (
            {"properties": {"$ref": {"type": "string"}, "pattern": {"const": 1}}},
            [{"$ref": "a", "pattern": 1}],
            [{"$ref": 1}],
        ),
        ({"const": {"$ref": "http://example.com/"}}, [{"$ref": "http://example.com/"}], [{}]),
        (LIST, [{"n": {"n": {}}}], [{"n": {"m": {}}}]),
        (
            {"$id": "http://example.com/a", "$defs": {"a": {"$anchor": "x", "type": "null"}}, "items": {"$ref": "#x"}},
            [[None]],
            [[1]],
        ),
        (
            {"uniqueItems": True},
            [[1, True, "1"], [{"a": 1}, {"a": True}], [[1], [2]]],
            [[1, 1.0], [{"a": [1]}, {"a": [1.0]}]],
        ),
        ({"multipleOf": 0.1}, [0.3, 10**400, "x", True], [0.35, float("inf")]),
        ({"multipleOf": 1e-5}, [1e308], []),
        ({"pattern": r"^\d+$"}, ["12", 5], ["१२", "12\n", "\ud800"]),
        ({"additionalProperties": {"type": "integer"}}, [{"a": 1}, []], [{"a": "b"}]),
        (
            {"additionalProperties": False, "patternProperties": {"^a": True, "z$": True}},
            [{"a": 1, "z": 1}],
            [{"b": 1}],
        ),
        ({"format": "email"}, ["no address"], []),
    ],
)
def test_payloads_are_checked_as_the_draft_defines(schema: Any, valid: list[object], invalid: list[object]) -> None:
    """A schema would mean something else here than in its author's tests."""
    validator = compiled(schema)
    assert [faults(validator, payload) for payload in valid] == [[] for _ in valid]
    assert all(faults(validator, payload) for payload in invalid)


REPEATED = {
    "$ref": "#/$defs/0",
    "$defs": {
        **{str(number): {"anyOf": [{"$ref": f"#/$defs/{number + 1}"}] * 2} for number in range(25)},
        "25": {"type": "string"},
    },
}


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        pytest.param({"pattern": "^(a+)+$"}, "a" * 100_000 + "b", id="nested repetition"),
        pytest.param({"patternProperties": {"^(a|a)*$": True}}, {"a" * 100_000 + "b": 1}, id="in a name"),
        pytest.param({"pattern": "(a|b)*a(a|b){500}c"}, "ab" * 400_000, id="many states"),
        pytest.param({"uniqueItems": True}, [{}, *({"a": number} for number in range(30_000))], id="many objects"),
        pytest.param(REPEATED, 5, id="many branches"),
        pytest.param({"items": {"enum": [[number] for number in range(900)]}}, [[-1]] * 200_000, id="many values"),
    ],
)
def test_no_check_takes_long(schema: Any, payload: object) -> None:
    """One request would stop a server for minutes."""
    validator = compiled(schema)
    start = time.process_time()
    faults(validator, payload)
    assert time.process_time() - start < 3


def test_a_check_that_would_take_long_is_a_fault() -> None:
    """A payload that was never checked would be accepted."""
    assert "too complex for a payload of this size" in faults(compiled(REPEATED), 5)[0]


def test_a_deep_payload_is_a_fault() -> None:
    """The server would answer 500, or end."""
    validator = compiled(
        {"$defs": {"n": {"allOf": [{"properties": {"n": {"$ref": "#/$defs/n"}}}]}}, "$ref": "#/$defs/n"}
    )
    assert faults(validator, nested(50, "n")) == []
    assert faults(validator, nested(51, "n")) == ["the payload is nested more than 50 levels deep"]


def test_faults_stay_short() -> None:
    """The answer would be as large as the payload, or many times that."""
    found = faults(compiled({"items": {"type": "integer"}}), ["x" * 10_000] * 1000)
    assert len(found) == 20
    assert found[0] == "/0: '" + "x" * 59 + "… is not of type 'integer'"
