"""The form of a payload from its schema, and the payload from the form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sluice_agent.jobs.json_text import canonical
from sluice_agent.server.pages.jobs_api.payload_form import (
    PayloadField,
    PayloadForm,
    PayloadGroup,
    filled,
    form_of,
    payload_in,
)


def made(schema: dict[str, Any]) -> PayloadForm:
    found = form_of(schema)
    assert found is not None
    return found


def form(required: list[str] | None = None, **properties: Any) -> PayloadForm:
    return made({"type": "object", "properties": properties, "required": required or []})


def fields_of(parts: Sequence[PayloadField | PayloadGroup]) -> list[PayloadField]:
    """Return the fields of a form, those within groups included."""
    return [field for part in parts for field in (fields_of(part.parts) if isinstance(part, PayloadGroup) else [part])]


def sent(of: PayloadForm, **texts: str) -> str:
    payload, wrong = payload_in(of, {f"payload/{name}": text for name, text in texts.items()})
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
        ({"type": ["string", "null"]}, "text"),
        ({"type": ["string", "integer"]}, "json"),
        ({"$ref": "#/$defs/a"}, "json"),
        ({"type": "array", "items": {"type": "string"}}, "lines"),
        ({"type": "array", "items": {"type": "string"}, "default": ["a\nb"]}, "json"),
        ({"type": "array", "items": {"type": "integer"}}, "lines"),
        ({"type": "array", "items": {"enum": ["a", 1]}}, "choices"),
        ({"type": "array", "items": {"enum": list(range(31))}}, "json"),
        ({"type": "array", "items": {"type": "object"}}, "json"),
        ({"type": "array"}, "json"),
        ({"type": "object", "properties": {"b": {}}, "additionalProperties": {"type": "string"}}, "json"),
        ({"type": "object", "properties": {"b\n": {}}}, "json"),
        ({"anyOf": [{"type": "string"}]}, "json"),
        ({}, "json"),
        (True, "json"),
    ],
)
def test_each_property_has_a_field_of_its_type(schema: Any, kind: str) -> None:
    """A number that must be typed as JSON, or a text that needs quotes, is what one gets wrong."""
    [field] = fields_of(form(a=schema).parts)
    assert field.kind == kind


def test_values_have_the_types_of_the_schema() -> None:
    """The endpoint would get "1" for 1, and refuse it."""
    of = form(t={"type": "string"}, i={"type": "integer"}, n={"type": "number"}, b={"type": "boolean"}, o={})
    assert sent(of, t="1", i="7", n="1.10", b="true", o='{"x": [1.0]}') == (
        '{"b":true,"i":7,"n":1.10,"o":{"x":[1.0]},"t":"1"}'
    )


def test_choices_keep_the_types_of_their_values() -> None:
    """Whoever chooses 1 would send the text."""
    [field] = fields_of(form(a={"enum": ["1", 1, None, {"b": 2}]}).parts)
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
    b, a, c = fields_of(of.parts)  # what is required comes first
    assert (a.value, a.limits) == ("3", [("min", "1"), ("max", "9")])
    assert (b.value, b.label, b.description, b.is_required) == ("x", "Bee (b)", "What it is", True)
    assert c.value == "[\n  1\n]"


def test_wrong_texts_are_named() -> None:
    """A form that is refused without a reason is sent again in the same way."""
    of = form(i={"type": "integer"}, o={"type": "object"}, b={"type": "boolean"})
    _, wrong = payload_in(of, {"payload/i": "true", "payload/o": "{", "payload/b": "yes", "further": "[1]"})
    assert wrong == [
        "Further properties: must be an object",
        "payload: /i: must be a number",
        "payload: /o: is no JSON that can be used",
        "payload: /b: is no JSON that can be used",
    ]


def test_further_properties_are_sent_where_they_may_be() -> None:
    """A property that the schema does not name could not be given at all."""
    payload, _ = payload_in(form(a={"type": "string"}), {"payload/a": "1", "further": '{"b": 2, "a": 9}'})
    assert payload == {"a": "1", "b": 2}
    closed = made({"properties": {"a": {}}, "additionalProperties": False})
    assert not closed.has_further
    assert payload_in(closed, {"further": '{"b": 2}'}) == ({}, [])


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array"},
        {"type": "string"},
        {"properties": {}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "array"}}},
    ],
)
def test_other_schemas_have_one_field_for_json(schema: dict[str, Any]) -> None:
    """A form without fields could send nothing."""
    assert form_of(schema) is None
    assert form_of({"properties": {f"p{number}": {} for number in range(61)}}) is None


CUSTOMER = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "address": {"type": "object", "properties": {"a/b~c": {"type": "string"}, "zone": {"default": "EU"}}},
        "rank": {"type": ["integer", "null"]},
    },
}


def test_objects_within_the_payload_are_groups_of_fields() -> None:
    """An order with a customer and an address would have to be typed as JSON."""
    of = form(["customer"], customer=CUSTOMER)
    assert [field.name for field in fields_of(of.parts)] == [
        "payload/customer/name",
        "payload/customer/address/a~1b~0c",
        "payload/customer/address/zone",
        "payload/customer/rank",
    ]
    texts = {"payload/customer/name": "Ann", "payload/customer/address/a~1b~0c": "x", "payload/customer/rank": "3"}
    assert payload_in(of, texts) == ({"customer": {"name": "Ann", "address": {"a/b~c": "x"}, "rank": 3}}, [])


def test_an_object_that_may_be_absent_is_so_if_its_fields_are_empty() -> None:
    """A payload without an address would be refused, as an empty one is no address; or a default would make one."""
    of = form([], customer=CUSTOMER)
    assert payload_in(of, {}) == ({}, [])
    fields = {field.key: field for field in fields_of(of.parts)}
    assert (fields["zone"].value, fields["zone"].description) == ("", 'Default: "EU".')
    assert [field.key for field in fields.values() if field.is_required] == []
    assert payload_in(form(["customer"], customer=CUSTOMER), {}) == ({"customer": {"name": ""}}, [])


def test_what_may_be_null_is_so_if_it_is_required_and_empty() -> None:
    """A required number could not be left open, though the schema allows it."""
    assert (
        sent(form(["a", "b"], a={"type": ["integer", "null"]}, b={"type": ["null", "string"]})) == '{"a":null,"b":null}'
    )
    assert sent(form([], a={"type": ["integer", "null"]})) == "{}"


def test_arrays_have_a_value_in_each_line_or_boxes() -> None:
    """A list of addresses would need brackets, quotes and commas, of which one is missing in the end."""
    of = form(
        ["n"],
        t={"type": "array", "items": {"type": "string"}, "default": ["a", "b"]},
        n={"type": "array", "items": {"type": "integer"}},
        c={"type": "array", "items": {"enum": ["x", 1]}, "default": [1]},
    )
    assert {field.key: field.value for field in fields_of(of.parts)} == {"n": "", "t": "a\nb", "c": "1"}
    assert sent(of, t="a, b\r\n\r\n[", n="1\n2", c='"x"\n1') == '{"c":["x",1],"n":[1,2],"t":["a, b","["]}'
    assert sent(of) == '{"n":[]}'
    assert payload_in(of, {"payload/n": "1\nx"})[1] == ["payload: /n: must be a number"]


def test_references_within_the_schema_are_followed() -> None:
    """Whoever describes an address once would get a field for JSON in each place."""
    schema = {
        "properties": {"a": {"$ref": "#/$defs/x", "description": "Own"}, "tree": {"$ref": "#/$defs/tree"}},
        "$defs": {
            "x": {"$ref": "#/$defs/y"},
            "y": {"type": "integer", "description": "Of all"},
            "tree": {"type": "object", "properties": {"next": {"$ref": "#/$defs/tree"}, "v": {"type": "integer"}}},
        },
    }
    a, *rest = fields_of(made(schema).parts)
    assert (a.kind, a.description) == ("integer", "Own")
    assert [field.kind for field in rest] == ["json", "integer", "integer", "integer"]
    loop = {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"$ref": "#/$defs/x"}}}
    assert [field.kind for field in fields_of(made(loop).parts)] == ["json"]


def test_what_is_wrong_stands_beside_its_field() -> None:
    """In a form of forty fields one would look for the one that the message means."""
    of = form(["n"], customer=CUSTOMER, n={"type": "integer"})
    texts = {"payload/customer/rank": "x", "payload/n": ""}
    errors = ["The request is not valid.", "payload: /customer/rank: must be a number"]
    errors += ["payload: 'n' is a required property", "payload: /customer: 'name' is a required property"]
    fields = {field.key: (field.value, field.error) for field in fields_of(filled(of, texts, errors).parts)}
    assert fields == {
        "n": ("", "is required"),
        "name": ("", "is required"),
        "a/b~c": ("", ""),
        "zone": ("", ""),
        "rank": ("x", "must be a number"),
    }
