"""The form of a payload, from its JSON schema: its fields, and the payload in what is sent. Pure functions.

Objects within the payload are groups of fields, arrays of single values lines or boxes. What the schema describes
otherwise is a field for JSON. Whether the payload fits the schema is not checked here: the API does so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sluice_agent.jobs.json_text import canonical, dumps, indented, parse

PREFIX = "payload"
"""Before the paths of properties in the names of fields, such as ``payload/customer/name``."""

FURTHER = "further"
"""The field for an object with further properties."""

_MOST = 60
"""Properties of an object, and fields of a form; an object with more is one field for JSON."""

_DEEPEST = 3  # groups within one another
_MOST_CHOICES = 30  # boxes of an array
_REFERENCES = 10  # that are followed one after the other
_SIMPLE = {"string": "text", "integer": "integer", "number": "number", "boolean": "yes-no"}
_TEXTS = ("text", "long")
_NUMBERS = ("integer", "number")
_LONG = 200  # characters from which on a text has a field of several lines


class PayloadField(NamedTuple):
    """A field. `path` is that of its property, as in the messages of the API, and `key` its last part. `kind` is text,
    long, integer, number, yes-no, choice, choices (boxes), lines (an array with a value in each line) or json.

    `is_required` if a payload without it can't be valid. `choices` are the JSON texts of values and what is shown of
    them; the value of boxes has those that are ticked, one in each line. `limits` are attributes of the input, `error`
    is what is wrong with the value, and `items` the kind of what is in each line.
    """

    name: str
    path: str
    key: str
    label: str
    kind: str
    value: str
    description: str = ""
    is_required: bool = False
    is_nullable: bool = False
    choices: Sequence[tuple[str, str]] = ()
    limits: Sequence[tuple[str, str]] = ()
    schema: str = ""
    items: str = ""
    error: str = ""


class PayloadGroup(NamedTuple):
    """The fields of an object. It is absent from the payload if all are empty, unless it `is_required`."""

    path: str
    key: str
    label: str
    description: str
    is_required: bool
    parts: Sequence[PayloadField | PayloadGroup]
    kind: str = "group"


class PayloadForm(NamedTuple):
    """The fields of a payload's properties, and whether it may have further ones."""

    parts: Sequence[PayloadField | PayloadGroup]
    has_further: bool


def form_of(schema: Mapping[str, Any]) -> PayloadForm | None:
    """Return the form of payloads that fit `schema`, with its defaults; None if a single field for JSON is better."""
    maker = _Maker(schema)
    root = maker.resolved(schema)
    if not _has_fields(root) or root.get("type", "object") != "object":
        return None
    parts = maker.parts_of(root, "", PREFIX, depth=0, is_required=True)
    return PayloadForm(parts, root.get("additionalProperties", True) is not False)


def filled(form: PayloadForm, texts: Mapping[str, str], errors: Sequence[str] = ()) -> PayloadForm:
    """Return the form with what was sent in its fields, and with those messages of the API that are about a field."""
    return form._replace(parts=[_filled(part, texts, errors) for part in form.parts])


def _filled(
    part: PayloadField | PayloadGroup, texts: Mapping[str, str], errors: Sequence[str]
) -> PayloadField | PayloadGroup:
    if isinstance(part, PayloadGroup):
        return part._replace(parts=[_filled(inner, texts, errors) for inner in part.parts])
    return part._replace(value=texts.get(part.name, ""), error=_error_of(part, errors))


def _error_of(field: PayloadField, errors: Sequence[str]) -> str:
    """Return what is wrong with a field, of messages such as ``payload: /customer/name: 1 is not of type 'string'``."""
    parent = field.path.removesuffix(f"/{field.key}")
    beginning = f"{PREFIX}: {parent}: " if parent else f"{PREFIX}: "
    for line in errors:
        text = line.removeprefix(f"{PREFIX}: {field.path}")
        if text != line and text.startswith(": "):
            return text.removeprefix(": ")
        if text != line and text.startswith("/"):
            return text
        if line == f"{beginning}{field.key!r} is a required property":
            return "is required"
    return ""


