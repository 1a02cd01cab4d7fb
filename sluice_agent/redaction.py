"""What leaves a task's arguments and results, when a user has asked for them: small, plain, and without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sluice_agent.async_exceptions import is_asynchronous
from sluice_agent.bounded import Limits, bounded
from sluice_agent.log import complain
from sluice_agent.model import encode

Redact = Callable[[str, Any], Any]
"""Called with the name (args, kwargs or result) and the value; returns what may leave the process."""

HIDDEN = "[redacted]"

_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)?$|pwd|secret|token|api_?key|authorization|auth_?header|cookie|session_?id|credential|"
    r"private_?key|card_?(number|no)|cvc|cvv|iban|ssn|social_?security",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(r"\b(?:bearer|basic)\s+[\w.~+/=-]{8,}|\b[sprw]k_\w{8,}|//[^/\s:@]+:[^/\s@]+@", re.IGNORECASE)
_CARD_NUMBER = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")
_KEPT = Limits(text=1_000, items=50, depth=6, total=20_000)
_KEPT_OF_A_HOOK = Limits(text=10_000, items=1_000, depth=20, total=100_000)
"""The user has chosen it, and a batch of events has a megabyte."""


def redact(name: str, value: Any) -> Any:
    """The default hook: `value` as plain JSON, cut to size, secrets replaced. `name` is args, kwargs or result.

    An object of a class of somebody's is shown by the name of that: its `__repr__` may take any time and memory.

    Hidden are values under a name that says password, token, secret, authorization, card number and the like, and in
    texts what looks like a card number, a bearer token, a key or the password of a URL.
    """
    return HIDDEN if _SECRET_NAME.search(name) else bounded(value, _KEPT, finish=_without_secrets, hide=_hidden)


def unfailing(hook: Redact | None) -> Redact:
    """`hook`, else `redact`, but where it raises or returns what is no JSON the value is hidden, and the event sent.

    What a hook returns is cut where it is large.
    """
    if hook is None:
        hook = redact

    def redacted(name: str, value: Any) -> Any:
        try:
            sent = hook(name, value)
            if hook is not redact:
                sent = bounded(sent, _KEPT_OF_A_HOOK, name_others=False)
            encode(sent)
        except Exception as error:
            if is_asynchronous(error):
                raise
            complain("redact", "redact raised %s: %s; the value is hidden.", type(error).__name__, error)
            return HIDDEN
        return sent

    return redacted


def _hidden(name: str) -> str | None:
    return HIDDEN if _SECRET_NAME.search(name) else None


def _without_secrets(text: str) -> str:
    text = _SECRET_TEXT.sub(HIDDEN, text)
    return _CARD_NUMBER.sub(lambda found: HIDDEN if _is_card(found[0]) else found[0], text)


def _is_card(text: str) -> bool:
    """Whether the digits of `text` have the length and the check digit (Luhn) of a card's number."""
    digits = [int(character) for character in text if character.isdecimal()]
    if not 13 <= len(digits) <= 19 or not all(character in "0123456789 -" for character in text):
        return False
    doubled = [sum(divmod(digit * 2, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
