"""The form of a job's settings: its fields, and the settings in what is sent. Pure functions.

Each setting has a field, also one that this module does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args, get_origin

from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.definitions.views import masked
from sluice_agent.jobs.json_text import dumps, indented, parse
from sluice_agent.server.pages.jobs_api.settings_text import name_of

GROUPS = (
    ("Job", ("name", "slug", "endpoint_url", "fallback_endpoint_url", "description", "tags", "group_id")),
    ("Payload", ("payload_schema", "default_run_metadata")),
    (
        "Schedule",
        ("cron", "timezone", "cron_payload", "cron_overlap_policy", "cron_grace_secs", "execution_window_cron"),
    ),
    ("Attempts", ("max_attempts", "timeout_secs", "retry_strategy", "retry_delays_secs", "run_ttl_secs")),
    (
        "Limits",
        (
            "max_concurrency",
            "max_concurrency_per_key",
            "rate_limit_max",
            "rate_limit_window_secs",
            "dedup_window_secs",
            "rate_limit_keys",
        ),
    ),
    ("Webhook and signatures", ("webhook_url", "webhook_secret")),
    ("Versions", ("version_policy", "backwards_compatible")),
)
"""The settings in groups; what is in none comes last."""

_HINTS = {
    "endpoint_url": "https://…, or celery://name.of.a.task",
    "slug": "a name for programs",
    "cron": "30 2 * * *",
    "execution_window_cron": "* 9-17 * * 1-5",
    "timezone": "UTC",
    "timeout_secs": "seconds",
    "run_ttl_secs": "seconds",
    "rate_limit_window_secs": "seconds",
    "dedup_window_secs": "seconds",
    "cron_grace_secs": "seconds",
    "payload_schema": "JSON Schema, draft 2020-12",
    "tags": '{"team": "shop"}',
    "retry_delays_secs": "[1, 10, 60]",
    "rate_limit_keys": '[{"name": "mail", "max": 10, "window_secs": 60}]',
}
_NOTES = {
    "group_id": "Of jobs that belong together: any name.",
    "default_run_metadata": "Texts that each run has beside those of its trigger.",
    "cron": "Minute, hour, day, month, day of the week, in the time zone below.",
    "cron_payload": "Empty: an empty object.",
    "cron_grace_secs": "A firing that was missed for less is made up for, once.",
    "execution_window_cron": "Runs begin in minutes that match, others wait for the next one.",
    "timezone": "Such as Europe/Berlin: of both expressions.",
    "retry_delays_secs": "Seconds before each further attempt, with the strategy custom.",
    "run_ttl_secs": "A run that has not begun by then expires.",
    "rate_limit_max": "Further ones within the window are refused.",
    "dedup_window_secs": "A trigger with the same payload within it makes no second run.",
    "rate_limit_keys": "Starts of runs, of all jobs with a limit of the same name.",
    "webhook_url": "Gets a request at the end of each run.",
    "webhook_secret": "Signs requests to the endpoint and to the webhook.",
    "backwards_compatible": "Runs that wait take it with the policy minor.",
    "environment_id": "One of the file of serve --jobs-environments.",
}
_MESSAGES = {
    "Field required": "is required",
    "Input should be a valid dictionary": 'must be a JSON object, such as {"a": 1}',
    "Input should be a valid list": "must be a JSON array, such as [1, 2]",
}
_CHOICES = {"retry_strategy": {"": "exponential (default)"}, "cron_overlap_policy": {"": "allow (default)"}}
_SHORT = 60  # characters of JSON in one line
_DIGITS = 18
_REQUIRED = ("name", "slug", "endpoint_url")
_LONG = ("description", "payload_schema", "default_run_metadata", "cron_payload")


class Field(NamedTuple):
    """A field. `kind` is text, long (a text of several lines), number, json, yes-no or choice; `choices` are values
    and what is shown of them. `hint` is an example or a unit, `note` is what it does, and `error` what is wrong."""

    name: str
    label: str
    kind: str
    value: str
    hint: str = ""
    note: str = ""
    error: str = ""
    is_required: bool = False
    choices: Sequence[tuple[str, str]] = ()


class Group(NamedTuple):
    """Fields that belong together."""

    title: str
    fields: Sequence[Field]


def groups_of(values: Mapping[str, str], errors: Sequence[str] = ()) -> list[Group]:
    """Return the form with these texts in its fields, and with those `errors` that are about a field beside it."""
    wrong = {field: message for field, message in map(_field_of, errors) if field is not None}
    named = {name for _, names in GROUPS for name in names}
    rest = [name for name in JobSettings.model_fields if name not in named]
    groups = [*GROUPS, *([("Further settings", tuple(rest))] if rest else [])]
    return [
        Group(title, [_field(name, values.get(name, ""), wrong) for name in names if name in JobSettings.model_fields])
        for title, names in groups
    ]


def texts_of(settings: JobSettings) -> dict[str, str]:
    """Return the texts of all fields for these settings. Of a secret it is what may be shown."""
    return {name: _text(name, getattr(settings, name)) for name in JobSettings.model_fields}


def default_texts() -> dict[str, str]:
    """Return the texts of the fields of a new job."""
    return {
        name: _text(name, field.default) for name, field in JobSettings.model_fields.items() if not field.is_required()
    }


def changes_in(texts: Mapping[str, str], before: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings whose texts differ from those `before`, as the API takes them; and what is wrong, in lines
    such as ``tags: must be JSON``."""
    changes: dict[str, Any] = {}
    wrong: list[str] = []
    for name in JobSettings.model_fields:
        text = texts.get(name, "")
        if _plain(text) == _plain(before.get(name, "")):
            continue
        try:
            changes[name] = _value(name, text)
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    return changes, wrong


