"""Changes of several requests in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from sluice_agent.jobs.store.grouped import GroupedChanges
from sluice_agent.jobs.store.schema import meta
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.store.driver import UnavailableError
from tests.unit.jobs.conftest import Clock


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobsStore]:
    store = JobsStore(tmp_path / "sluice.db", Clock())
    yield store
    store.close()


def put(name: str) -> Any:
    """Return a change that stores a row, and returns the number of its transaction's rows."""

    def change(writer: Connection) -> str:
        writer.execute(meta.insert().values(name=name, value=""))
        return name

    return change


def fail(_: Connection) -> None:
    raise ZeroDivisionError


def names(store: JobsStore) -> set[str]:
    with store.reading() as reader:
        return set(reader.scalars(select(meta.c.name))) - {"token_secret"}


def test_a_change_that_fails_takes_no_other_with_it(store: JobsStore) -> None:
    """A report that the server can't take would cost those that came at the same time."""
    changes = GroupedChanges(store)
    is_begun, goes_on = threading.Event(), threading.Event()

    def wait(_: Connection) -> None:
        is_begun.set()
        goes_on.wait(10)

    first = changes.submit(wait)
    assert is_begun.wait(10)
    futures = [changes.submit(change) for change in (put("a"), fail, put("b"))]
    canceled = changes.submit(put("c"))
    assert canceled.cancel()
    goes_on.set()
    assert first.result(10) is None
    assert [futures[0].result(10), futures[2].result(10)] == ["a", "b"]
    with pytest.raises(ZeroDivisionError):
        futures[1].result(10)
    changes.close()
    assert names(store) == {"a", "b"}


def test_changes_of_one_kind_are_made_together(store: JobsStore) -> None:
    """Under load each run would take as many statements as it does alone; or have the answer of another one."""
    changes = GroupedChanges(store)
    is_begun, goes_on = threading.Event(), threading.Event()
    sizes: list[int] = []

    def wait(_: Connection) -> None:
        is_begun.set()
        goes_on.wait(10)

    def put_all(writer: Connection, given: Sequence[str]) -> list[str]:
        sizes.append(len(given))
        writer.execute(meta.insert(), [{"name": name, "value": ""} for name in given])
        if "bad" in given:
            raise ZeroDivisionError
        return [f"{name}!" for name in given]

    changes.submit(wait)
    assert is_begun.wait(10)
    futures = [changes.join(put_all, "a"), changes.submit(put("x")), changes.join(put_all, "b")]
    bad = changes.join(put_all, "bad")
    goes_on.set()
    assert [future.result(10) for future in futures] == ["a!", "x", "b!"]
    with pytest.raises(ZeroDivisionError):
        bad.result(10)
    changes.close()
    assert (sizes, names(store)) == ([3, 1, 1, 1], {"a", "b", "x"})


def test_what_waits_is_made_before_the_end(store: JobsStore) -> None:
    """A report would be lost as the server stops, although its worker was told that it has it."""
    changes = GroupedChanges(store)
    futures = [changes.submit(put(str(number))) for number in range(250)]
    changes.close()
    assert [future.result(0) for future in futures] == [str(number) for number in range(250)]
    assert len(names(store)) == 250
    with pytest.raises(UnavailableError, match="shutting down"):
        changes.submit(fail)


def test_a_wrong_statement_is_the_fault_of_its_change_alone(store: JobsStore) -> None:
    """One fault in the program would look like a database that is away."""
    changes = GroupedChanges(store)
    futures = [changes.submit(lambda writer: writer.execute(text("SELECT nothing"))), changes.submit(put("a"))]
    assert futures[1].result(10) == "a"
    assert futures[0].exception(10) is not None
    changes.close()
