"""A task's arguments are captured without a call of any method that a user's class defines."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_agent.lifecycle.bounded import is_short
from sluice_agent.lifecycle.redaction import redact
from sluice_agent.model import encode

_SPECIAL_METHODS = {
          "__repr__", "__str__", "__format__", "__hash__", "__eq__", "__ne__", "__lt__", "__len__", "__iter__",
          "__bool__", "__getitem__", "__contains__", "__int__", "__float__", "__index__", "__getattribute__",
          "__reduce_ex__",
          "__sizeof__", "__dir__", "__instancecheck__", "__subclasscheck__", "__fspath__", "__bytes__", "__reversed__",
          "__call__", "__add__", "__mod__", "__complex__", "__trunc__", "__copy__", "__deepcopy__",
          "__array__"}  # fmt: skip
_OTHER_METHODS = {
          "items", "keys", "values", "get", "utcoffset", "tzname", "dst", "isoformat", "total_seconds", "bit_length",
          "replace", "name", "value", "hex", "as_tuple"}  # fmt: skip

_DEFAULTS: dict[str, Any] = {"__bool__": True, "__len__": 1}
"""The results of methods that the base class does not have."""

_watching = False
_called: list[str] = []


class OfTheUserError(Exception):
    """A method of the user's was called."""


def spy(kind: type, name: str) -> Any:
    """Return a method for a subclass of `kind`: it raises while values are captured, else it calls that of `kind`."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _watching:
            _called.append(name)
            raise OfTheUserError(name)
        if hasattr(kind, name):
            return getattr(kind, name)(self, *args, **kwargs)
        if name in _DEFAULTS:
            return _DEFAULTS[name]
        raise TypeError(name)

    return method


def spies(kind: type) -> dict[str, Any]:
    """Return spies for all methods of such a class that capturing might call."""
    return {name: spy(kind, name) for name in _SPECIAL_METHODS | _OTHER_METHODS if getattr(kind, name, spy) is not None}


def class_spy(self: Any) -> type:
    """The `__class__` of a value, which `isinstance` reads."""
    if _watching:
        _called.append("__class__")
        raise OfTheUserError("__class__")
    return type(self)


def name_spy(kind: Any) -> Any:
    """The name of a class, as its metaclass defines it."""
    if _watching:
        _called.append("metaclass __name__")
        raise OfTheUserError("__name__")
    return "named"


def of_the_users(base: type) -> type:
    """Return a subclass of `base` with a metaclass, in which each method is a spy."""
    metaclass = type(base)
    watched = type(metaclass)("Meta", (metaclass,), {**spies(metaclass), "__name__": property(name_spy)})
    return watched("Own", (base,), {**spies(base), "__class__": property(class_spy)})


def is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except Exception:  # noqa: BLE001 - some have no such method
        return False
    return True


class TextOfTheUsers(str):
    """A text for names where Python requires a `str`."""

    __slots__ = ()
    vars().update(spies(str))


class Zone(tzinfo):
    """A time zone of the user's."""

    vars().update(spies(tzinfo))

    def utcoffset(self, when: datetime | None) -> timedelta:
        if _watching:
            _called.append("utcoffset")
            raise OfTheUserError("utcoffset")
        return timedelta(hours=1)

    tzname = dst = utcoffset  # type: ignore[assignment]


class Color(Enum):
    """Members with spies for methods."""

    RED = "red"
    vars().update({name: method for name, method in spies(Enum).items() if name not in ("name", "value")})


class Level(IntEnum):
    """Members that are numbers, with spies for methods."""

    HIGH = 3
    vars().update({name: spy(int, name) for name in ("__repr__", "__str__", "__format__", "__int__", "__index__")})


@dataclass
class Order:
    """A data class."""

    number: int = 1
    vars().update(spies(object))


class Renamed:
    """A class whose name is a text of a user's class."""


Renamed.__name__ = TextOfTheUsers("Renamed")

