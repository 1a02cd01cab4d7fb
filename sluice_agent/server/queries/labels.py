"""Texts of `label` and their numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, bindparam, exists, select

from sluice_agent.server.store.schema import LabelKind, job, label

_MAX_VALUES = 500  # in one list of a statement
_KEPT = 10_000  # texts of a database that are kept
_COLUMNS = {
    LabelKind.NAME: job.c.name,
    LabelKind.QUEUE: job.c.queue,
    LabelKind.WORKER: job.c.worker,
    LabelKind.ERROR_CLASS: job.c.error_class,
}


def find_labels(reader: Connection, kind: LabelKind, texts: Iterable[str]) -> list[int]:
    """Return the numbers of those `texts` that are labels of this kind."""
    statement = select(label.c.number).where(label.c.kind == kind, label.c.text.in_(sorted(set(texts))))
    return list(reader.scalars(statement))


def find_names(reader: Connection, part: str) -> list[int]:
    """Return the numbers of the tasks' names that contain `part`, in any case of the letters A to Z."""
    contains = label.c.text.icontains(part, autoescape=True)
    return list(reader.scalars(select(label.c.number).where(label.c.kind == LabelKind.NAME, contains)))


def texts_of(reader: Connection, numbers: Iterable[int | None]) -> dict[int, str]:
    """Return the texts of labels by their numbers. They never change, so those that were read are kept."""
    kept = _texts.setdefault(reader.engine, {})
    wanted = {number for number in numbers if number is not None}
    texts = {number: kept[number] for number in wanted if number in kept}
    unread = sorted(wanted.difference(texts))
    for start in range(0, len(unread), _MAX_VALUES):
        chunk: Collection[int] = unread[start : start + _MAX_VALUES]
        texts.update((number, text) for number, text in reader.execute(_TEXTS, {"numbers": chunk}))
    if unread:
        _keep(reader.engine, {number: texts[number] for number in unread if number in texts})
    return texts


_TEXTS = select(label.c.number, label.c.text).where(label.c.number.in_(bindparam("numbers", expanding=True)))
_texts: WeakKeyDictionary[Engine, dict[int, str]] = WeakKeyDictionary()
"""The texts that were read of each database. Any thread may read them: a change replaces all of a database."""


def _keep(engine: Engine, texts: dict[int, str]) -> None:
    kept = _texts.get(engine, {})
    _texts[engine] = {**kept, **texts} if len(kept) + len(texts) <= _KEPT else texts


def texts_in_use(reader: Connection, connection: int, kind: LabelKind, limit: int) -> list[str]:
    """Return the texts of this kind that jobs of a connection have, in their order, as far as `limit`."""
    is_used = exists().where(job.c.connection == connection, _COLUMNS[kind] == label.c.number)
    query = select(label.c.text).where(label.c.kind == kind, is_used).order_by(label.c.text).limit(limit)
    return list(reader.scalars(query))
