"""Bulk actions over a real store: all jobs once, whatever happens in between."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event

from sluice_agent.server.actions.broker import BrokerAwayError, StoredCall, UnconfirmedError
from sluice_agent.server.actions.bulk import BulkRunner
from sluice_agent.server.actions.ledger import BulkAction, ItemState, Kind, Ledger, NewAction
from sluice_agent.server.actions.matching import matching_jobs
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.record.ids import job_uuid
from tests.support.waiting import wait_until
from tests.unit.server.actions.conftest import Shop
from tests.unit.server.events import CONNECTION, job_event


@contextmanager
def running(runner: BulkRunner) -> Iterator[None]:
    runner.start()
    try:
        yield
    finally:
        runner.close()


def run(shop: Shop, action: str, state: str = "completed") -> dict[str, Any]:
    """Run until the action is in this state, and return it with its counts."""
    with running(shop.runner()):
        wait_until(lambda: shop.progress(action)["state"] == state, 10, f"it is not {state}")
    return shop.progress(action)


def test_all_jobs_that_the_filter_selects_are_sent_once(shop: Shop) -> None:
    """Some of a thousand failed jobs would stay failed, or be sent twice."""
    uuids = [shop.add_job(f"job-{number}") for number in range(120)]
    other = shop.add_job("other", state="completed")
    action = shop.begin(queue="emails", name=["app.tasks.send_email"])
    assert shop.progress(action)["total"] is None
    done = run(shop, action)
    assert (done["total"], done["succeeded"], done["failed"], done["pending"]) == (120, 120, 0, 0)
    assert done["finishedAt"] is not None
    sent = Counter(shop.record(uuid)["extensions"]["retriedAs"] for uuid in uuids)
    assert sent == Counter(task_id for task_id, _ in shop.broker.sent)
    assert len(sent) == 120
    assert shop.broker.connections == 1
    assert "retriedAs" not in shop.record(other)["extensions"]


def test_jobs_that_do_not_go_are_counted_by_reason(shop: Shop) -> None:
    """An operator would not see what is still to be done, and why."""
    shop.add_job("good")
    bad = [shop.add_job(f"bad-{number}", argsWhole=False) for number in range(3)]
    done = run(shop, shop.begin())
    assert (done["total"], done["succeeded"], done["failed"]) == (4, 1, 3)
    [error] = done["errors"]
    assert "SLUICE_CAPTURE_ARGS" in error["error"]
    assert error["jobs"] == 3
    assert error["examples"] == [shop.record(uuid)["id"] for uuid in bad]


def test_after_a_kill_no_job_is_sent_twice_and_the_others_are_sent(shop: Shop) -> None:
    """A server that is killed during a bulk retry would send e-mails twice, or stop in the middle."""
    for number in range(5):
        shop.add_job(f"job-{number}")
    action = shop.begin()
    killed_process = shop.ledger.find(action)
    assert killed_process is not None
    assert shop.ledger.start(action, shop.select(killed_process))
    assert shop.ledger.claim(action, 0, "sent-and-seen")
    shop.add(job_event("active", 700, externalId="sent-and-seen", queue="emails"))
    assert shop.ledger.claim(action, 1, "nobody-knows")
    done = run(shop, action)
    assert (done["succeeded"], done["unconfirmed"], done["failed"]) == (4, 1, 0)
    assert len(shop.broker.sent) == 3
    assert "nobody-knows" in done["errors"][0]["error"]
    assert shop.record(job_uuid(CONNECTION, "job-0"))["extensions"]["retriedAs"] == "sent-and-seen"
    assert shop.record(job_uuid(CONNECTION, "sent-and-seen"))["extensions"]["retryOf"] == "job-0"
    assert "retriedAs" not in shop.record(job_uuid(CONNECTION, "job-1"))["extensions"]


def test_the_new_id_is_in_the_database_before_the_message_is_sent(shop: Shop) -> None:
    """After a kill in between, nobody could find out which jobs may have been sent."""
    shop.add_job()
    action = shop.begin()
    known: list[list[str | None]] = []
    shop.broker.on_send = lambda task_id: known.append(
        [task_id, *(item.task_id for item in shop.ledger.items(action, ItemState.SENDING, 10))]
    )
    run(shop, action)
    [(task_id, claimed)] = known
    assert task_id == claimed


def test_a_broker_that_is_away_is_waited_for(shop: Shop) -> None:
    """All jobs of a bulk retry would fail because the broker was restarted."""
    for number in range(3):
        shop.add_job(f"job-{number}")
    shop.broker.is_away = True
    action = shop.begin()
    with running(shop.runner()):
        wait_until(lambda: shop.progress(action)["waitingFor"] is not None, 10, "it does not wait")
        assert "can't be reached" in shop.progress(action)["waitingFor"]
        shop.broker.is_away = False
        wait_until(lambda: shop.progress(action)["state"] == "completed", 10, "it does not go on")
    done = shop.progress(action)
    assert (done["succeeded"], done["waitingFor"]) == (3, None)


def test_an_action_whose_broker_is_away_holds_up_no_other(shop: Shop) -> None:
    """One team's broker that is down for a day would stop the bulk actions of all others."""
    shop.add_job()
    shop.add_job("running", state="active")
    shop.broker.failures = [BrokerAwayError("the broker can't be reached (refused)")] * 1_000
    waiting, following = shop.begin(), shop.begin(Kind.REVOKE, search="running")
    with running(shop.runner()):
        wait_until(lambda: shop.progress(following)["state"] == "completed", 10, "the next action does not run")
        assert shop.progress(waiting)["state"] == "running"
        wait_until(lambda: shop.progress(waiting)["waitingFor"] is not None, 10, "it does not wait")
        shop.broker.failures = []
        wait_until(lambda: shop.progress(waiting)["state"] == "completed", 10, "it is not taken up again")
    assert (len(shop.broker.sent), shop.progress(waiting)["waitingFor"]) == (1, None)


