"""The circuits of endpoints in the database: what attempts have seen of them. One without a row is closed."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from sluice_agent.jobs.attempts.answers import ErrorClass
from sluice_agent.jobs.attempts.circuit import CLOSED, Circuit, admit, after
from sluice_agent.jobs.store.schema import circuit

_SECOND = 1_000_000  # microseconds


def note_answer(writer: Connection, project_id: str, url: str, error_class: ErrorClass | None, now: int) -> None:
    """Record what an attempt has seen of an endpoint. None is the class of a success."""
    key = {"project": project_id, "address": url}
    row = writer.execute(_FIND, key).one_or_none()
    open_until = None if row is None or row.open_until is None else row.open_until / _SECOND
    before = CLOSED if row is None else Circuit(row.failures, open_until)
    changed = after(before, error_class, now / _SECOND)
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


def admit_request(writer: Connection, project_id: str, url: str, now: int, probe: float) -> int | None:
    """Return None if a request may be sent to an endpoint now, or the moment from which on it may be asked for again.

    The first one after a circuit was open is a probe, which may take `probe` seconds.
    """
    key = {"project": project_id, "address": url}
    row = writer.execute(_FIND, key).one_or_none()
    if row is None or row.open_until is None:
        return None
    before = Circuit(row.failures, row.open_until / _SECOND)
    admitted, asks_at = admit(before, now / _SECOND, probe)
    if asks_at is not None or admitted.open_until is None:
        return None if asks_at is None else int(row.open_until)
    writer.execute(_UPDATE, {**key, "failures": admitted.failures, "open_until": round(admitted.open_until * _SECOND)})
    return None


_IS_OF = (circuit.c.project_id == bindparam("project")) & (circuit.c.url == bindparam("address"))
_FIND = select(circuit).where(_IS_OF).with_for_update()
_DELETE = delete(circuit).where(_IS_OF)
_INSERT = insert(circuit)
_UPDATE = update(circuit).where(_IS_OF)