OWN = {base: of_the_users(base) for base in (
    object, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, deque, OrderedDict,
    defaultdict, date, datetime, time, timedelta, Decimal, Fraction, UUID, PurePosixPath, Exception, Order,
)}  # fmt: skip
NOW = datetime(2024, 5, 6, 7, 8, 9)
ZONES: list[Any] = [
    Zone(),
    timezone(OWN[timedelta](hours=1)),
    timezone(timedelta(hours=2), TextOfTheUsers("CET")),
    ZoneInfo("UTC"),
    timezone.utc,
]
ANY_ZONE = st.sampled_from(ZONES)
SINGLES = st.one_of(
    st.integers().map(OWN[int]),
    st.floats().map(OWN[float]),
    st.text().map(OWN[str]),
    st.binary().map(OWN[bytes]),
    st.binary().map(OWN[bytearray]),
    st.dates().map(lambda day: OWN[date](day.year, day.month, day.day)),
    ANY_ZONE.map(lambda zone: NOW.replace(tzinfo=zone)),
    ANY_ZONE.map(lambda zone: time(7, 8, tzinfo=zone)),
    ANY_ZONE.map(lambda zone: OWN[datetime](2024, 5, 6, tzinfo=zone)),
    ANY_ZONE,
    st.integers(0, 2**128 - 1).map(lambda number: UUID(int=OWN[int](number))),
    st.integers(0, 2**128 - 1).map(lambda number: OWN[UUID](int=number)),
    st.sampled_from([
        Color.RED, Level.HIGH, Order(), OWN[Order](), Renamed(), Renamed, OWN[object](), OWN[object], OWN[complex](1j),
        OWN[Decimal](1), OWN[Fraction](1, 2), OWN[PurePosixPath]("a"), OWN[Exception](Order()), OWN[time](7),
        OWN[timedelta](days=1), memoryview(b"x"), range(3), len, None, True, 1 << 300,
    ]),
)  # fmt: skip
VALUES = st.recursive(
    SINGLES,
    lambda inner: st.one_of(
        *(st.lists(inner, max_size=4).map(kind) for kind in (list, tuple, OWN[list], OWN[tuple], OWN[deque])),
        *(st.lists(SINGLES.filter(is_hashable), max_size=4).map(kind) for kind in (set, OWN[set], OWN[frozenset])),
        *(
            st.lists(st.tuples(SINGLES.filter(is_hashable), inner), max_size=4).map(kind)
            for kind in (dict, OWN[dict], OWN[OrderedDict], lambda items: OWN[defaultdict](list, items))
        ),
    ),
    max_leaves=15,
)


@contextmanager
def watching() -> Iterator[None]:
    """Fail if a method of the user's is called in this block, even if its exception is caught."""
    global _watching  # noqa: PLW0603 - the spies are made before any test
    _called.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    assert _called == []


@settings(deadline=None)
@given(st.deferred(lambda: VALUES))
def test_no_method_of_the_users_is_called_for_what_is_captured(value: Any) -> None:
    """It may be a query, take a lock that the task holds, or a minute: the agent would change the observed task."""
    with watching():
        sent = redact("args", value)
        is_short(value, 100)
        line = encode({"args": sent})
    assert json.loads(line)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (NOW, "datetime.datetime(2024, 5, 6, 7, 8, 9)"),
        (NOW.replace(tzinfo=timezone.utc), "datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc)"),
        (NOW.replace(tzinfo=Zone(), fold=1), "datetime.datetime(2024, 5, 6, 7, 8, 9, fold=1, tzinfo=<Zone>)"),
        (time(7, 8, tzinfo=Zone()), "datetime.time(7, 8, tzinfo=<Zone>)"),
        (time(7, 8, tzinfo=ZoneInfo("UTC")), "datetime.time(7, 8, tzinfo=zoneinfo.ZoneInfo(key='UTC'))"),
        (
            time(7, tzinfo=timezone(timedelta(hours=1), "CET")),
            "datetime.time(7, 0, tzinfo=datetime.timezone(datetime.timedelta(seconds=3600), 'CET'))",
        ),
        (UUID("c0ffee00-cafe-4bad-8bad-c0ffeec0ffee"), "UUID('c0ffee00-cafe-4bad-8bad-c0ffeec0ffee')"),
        (Color.RED, "Color.RED"),
        (Level.HIGH, "Level.HIGH"),
        (OWN[object](), "<Own>"),
        (Renamed(), "<Renamed>"),
        (OWN[str]("text"), "text"),
        (OWN[int](7), 7),
        (OWN[dict]({OWN[str]("a"): OWN[float](1.5)}), {"a": 1.5}),
        (OWN[list]([OWN[tuple]((1, 2))]), [[1, 2]]),
    ],
)
def test_the_text_of_a_value(value: Any, shown: Any) -> None:
    """An argument that is hidden for its class, when its value could be shown, is no help in an incident."""
    with watching():
        sent = redact("args", [value])
    assert sent == [shown]