def test_actions_take_turns(shop: Shop) -> None:
    """One job would not be retried before a hundred thousand others are."""
    for number in range(130):
        shop.add_job(f"job-{number}")
    single = shop.add_job("single", state="cancelled")
    many, one = shop.begin(state="failed"), shop.begin(state="cancelled")
    done = run(shop, many)
    assert (done["succeeded"], shop.progress(one)["succeeded"]) == (130, 1)
    order = [task_id for task_id, _ in shop.broker.sent]
    assert order.index(shop.record(single)["extensions"]["retriedAs"]) == 100


def test_an_action_that_is_begun_twice_is_one(shop: Shop) -> None:
    """A double click would send each job twice."""
    job = shop.add_job()
    action = NewAction(str(uuid4()), Kind.RETRY, "key 1", [1], {}, again=True, jobs=[job])
    assert [shop.ledger.create(action), shop.ledger.create(action)] == [True, False]
    done = run(shop, action.id)
    assert (done["succeeded"], len(shop.broker.sent)) == (1, 1)
    assert done["filter"] == {"ids": [shop.record(job)["id"]]}


def test_an_action_at_which_the_server_fails_holds_up_no_other(shop: Shop) -> None:
    """One filter that nobody thought of would stop all bulk actions for ever."""
    shop.add_job()
    bad, good = shop.begin(), shop.begin()

    def select(action: BulkAction) -> Sequence[bytes]:
        if action.id == bad:
            raise ValueError("a filter that can't be read")
        return shop.select(action)

    with running(shop.runner(select)):
        wait_until(lambda: shop.progress(good)["state"] == "completed", 10, "the next action does not run")
        assert "its log has the reason" in shop.progress(bad)["waitingFor"]
        assert shop.ledger.cancel(bad)


def test_a_job_at_which_the_server_fails_does_not_hold_up_the_others(shop: Shop) -> None:
    """One job that nobody thought of would stop all bulk actions for ever."""
    for number in range(3):
        shop.add_job(f"job-{number}", argsWhole=number != 1)
    shop.broker.stored_call = lambda _: 1 // 0  # type: ignore[assignment, method-assign, return-value]
    done = run(shop, shop.begin())
    assert (done["succeeded"], done["unconfirmed"]) == (2, 1)
    assert "its log has the reason" in done["errors"][0]["error"]


def test_an_answer_that_is_lost_is_shown_and_not_repeated(shop: Shop) -> None:
    """The job could run twice."""
    shop.add_job()
    shop.broker.failures = [UnconfirmedError("the connection failed")]
    done = run(shop, shop.begin())
    assert (done["unconfirmed"], done["succeeded"], shop.broker.sent) == (1, 0, [])


def test_the_actions_of_a_key_end_when_it_is_revoked(shop: Shop) -> None:
    """Whoever has found a leaked key would revoke it, and watch a hundred thousand jobs go out."""
    for number in range(4):
        shop.add_job(f"job-{number}")
    action = shop.begin()
    shop.broker.on_send = lambda _: len(shop.broker.sent) == 1 and shop.revoked.add("key 1")
    done = run(shop, action, "cancelled")
    assert (done["succeeded"], done["cancelled"]) == (2, 2)
    wait_until(lambda: shop.log.latest(1)[0].entry.action == "bulk cancel", 10, "it is not in the log")


def test_an_action_that_is_cancelled_stops_at_once(shop: Shop) -> None:
    """A wrong filter could not be stopped before all its jobs have gone out; or, while the broker is away, never."""
    for number in range(4):
        shop.add_job(f"job-{number}")
    action = shop.begin()
    shop.broker.on_send = lambda _: len(shop.broker.sent) == 1 and shop.ledger.cancel(action)
    done = run(shop, action, "cancelled")
    assert (done["succeeded"], done["cancelled"]) == (2, 2)
    assert not shop.ledger.cancel(action)
    shop.broker.is_away = True
    for number in range(4):
        shop.add_job(f"more-{number}")
    waiting = shop.begin(again=True)
    with running(shop.runner()):
        wait_until(lambda: shop.progress(waiting)["waitingFor"] is not None, 10, "it does not wait")
        assert shop.ledger.cancel(waiting)
        shop.broker.is_away = False
        following = shop.begin(Kind.REVOKE)
        wait_until(lambda: shop.progress(following)["state"] == "completed", 10, "the next action does not run")


