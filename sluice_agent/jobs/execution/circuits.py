"""The circuits of endpoints in the database: what attempts have seen of them. One without a row is closed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from sluice_agent.jobs.attempts.answers import ErrorClass
from sluice_agent.jobs.attempts.circuit import CLOSED, Circuit, admit, after
from sluice_agent.jobs.store.schema import circuit

_SECOND = 1_000_000  # microseconds


class SeenAnswer(NamedTuple):
    """What an attempt has seen of an endpoint. None is the class of a success."""

    project_id: str
    url: str
    error_class: ErrorClass | None


def note_answers(writer: Connection, answers: Iterable[SeenAnswer], now: int) -> None:
    """Record what attempts have seen of endpoints, in this order."""
    by_circuit: dict[tuple[str, str], list[ErrorClass | None]] = {}
    for answer in answers:
        by_circuit.setdefault((answer.project_id, answer.url), []).append(answer.error_class)
    for (project_id, url), classes in sorted(by_circuit.items()):
        _note(writer, project_id, url, classes, now)


def _note(writer: Connection, project_id: str, url: str, classes: Iterable[ErrorClass | None], now: int) -> None:
    key = {"project": project_id, "address": url}
    row = writer.execute(_FIND, key).one_or_none()
    open_until = None if row is None or row.open_until is None else row.open_until / _SECOND
    before = changed = CLOSED if row is None else Circuit(row.failures, open_until)
    for error_class in classes:
        changed = after(changed, error_class, now / _SECOND)
    if changed == before:
        return
    if changed == CLOSED:
        writer.execute(_DELETE, key)
        return
    until = None if changed.open_until is None else round(changed.open_until * _SECOND)
    values = {"failures": changed.failures, "open_until": until}
    if row is None:
        writer.execute(_INSERT, {"project_id": project_id, "url": url, **values})
    else:
        writer.execute(_UPDATE, {**key, **values})


class Admissions:
    """Which requests may be sent at the moment `now`, in one transaction. A circuit that is closed is read once."""

    def __init__(self, writer: Connection, now: int) -> None:
        self._writer = writer
        self._now = now
        self._closed: set[tuple[str, str]] = set()

    def asks_at(self, project_id: str, url: str, probe: float) -> int | None:
        """Return None if a request may be sent to an endpoint, or the moment from which on it may be asked for again.

        The first one after a circuit was open is a probe, which may take `probe` seconds.
        """
        if (project_id, url) in self._closed:
            return None
        key = {"project": project_id, "address": url}
        row = self._writer.execute(_FIND, key).one_or_none()
        if row is None or row.open_until is None:
            self._closed.add((project_id, url))
            return None
        before = Circuit(row.failures, row.open_until / _SECOND)
        admitted, asks_at = admit(before, self._now / _SECOND, probe)
        if asks_at is not None or admitted.open_until is None:
            return None if asks_at is None else int(row.open_until)
        values = {"failures": admitted.failures, "open_until": round(admitted.open_until * _SECOND)}
        self._writer.execute(_UPDATE, {**key, **values})
        return None


_IS_OF = (circuit.c.project_id == bindparam("project")) & (circuit.c.url == bindparam("address"))
_FIND = select(circuit).where(_IS_OF).with_for_update()
_DELETE = delete(circuit).where(_IS_OF)
_INSERT = insert(circuit)
_UPDATE = update(circuit).where(_IS_OF)
