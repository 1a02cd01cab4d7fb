"""Redact the arguments and results of tasks, if a user has chosen to send them: small, plain, and without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from math import copysign, isfinite
from typing import Any

from sluice_agent.async_exceptions import is_asynchronous
from sluice_agent.lifecycle.bounded import Limits, bounded
from sluice_agent.log import warn_limited
from sluice_agent.model import encode

Redact = Callable[[str, Any], Any]
"""Called with a name (args, kwargs, headers, result) and the value; returns the value that may leave the process."""

HIDDEN = "[redacted]"

_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)?$|pwd|secret|token|api[_-]?key|authorization|auth_?header|cookie|session_?id|credential|"
    r"private_?key|card_?(number|no)|cvc|cvv|iban|ssn|social_?security",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(r"\b(?:bearer|basic)\s+[\w.~+/=-]{8,}|\b[sprw]k_\w{8,}|//[^/\s:@]+:[^/\s@]+@", re.IGNORECASE)
_CARD_NUMBER = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")
_WHOLE_MARK = b'"argsWhole":true'
_CALL = ("args", "kwargs", "message")
_LIMITS = Limits(text=1_000, items=50, depth=6, total=20_000)
_HOOK_LIMITS = Limits(text=10_000, items=1_000, depth=20, total=100_000)
"""More for the result of a hook, as the user has chosen it; a batch of events holds a megabyte."""


def redact(name: str, value: Any) -> Any:
    """Return `value` as plain JSON, cut to size, secrets replaced. This is the default hook.

    `name` is args, kwargs, headers or result. An object of a user's class is replaced by the name of the class: its
    `__repr__` may take any time and memory. Values are hidden under a name that contains password, token, secret,
    authorization, card number and the like; in texts, anything like a card number, a bearer token, a key or the
    password of a URL.
    """
    return HIDDEN if _SECRET_NAME.search(name) else bounded(value, _LIMITS, finish=_without_secrets, hide=_hidden)


def guarded_redact(hook: Redact | None) -> Redact:
    """Return `hook`, else `redact`, as a function that never raises.

    If the hook raises, or its result is not JSON, the value is hidden, and the event sent. A large result is cut.
    """
    if hook is None:
        hook = redact

    def redacted(name: str, value: Any) -> Any:
        try:
            redacted_value = hook(name, value)
            if hook is not redact:
                redacted_value = bounded(redacted_value, _HOOK_LIMITS, name_others=False)
        except Exception as error:
            if is_asynchronous(error):
                raise
            warn_limited("redact", "redact raised %s: %s; the value is hidden.", type(error).__name__, error)
            return HIDDEN
        return redacted_value

    return redacted


def is_whole(captured: Any, value: Any) -> bool:
    """Return whether `captured`, sent as JSON and decoded, gives `value` again: equal values of the same types.

    No method of a user's class is called.
    """
    kind = type(value)
    if type(captured) is not kind:
        return False
    if kind is dict:
        return len(captured) == len(value) and all(
            type(key) is str and is_whole(name, key) and is_whole(item, other)
            for (name, item), (key, other) in zip(captured.items(), value.items(), strict=True)
        )
    if kind is list:
        return are_whole(captured, value)
    if kind is str:
        return bool(captured == value and _is_utf8(value))
    if kind is float:
        return isfinite(value) and bool(captured == value and copysign(1, captured) == copysign(1, value))
    return (value is None or kind in (bool, int)) and bool(captured == value)


def are_whole(captured: Any, values: Sequence[Any]) -> bool:
    """Return whether `captured` is a list that gives the items of `values` again: see `is_whole`."""
    return (
        type(captured) is list
        and len(captured) == len(values)
        and all(is_whole(item, value) for item, value in zip(captured, values, strict=True))
    )


def without_stale_mark(line: bytes, original: bytes) -> bytes:
    """Return `line`, which a user's hook has made from the event `original`, without `argsWhole` if it changed them."""
    if _WHOLE_MARK not in original:
        return line
    changed = json.loads(line)
    extensions = changed.get("job", {}).get("extensions", {})
    before = json.loads(original)["job"]["extensions"]
    if all(json.dumps(extensions.get(name)) == json.dumps(before.get(name)) for name in _CALL):
        return line
    extensions.pop("argsWhole", None)
    return encode(changed)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _hidden(name: str) -> str | None:
    return HIDDEN if _SECRET_NAME.search(name) else None


def _without_secrets(text: str) -> str:
    text = _SECRET_TEXT.sub(HIDDEN, text)
    return _CARD_NUMBER.sub(lambda match: HIDDEN if _is_card(match[0]) else match[0], text)


def _is_card(text: str) -> bool:
    """Return whether the digits of `text` have the length and the check digit (Luhn) of a card number."""
    digits = [int(character) for character in text if character.isdecimal()]
    if not 13 <= len(digits) <= 19 or not all(character in "0123456789 -" for character in text):
        return False
    doubled = [sum(divmod(digit * 2, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