def labelled(error: str) -> str:
    """Return a line about what is wrong, with the name that its field has on the page."""
    field, message = _field_of(error)
    return error if field is None else f"{name_of(field)}: {message}"


def _field_of(error: str) -> tuple[str | None, str]:
    """Return the field that a line is about, None for none; and what is wrong there: ``tags.team: …`` is about tags."""
    path, separator, message = error.partition(": ")
    field, _, rest = path.partition(".")
    if not separator or field not in JobSettings.model_fields:
        return None, error
    message = _MESSAGES.get(message, message)
    return field, f"{rest}: {message}" if rest else message


def _plain(text: str) -> str:
    """Return a text without what browsers change in it: the ends of its lines."""
    return text.replace("\r\n", "\n").strip()


def _field(name: str, value: str, wrong: Mapping[str, str]) -> Field:
    kind = _kind(name)
    choices = list(_choices(name)) if kind == "choice" else []
    return Field(
        name=name,
        label=name_of(name),
        kind=kind,
        value=value,
        hint=_HINTS.get(name, ""),
        note=_NOTES.get(name, ""),
        error=wrong.get(name, ""),
        is_required=name in _REQUIRED,
        choices=choices,
    )


def _kind(name: str) -> str:
    field = JobSettings.model_fields[name]
    if get_origin(field.annotation) is Literal:
        return "choice"
    if isinstance(field.default, bool):
        return "yes-no"
    if isinstance(field.default, int):
        return "number"
    if isinstance(field.default, dict | list):
        return "json"
    return "long" if name in _LONG else "text"


def _choices(name: str) -> Iterator[tuple[str, str]]:
    for value in get_args(JobSettings.model_fields[name].annotation):
        yield value, _CHOICES.get(name, {}).get(value, value)


def _text(name: str, value: Any) -> str:
    if name == "webhook_secret":
        return masked(value)
    match _kind(name):
        case "json":
            return _json_text(value) if value else ""
        case "yes-no":
            return "yes" if value else ""
        case "number":
            return str(value) if value else ""
    return str(value)


def _json_text(value: Any) -> str:
    """Return JSON in one line if it is short."""
    text = dumps(value)
    return text if len(text) <= _SHORT else indented(value)


def _value(name: str, text: str) -> Any:
    match _kind(name):
        case "number":
            return _number(text.strip())
        case "json":
            empty = type(JobSettings.model_fields[name].default)()
            return _json(text) if text.strip() else empty
        case "yes-no":
            return text == "yes"
        case "long":
            return text.replace("\r\n", "\n")
    return text.strip()


def _json(text: str) -> Any:
    try:
        return parse(text.encode())
    except ValueError as error:
        raise ValueError(f"is not JSON that can be used: {error}") from None


def _number(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("must be a whole number, such as 10, or empty")
    if len(text) > _DIGITS:
        raise ValueError("is too large")
    return int(text or 0)
