"""The form of a payload from its schema, and the payload from the form."""

from __future__ import annotations

from typing import Any

import pytest

from sluice_agent.jobs.json_text import canonical
from sluice_agent.server.pages.jobs_api.payload_form import PayloadForm, form_of, payload_in


def form(required: list[str] | None = None, **properties: Any) -> PayloadForm:
    made = form_of({"type": "object", "properties": properties, "required": required or []})
    assert made is not None
    return made


def sent(of: PayloadForm, **texts: str) -> str:
    payload, wrong = payload_in(of, {f"payload.{name}": text for name, text in texts.items()})
    assert wrong == []
    return canonical(payload)


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string"}, "text"),
        ({"type": "string", "maxLength": 5000}, "long"),
        ({"type": "integer"}, "integer"),
        ({"type": "number"}, "number"),
        ({"type": "boolean"}, "yes-no"),
        ({"enum": ["a", 1, None]}, "choice"),
        ({"const": 3}, "choice"),
        ({"type": "object"}, "json"),
        ({"type": ["string", "null"]}, "json"),
        ({"$ref": "#/$defs/a"}, "json"),
        ({"anyOf": [{"type": "string"}]}, "json"),
        ({}, "json"),
        (True, "json"),
    ],
)
def test_each_property_has_a_field_of_its_type(schema: Any, kind: str) -> None:
    """A number that must be typed as JSON, or a text that needs quotes, is what one gets wrong."""
    [field] = form(a=schema).fields
    assert field.kind == kind


def test_values_have_the_types_of_the_schema() -> None:
    """The endpoint would get "1" for 1, and refuse it."""
    of = form(t={"type": "string"}, i={"type": "integer"}, n={"type": "number"}, b={"type": "boolean"}, o={})
    assert sent(of, t="1", i="7", n="1.10", b="true", o='{"x": [1.0]}') == (
        '{"b":true,"i":7,"n":1.10,"o":{"x":[1.0]},"t":"1"}'
    )


def test_choices_keep_the_types_of_their_values() -> None:
    """Whoever chooses 1 would send the text."""
    [field] = form(a={"enum": ["1", 1, None, {"b": 2}]}).fields
    assert field.choices == [('"1"', "1"), ("1", "1"), ("null", "null"), ('{"b":2}', '{"b":2}')]
    assert sent(form(a={"enum": ["1", 1]}), a="1") == '{"a":1}'


def test_what_is_empty_is_absent_unless_it_is_a_required_text() -> None:
    """An optional text would be sent as an empty one, and a required one could not be empty."""
    of = form(["r", "n"], r={"type": "string"}, o={"type": "string"}, n={"type": "integer"})
    assert sent(of, r="", o="", n="") == '{"r":""}'


def test_defaults_and_limits_are_in_the_fields() -> None:
    """One would have to know the schema by heart."""
    of = form(
        ["b"],
        a={"type": "integer", "default": 3, "minimum": 1, "maximum": 9},
        b={"type": "string", "default": "x", "minLength": 2, "title": "Bee", "description": "What it is"},
        c={"type": "array", "default": [1]},
    )
    b, a, c = of.fields  # what is required comes first
    assert (a.value, a.limits) == ("3", [("min", "1"), ("max", "9")])
    assert (b.value, b.label, b.description, b.is_required) == ("x", "Bee (b)", "What it is", True)
    assert c.value == "[\n  1\n]"


def test_wrong_texts_are_named() -> None:
    """A form that is refused without a reason is sent again in the same way."""
    of = form(i={"type": "integer"}, o={"type": "object"}, b={"type": "boolean"})
    _, wrong = payload_in(of, {"payload.i": "true", "payload.o": "{", "payload.b": "yes", "further": "[1]"})
    assert wrong == [
        "Further properties: must be an object",
        "i: must be a number",
        "o: is no JSON that can be used",
        "b: is no JSON that can be used",
    ]


def test_further_properties_are_sent_where_they_may_be() -> None:
    """A property that the schema does not name could not be given at all."""
    payload, _ = payload_in(form(a={"type": "string"}), {"payload.a": "1", "further": '{"b": 2, "a": 9}'})
    assert payload == {"a": "1", "b": 2}
    closed = form_of({"properties": {"a": {}}, "additionalProperties": False})
    assert closed is not None
    assert not closed.has_further
    assert payload_in(closed, {"further": '{"b": 2}'}) == ({}, [])


@pytest.mark.parametrize(
    "schema", [{}, {"type": "array"}, {"type": "string"}, {"properties": {}}, {"$ref": "#/a", "properties": {"a": {}}}]
)
def test_other_schemas_have_one_field_for_json(schema: dict[str, Any]) -> None:
    """A form without fields could send nothing."""
    assert form_of(schema) is None
    assert form_of({"properties": {f"p{number}": {} for number in range(61)}}) is None
