"""One evaluation of all rules: readings, states, and the webhooks that follow, written in one transaction."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, delete, select, update
from sqlalchemy.exc import IntegrityError

from sluice_agent.server.alerts.readings import Reading, Scene
from sluice_agent.server.alerts.rules import Rule
from sluice_agent.server.alerts.state import AlertState, Notice, Phase, advanced
from sluice_agent.server.queries.connections import named_connections
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.store import Store
from sluice_agent.server.store.alert_tables import alert
from sluice_agent.server.store.named_connection import NamedConnection
from sluice_agent.server.timestamps import timestamp_of
from sluice_agent.server.webhooks.ledger import NewDelivery, add_delivery

KIND = "alert"
"""The kind of the deliveries."""

_log = logging.getLogger("sluice_agent.server.alerts")


class Evaluated(NamedTuple):
    """A rule, its connection (None: there is none of that name), and what was measured."""

    rule: Rule
    connection: NamedConnection | None
    reading: Reading


class _Change(NamedTuple):
    """A rule's state after an evaluation, and the number of the change that it was made from; None: there was none."""

    evaluated: Evaluated
    state: AlertState
    notice: Notice | None
    began: int | None
    changes: int | None


class _LateError(Exception):
    """Another process has evaluated the rules meanwhile."""


def read_rules(reader: Connection, rules: Sequence[Rule], now: int, past_sums: PastSums) -> list[Evaluated]:
    """Return what each rule measures now."""
    known = named_connections(reader)
    by_name = {name.casefold(): named for named in known for name in (named.id, named.name) if name}
    scenes = {named.number: Scene(reader, named.number, now, past_sums) for named in known}
    evaluated = []
    for rule in rules:
        connection = by_name.get(rule.connection.strip().casefold())
        if connection is None:
            reading = Reading(None, None, f"there is no connection {rule.connection}")
        else:
            reading = scenes[connection.number].read(rule.measure)
        evaluated.append(Evaluated(rule, connection, reading))
    return evaluated


class Evaluation:
    """The evaluation of `rules` over `store`."""

    def __init__(self, store: Store, rules: Sequence[Rule], past_sums: PastSums) -> None:
        self._store = store
        self._rules = rules
        self._past_sums = past_sums

    def run(self) -> int:
        """Evaluate all rules once, and return how many webhooks are to be sent."""
        now = self._store.moment
        with self._store.reading() as reader:
            rows = {row.rule: row for row in reader.execute(select(alert))}
            evaluated = read_rules(reader, self._rules, now, self._past_sums)
        changes = [_change(read, rows.get(read.rule.name), now) for read in evaluated]
        try:
            with self._store.writing() as connection:
                for change in changes:
                    _write(connection, change, now)
                names = [rule.name for rule in self._rules]
                connection.execute(delete(alert).where(alert.c.rule.not_in(names)))
        except (_LateError, IntegrityError):
            return 0  # the process that was faster has written the same
        for change in changes:
            if change.notice is not None:
                _log.warning(
                    "%s: %s: %s", change.notice.value, change.evaluated.rule.name, change.evaluated.reading.text
                )
        return sum(change.notice is not None for change in changes)


def _change(evaluated: Evaluated, row: Row[Any] | None, now: int) -> _Change:
    before = AlertState() if row is None else _state_of(row)
    state, notice = advanced(before, evaluated.reading.is_above, evaluated.rule, now)
    return _Change(evaluated, state, notice, state.since or before.since, None if row is None else row.changes)


def _state_of(row: Row[Any]) -> AlertState:
    return AlertState(Phase(row.phase), row.since, row.clear_since, row.notified_at, row.known_at)


def _write(connection: Connection, change: _Change, now: int) -> None:
    evaluated, state = change.evaluated, change.state
    values = {
        **asdict(state),
        "phase": state.phase.value,
        "connection": evaluated.connection.number if evaluated.connection else None,
        "condition": evaluated.rule.text,
        "evaluated_at": now,
        "value": evaluated.reading.value,
        "text": evaluated.reading.text,
        "changes": (change.changes or 0) + 1,
    }
    if change.changes is None:
        connection.execute(alert.insert().values(rule=evaluated.rule.name, **values))
    else:
        is_same = (alert.c.rule == evaluated.rule.name) & (alert.c.changes == change.changes)
        if not connection.execute(update(alert).where(is_same).values(values)).rowcount:
            raise _LateError
    if change.notice is not None:
        add_delivery(connection, _delivery(change, change.notice, now), now)


def _delivery(change: _Change, notice: Notice, now: int) -> NewDelivery:
    evaluated = change.evaluated
    rule, webhook = evaluated.rule, evaluated.rule.webhook
    body = {"type": notice.value, "timestamp": timestamp_of(now), "data": _data(change)}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return NewDelivery(KIND, rule.name, webhook.secret_env, webhook.url, text, webhook.allows_private)


def _data(change: _Change) -> Mapping[str, Any]:
    rule, connection, reading = change.evaluated
    return {
        "rule": rule.name,
        "connection": {"id": connection.id, "name": connection.name} if connection else None,
        "condition": rule.text,
        "text": reading.text,
        "value": reading.value,
        "limit": rule.measure.above,
        "since": timestamp_of(change.began) if change.began is not None else None,
    }
