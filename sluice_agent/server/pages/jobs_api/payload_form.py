"""The form of a payload, from its JSON schema: its fields, and the payload in what is sent. Pure functions.

What the schema describes otherwise than by simple properties is a field for JSON. The schema itself is not checked
here: the API does so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sluice_agent.jobs.json_text import canonical, dumps, indented, parse

PREFIX = "payload."
"""Before the names of properties in the form."""

FURTHER = "further"
"""The field for an object with further properties."""

_MOST = 60
"""Properties of a form; an object with more is one field for JSON."""

_SIMPLE = {"string": "text", "integer": "integer", "number": "number", "boolean": "yes-no"}
_LONG = 200  # characters from which on a text has a field of several lines


class PayloadField(NamedTuple):
    """A field. `kind` is text, long, integer, number, yes-no, choice or json. `choices` are the JSON texts of values
    and what is shown of them. `limits` are attributes of the input."""

    name: str
    label: str
    kind: str
    value: str
    description: str = ""
    is_required: bool = False
    choices: Sequence[tuple[str, str]] = ()
    limits: Sequence[tuple[str, str]] = ()


class PayloadForm(NamedTuple):
    """The fields of a payload's properties, and whether it may have further ones."""

    fields: Sequence[PayloadField]
    has_further: bool


def form_of(schema: Mapping[str, Any]) -> PayloadForm | None:
    """Return the form of payloads that fit `schema`, with its defaults; None if a single field for JSON is better."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not 0 < len(properties) <= _MOST:
        return None
    if schema.get("type", "object") != "object" or "$ref" in schema:
        return None
    required = schema.get("required", [])
    fields = [
        _field(name, part if isinstance(part, dict) else {}, is_required=name in required)
        for name, part in properties.items()
    ]
    fields.sort(key=lambda field: not field.is_required)
    return PayloadForm(fields, schema.get("additionalProperties", True) is not False)


def filled(form: PayloadForm, texts: Mapping[str, str]) -> PayloadForm:
    """Return the form with what was sent in its fields."""
    return form._replace(
        fields=[field._replace(value=texts.get(f"{PREFIX}{field.name}", field.value)) for field in form.fields]
    )


def payload_in(form: PayloadForm, texts: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the payload in what was sent, and what is wrong with it. What is empty and not required is absent."""
    payload: dict[str, Any] = {}
    wrong: list[str] = []
    further = texts.get(FURTHER, "").strip()
    if form.has_further and further:
        value = _json(FURTHER, further, wrong)
        if isinstance(value, dict):
            payload |= value
        elif value is not None:
            wrong.append("Further properties: must be an object")
    for field in form.fields:
        text = texts.get(f"{PREFIX}{field.name}", "").replace("\r\n", "\n")
        is_text = field.kind in ("text", "long")
        if not (text if is_text else text.strip()) and not (field.is_required and is_text):
            continue
        if is_text:
            payload[field.name] = text
            continue
        value = _json(field.name, text, wrong)
        if field.kind in ("integer", "number") and not _is_number(value):
            wrong.append(f"{field.label}: must be a number")
        payload[field.name] = value
    return payload, wrong


def _json(name: str, text: str, wrong: list[str]) -> Any:
    try:
        return parse(text.encode())
    except ValueError:
        wrong.append(f"{'Further properties' if name == FURTHER else name}: is no JSON that can be used")
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _field(name: str, schema: Mapping[str, Any], *, is_required: bool) -> PayloadField:
    kind = _kind(schema)
    title, description = schema.get("title"), schema.get("description")
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    return PayloadField(
        name=name,
        label=f"{title} ({name})" if isinstance(title, str) and title else name,
        kind=kind,
        value=_default(schema, kind),
        description=description if isinstance(description, str) else "",
        is_required=is_required,
        choices=[(canonical(value), value if isinstance(value, str) else dumps(value)) for value in values]
        if kind == "choice"
        else (),
        limits=list(_limits(schema, kind)),
    )


def _kind(schema: Mapping[str, Any]) -> str:
    values = schema.get("enum")
    if "const" in schema or (isinstance(values, list) and values):
        return "choice"
    type_ = schema.get("type")
    kind = _SIMPLE.get(type_, "json") if isinstance(type_, str) else "json"
    most = schema.get("maxLength")
    return "long" if kind == "text" and isinstance(most, int) and most > _LONG else kind


def _default(schema: Mapping[str, Any], kind: str) -> str:
    if "default" not in schema:
        return ""
    default = schema["default"]
    if kind in ("text", "long"):
        return default if isinstance(default, str) else ""
    return indented(default) if kind == "json" else canonical(default)


def _limits(schema: Mapping[str, Any], kind: str) -> list[tuple[str, str]]:
    """Return the limits that a browser checks, too."""
    names: Mapping[str, str] = {}
    if kind in ("text", "long"):
        names = {"minLength": "minlength", "maxLength": "maxlength"}
    elif kind in ("integer", "number"):
        names = {"minimum": "min", "maximum": "max"}
    return [(attribute, dumps(schema[name])) for name, attribute in names.items() if _is_number(schema.get(name))]
