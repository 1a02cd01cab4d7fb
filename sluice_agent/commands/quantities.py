"""The values of options that are quantities with a unit: ``7d``, ``5GB``. They are callbacks of click."""

from __future__ import annotations

import re
from datetime import timedelta

import click

_NONE = "none"
_AGES = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_SIZES = {"MB": 1_000_000, "GB": 1_000_000_000, "TB": 1_000_000_000_000}
_SMALLEST = 20_000_000  # bytes: below, what is kept beside jobs takes much of it
_QUANTITY = re.compile(r"([1-9][0-9]{0,5})([A-Za-z]{1,2})", re.ASCII)


def age(_: click.Context, __: click.Parameter, value: str) -> timedelta | None:
    """Return a duration; None for ``none``. Raises `click.BadParameter`."""
    match = _QUANTITY.fullmatch(value)
    if match and match[2].lower() in _AGES:
        return int(match[1]) * _AGES[match[2].lower()]
    if value != _NONE:
        raise click.BadParameter(f"{value!r} is no age: use a number with m, h, d or w, such as 7d, or none")
    return None


def size(_: click.Context, __: click.Parameter, value: str) -> int | None:
    """Return a number of bytes, at least 20 MB; None for ``none``. Raises `click.BadParameter`."""
    match = _QUANTITY.fullmatch(value)
    unit = _SIZES.get(match[2].upper()) if match else None
    if match and unit and int(match[1]) * unit >= _SMALLEST:
        return int(match[1]) * unit
    if value != _NONE:
        raise click.BadParameter(
            f"{value!r} is no size: use a number with MB, GB or TB from 20MB, such as 5GB, or none"
        )
    return None