def test_jobs_are_revoked_together(shop: Shop) -> None:
    """A thousand waiting jobs would need a thousand broadcasts to every worker."""
    for number in range(150):
        shop.add_job(f"job-{number}", state="active")
    done = run(shop, shop.begin(Kind.REVOKE))
    assert (done["succeeded"], done["total"]) == (150, 150)
    assert [len(ids) for ids in shop.broker.revoked] == [100, 50]


class WatchedLedger(Ledger):
    """A ledger that counts how often a process looks for an action."""

    looks = 0

    def next_open(self, postponed: Collection[str] = ()) -> BulkAction | None:
        self.looks += 1
        return super().next_open(postponed)


def test_one_process_of_several_runs_actions(shop: Shop) -> None:
    """Two servers would run the same action, or two actions with the same jobs at once."""
    other = shop.lease(3_600)
    assert other.is_held()
    shop.add_job()
    action = shop.begin()
    selected: list[str] = []

    def select(action: BulkAction) -> Sequence[bytes]:
        selected.append(action.id)
        return shop.select(action)

    shop.ledger = watched = WatchedLedger(shop.store, shop.now)
    with running(shop.runner(select, shop.lease(0.01))):
        wait_until(lambda: watched.looks > 2, 10, "the process looks for no action")
        assert selected == []
        other.release()
        wait_until(lambda: shop.progress(action)["state"] == "completed", 10, "nobody runs it")
    assert selected == [action]
    assert shop.lease(1).is_held()  # it was given back


def test_actions_of_long_ago_are_removed(shop: Shop) -> None:
    """The database would keep each job of each bulk action for ever."""
    shop.add_job()
    old = shop.begin()
    run(shop, old)
    shop.time += timedelta(days=31)
    new = shop.begin()
    assert shop.ledger.progress(old) is None
    assert shop.ledger.progress(new) is not None
    assert shop.ledger.items(old, ItemState.SUCCEEDED, 10) == []


@pytest.mark.parametrize(
    ("wanted", "jobs"),
    [
        ({}, 3),
        ({"state": "cancelled"}, 1),
        ({"state": "cancelled,failed"}, 3),
        ({"queue": ["emails"], "search": "END_E"}, 3),
        ({"search": "job-1"}, 1),
        ({"errorClass": "ValueError"}, 3),
        ({"errorClass": "KeyError"}, 0),
        ({"connectionId": CONNECTION}, 3),
        ({"from": "2026-02-27T10:00:00Z"}, 3),
        ({"to": "2026-02-27T10:00:00Z"}, 0),
    ],
)
def test_the_filters_of_the_list_select(shop: Shop, wanted: dict[str, Any], jobs: int) -> None:
    """An operator would retry other jobs than those in the list before his eyes."""
    shop.add_job("job-1")
    shop.add_job("job-2")
    shop.add_job("job-3", state="cancelled")
    shop.add_job("job-4", state="completed")
    assert run(shop, shop.begin(**wanted))["total"] == jobs


def test_jobs_are_found_by_an_index(shop: Shop) -> None:
    """Whoever retries ten failed jobs of a million would wait until all are read."""
    found = [shop.add_job(f"job-{number}", state=state) for number, state in enumerate(("failed", "cancelled") * 3)]
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(shop.store.engine, "before_cursor_execute", note)
    wanted = JobFilter.from_json({"name": "app.tasks.send_email", "state": ["failed", "cancelled"]})
    with shop.store.reading() as reader:
        assert matching_jobs(reader, wanted, [1], shop.store.moment) == found
        reads = [each for each in statements if "job.uuid" in each[0]]
        plans = [
            row.detail for each in reads for row in reader.exec_driver_sql(f"EXPLAIN QUERY PLAN {each[0]}", each[1])
        ]
    assert len(plans) == 2
    assert all("INDEX job_by_state (connection=? AND state=?)" in plan for plan in plans), plans


def test_an_action_goes_on_after_a_database_that_was_away(shop: Shop, tmp_path: Path) -> None:
    """Jobs that were not sent would be shown as perhaps sent, and nobody would send them again."""
    path, away = tmp_path / "sluice.db", tmp_path / "away.db"
    for number in range(3):
        shop.add_job(f"job-{number}", argsWhole=number == 0)

    class Returning(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if away.exists() and record.levelno == logging.ERROR:  # the store has noticed it
                away.rename(path)

    def stored_call(_task_id: str) -> StoredCall:
        if not lookups:
            path.rename(away)  # before the job is claimed
        lookups.append(_task_id)
        return StoredCall("app.tasks.send_email", [1], {})

    lookups: list[str] = []
    shop.broker.stored_call = stored_call  # type: ignore[method-assign]
    logger, handler = logging.getLogger("sluice_agent.server"), Returning()
    logger.addHandler(handler)
    try:
        done = run(shop, shop.begin())
    finally:
        logger.removeHandler(handler)
    assert (done["succeeded"], len(shop.broker.sent)) == (3, 3)