def payload_in(form: PayloadForm, texts: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the payload in what was sent, and what is wrong with it. What is empty and not required is absent."""
    payload: dict[str, Any] = {}
    wrong: list[str] = []
    further = texts.get(FURTHER, "").strip()
    if form.has_further and further:
        try:
            value = parse(further.encode())
        except ValueError as error:
            wrong.append(f"Further properties: is no JSON that can be used: {error}")
        else:
            payload = value if isinstance(value, dict) else {}
            if not isinstance(value, dict):
                wrong.append("Further properties: must be an object")
    payload |= _given(form.parts, texts, wrong)
    return payload, wrong


def _given(parts: Sequence[PayloadField | PayloadGroup], texts: Mapping[str, str], wrong: list[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, PayloadGroup):
            value = _given(part.parts, texts, wrong)
            if value or part.is_required:
                given[part.key] = value
        else:
            try:
                for value in _value(part, texts.get(part.name, "").replace("\r\n", "\n")):
                    given[part.key] = value
            except ValueError as error:
                wrong.append(f"{PREFIX}: {part.path}: {error}")
    return given


def _value(field: PayloadField, text: str) -> Iterator[Any]:
    """Yield the value of a field; none if it is absent. Raises `ValueError` if the text is no such value."""
    is_empty = not (text if field.kind in _TEXTS else text.strip())
    if is_empty and not field.is_required:
        return
    if is_empty and field.is_nullable:
        yield None
    elif field.kind in _TEXTS:
        yield text
    elif field.kind in ("lines", "choices"):
        yield [_single(field.items, line) for line in text.split("\n") if line.strip()]
    elif not is_empty:
        yield _single(field.kind, text)


def _single(kind: str, text: str) -> Any:
    if kind in _TEXTS:
        return text
    try:
        value = parse(text.encode())
    except ValueError:
        raise ValueError("must be a number" if kind in _NUMBERS else "is no JSON that can be used") from None
    if kind in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError("must be a number")
    return value


class _Maker:
    """Makes the parts of a form. A schema may refer to itself, so there is a limit to their number."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = _MOST

    def parts_of(
        self, schema: Mapping[str, Any], path: str, name: str, *, depth: int, is_required: bool
    ) -> list[PayloadField | PayloadGroup]:
        """Return the parts of an object, what is required first. `is_required` if no payload can be without it."""
        required = schema.get("required", [])
        properties = schema["properties"]
        self._left -= len(properties)
        parts = [
            self._part(key, self.resolved(part), path, name, depth, is_required and key in required, is_required)
            for key, part in properties.items()
        ]
        return sorted(parts, key=lambda part: not part.is_required)

    def resolved(self, schema: Any) -> Mapping[str, Any]:
        """Return a schema with that which it refers to."""
        for _ in range(_REFERENCES):
            if not isinstance(schema, dict) or "$ref" not in schema:
                break
            others = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
            target = self._target(schema["$ref"])
            schema = {**target, **others} if isinstance(target, dict) else others
        return schema if isinstance(schema, dict) and "$ref" not in schema else {}

    def _target(self, reference: str) -> Any:
        found: Any = self._root if reference.startswith("#/") else None
        for part in reference.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def _part(
        self,
        key: str,
        schema: Mapping[str, Any],
        path: str,
        name: str,
        depth: int,
        is_required: bool,
        has_defaults: bool,
    ) -> PayloadField | PayloadGroup:
        title, description = schema.get("title"), schema.get("description")
        label = f"{title} ({key})" if isinstance(title, str) and title else key
        description = description if isinstance(description, str) else ""
        path, name = f"{path}/{key}", f"{name}/{key.replace('~', '~0').replace('/', '~1')}"
        if self._is_group(schema, depth):
            parts = self.parts_of(schema, path, name, depth=depth + 1, is_required=is_required)
            return PayloadGroup(path, key, label, description, is_required, parts)
        kind = self._kind(schema)
        default = _default(schema, kind) if "default" in schema else ""
        if default and not has_defaults:  # of an object that may be absent: filled in, it would never be
            description = f"{description} Default: {' '.join(default.split())}.".strip()
            default = ""
        items = self.resolved(schema.get("items"))
        return PayloadField(
            name=name,
            path=path,
            key=key,
            label=label,
            kind=kind,
            value=default,
            description=description,
            is_required=is_required,
            is_nullable=_is_nullable(schema),
            choices=_choices(items if kind == "choices" else schema) if kind in ("choice", "choices") else (),
            limits=list(_limits(schema, kind)),
            schema=indented(schema) if kind == "json" and schema else "",
            items=self._kind(items) if kind in ("lines", "choices") else "",
        )

    def _is_group(self, schema: Mapping[str, Any], depth: int) -> bool:
        is_closed = schema.get("additionalProperties", False) is False and "patternProperties" not in schema
        is_plain = schema.get("type") == "object" and "enum" not in schema and "const" not in schema
        return (
            is_plain
            and is_closed
            and depth < _DEEPEST
            and _has_fields(schema)
            and len(schema["properties"]) <= self._left
        )

    def _kind(self, schema: Mapping[str, Any]) -> str:
        values = schema.get("enum")
        if "const" in schema or (isinstance(values, list) and values):
            return "choice"
        type_ = _type_of(schema)
        if type_ == "array":
            return self._kind_of_array(schema)
        kind = _SIMPLE.get(type_, "json")
        most = schema.get("maxLength")
        return "long" if kind == "text" and isinstance(most, int) and most > _LONG else kind

    def _kind_of_array(self, schema: Mapping[str, Any]) -> str:
        items, default = self.resolved(schema.get("items")), schema.get("default", [])
        kind = self._kind(items) if items and "prefixItems" not in schema and not _is_nullable(items) else "json"
        if kind == "choice" and len(items.get("enum", [])) <= _MOST_CHOICES:
            return "choices"
        is_in_lines = isinstance(default, list) and all(_is_line(item) for item in default)
        return "lines" if kind in ("text", "long", *_NUMBERS) and is_in_lines else "json"


def _has_fields(schema: Mapping[str, Any]) -> bool:
    """Return whether the properties of a schema can be fields. A browser changes line ends and others in names."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not 0 < len(properties) <= _MOST:
        return False
    return all(name.isprintable() for name in properties)


def _type_of(schema: Mapping[str, Any]) -> str:
    """Return the type of values beside null; empty if there are several."""
    type_ = schema.get("type")
    types = [item for item in type_ if item != "null"] if isinstance(type_, list) else [type_]
    return types[0] if len(types) == 1 and isinstance(types[0], str) else ""


def _is_nullable(schema: Mapping[str, Any]) -> bool:
    return isinstance(schema.get("type"), list) and "null" in schema["type"]


def _is_line(value: Any) -> bool:
    return (isinstance(value, str) and bool(value.strip()) and "\n" not in value) or isinstance(value, int | float)


def _choices(schema: Mapping[str, Any]) -> list[tuple[str, str]]:
    values = [schema["const"]] if "const" in schema else schema["enum"]
    return [(canonical(value), value if isinstance(value, str) else dumps(value)) for value in values]


def _default(schema: Mapping[str, Any], kind: str) -> str:
    default = schema["default"]
    if kind in _TEXTS:
        return default if isinstance(default, str) else ""
    if kind in ("lines", "choices") and isinstance(default, list):
        is_text = kind == "lines"
        return "\n".join(item if is_text and isinstance(item, str) else canonical(item) for item in default)
    return indented(default) if kind == "json" else canonical(default)


def _limits(schema: Mapping[str, Any], kind: str) -> list[tuple[str, str]]:
    """Return the limits that a browser checks, too."""
    names: Mapping[str, str] = {}
    if kind in _TEXTS:
        names = {"minLength": "minlength", "maxLength": "maxlength"}
    elif kind in _NUMBERS:
        names = {"minimum": "min", "maximum": "max"}
    limits = ((attribute, schema.get(name)) for name, attribute in names.items())
    return [
        (attribute, dumps(limit))
        for attribute, limit in limits
        if isinstance(limit, int | float) and not isinstance(limit, bool)
    ]
