"""Random histories, in SQLite and in PostgreSQL: every list is what the records of the jobs say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from hypothesis import Phase, Verbosity, given, settings
from hypothesis import strategies as st

from sluice_agent.model import Framework, JobState
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.jobs import list_jobs
from sluice_agent.server.queries.order import Order
from sluice_agent.server.queries.selection import known_connections
from sluice_agent.server.queries.sorting import SortBy, SortOrder
from sluice_agent.server.queries.stored_job import find_head, load_job
from sluice_agent.server.record.record import record_of
from sluice_agent.server.store import IngestBatch, Store
from sluice_agent.server.timestamps import moment_of
from tests.support.examples import examples
from tests.support.postgresql import new_database
from tests.unit.server.events import at
from tests.unit.server.lives import lives

SECONDS = st.sampled_from([0.0, 1.0, 2.0, 4.001])
FIELDS = {SortBy.WORKER: "workerId"}  # others have the name of the field
_numbers = count(1)


def some(*values: Any) -> st.SearchStrategy[list[Any]]:
    """Return one or two of `values`."""
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


MOMENTS = SECONDS.map(lambda second: moment_of(at(second)))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "states": some(*JobState),
    "names": some("app.first", "app.second", "absent"),
    "queues": some("q", "r"),
    "workers": some("celery@a", "celery@b"),
    "error_classes": some("ValueError", "a.Lost"),
    "framework": st.sampled_from(Framework),
    "root_id": st.sampled_from(["root", "job-0"]),
    "group_id": st.just("group"),
    "created_from": MOMENTS,
    "created_to": MOMENTS,
    "search": st.sampled_from(["FIRST", "app.", "job-1", "nothing"]),
}


@st.composite
def filters(draw: st.DrawFn) -> JobFilter:
    """Return up to two filters: more would select nothing, most of the time."""
    fields = draw(st.lists(st.sampled_from(list(VALUES)), max_size=2, unique=True))
    return JobFilter(**{field: draw(VALUES[field]) for field in fields})


ORDERS = st.builds(Order, st.sampled_from(SortBy), st.sampled_from(SortOrder))


@dataclass(frozen=True, slots=True)
class Listing:
    """What one database shows: the records of all jobs, and the ids in the pages of a list."""

    records: dict[str, dict[str, Any]]
    ids: list[str]


@pytest.fixture(scope="module")
def stores(postgresql_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Store]]:
    """A store on SQLite and one on PostgreSQL."""

    def now() -> datetime:
        return datetime(2026, 2, 27, 12, tzinfo=timezone.utc)

    with (
        new_database(postgresql_port) as address,
        closing(Store(tmp_path_factory.mktemp("lists") / "s.db", now=now)) as sqlite,
        closing(Store(address, now=now)) as postgresql,
    ):
        yield [sqlite, postgresql]


@settings(
    max_examples=examples(60),
    deadline=None,
    phases=[Phase.reuse, Phase.generate],  # to make an example smaller would take minutes
    verbosity=Verbosity.quiet,  # the message has the list; an example has 40,000 characters
)
@given(st.lists(lives(), min_size=2, max_size=5), st.lists(st.tuples(filters(), ORDERS), min_size=6, max_size=12))
def test_a_list_is_what_the_records_say(
    stores: Sequence[Store], histories: list[list[dict[str, Any]]], lists: list[tuple[JobFilter, Order]]
) -> None:
    """A user would look for the failures of an hour, and not find one that its page shows; or find others elsewhere."""
    connection_id = str(UUID(int=next(_numbers)))
    events = [
        {**event, "connectionId": connection_id, "job": {**event["job"], "externalId": f"job-{number}"}}
        for number, history in enumerate(histories)
        for event in history
    ]
    for store in stores:
        store.submit(IngestBatch(events, "2026-02-27")).result(30)
    jobs = len({event["job"]["externalId"] for event in events})
    for wanted, order in lists:
        sqlite, postgresql = (_listing(store, connection_id, jobs, wanted, order) for store in stores)
        assert sqlite.records == postgresql.records
        query = f"{dict(wanted.to_parameters())} by {order.by.value} {order.direction.value}"
        assert sqlite.ids == postgresql.ids, query
        assert sorted(sqlite.ids) == sorted(_matching(sqlite.records, wanted)), query
        values = [sqlite.records[id_][FIELDS.get(order.by, order.by.value)] for id_ in sqlite.ids]
        known = [value for value in values if value is not None]
        assert values == [*known, *[None] * (len(values) - len(known))], query
        assert known == sorted(known, reverse=order.direction is SortOrder.DESC), query


def _listing(store: Store, connection_id: str, jobs: int, wanted: JobFilter, order: Order) -> Listing:
    ids: list[str] = []
    with store.reading() as reader:
        everything = known_connections(reader, None)
        connections = {id_: number for id_, number in everything.items() if id_ == connection_id}
        heads = {f"job-{number}": find_head(reader, connections, f"job-{number}") for number in range(jobs + 5)}
        stored = {id_: head and load_job(reader, head.uuid) for id_, head in heads.items()}
        cursor: str | None = None
        while True:
            page = list_jobs(reader, connections, wanted, order, 2, cursor, now=store.moment)
            ids += [job["externalId"] for job in page.jobs]
            cursor = page.next_cursor
            if cursor is None:
                break
    found = {id_: record_of(job.steps) for id_, job in stored.items() if job is not None}
    assert len(found) == jobs
    assert page.total == len(ids)
    return Listing(found, ids)


def _matching(records: dict[str, dict[str, Any]], wanted: JobFilter) -> Iterator[str]:
    """Yield the ids of the jobs whose records `wanted` describes."""
    is_id = wanted.search in records
    for id_, record in records.items():
        created = moment_of(record["createdAt"]) or 0
        error_class, separator, _ = (record["error"] or "").partition(":")
        if (
            (not wanted.states or record["state"] in {state.value for state in wanted.states})
            and (not wanted.names or record["name"] in wanted.names)
            and (not wanted.queues or record["queue"] in wanted.queues)
            and (not wanted.workers or record["workerId"] in wanted.workers)
            and (not wanted.error_classes or (separator and error_class in wanted.error_classes))
            and wanted.framework in (None, Framework(record["framework"]))
            and wanted.root_id in (None, record["rootId"], id_)
            and wanted.group_id in (None, record["extensions"].get("groupId"))
            and (wanted.created_from is None or created >= wanted.created_from)
            and (wanted.created_to is None or created < wanted.created_to)
            and (wanted.search is None or (wanted.search == id_ if is_id else wanted.search.lower() in record["name"]))
        ):
            yield id_
