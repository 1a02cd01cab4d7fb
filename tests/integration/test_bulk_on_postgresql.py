"""Retries and bulk actions of two servers on one PostgreSQL."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, closing

import pytest
from sqlalchemy import select

from sluice_agent.server.actions.acting import Senders
from sluice_agent.server.actions.ledger import ItemState, Kind
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.store.schema import lease
from tests.support.waiting import wait_until
from tests.unit.server.actions.conftest import Shop

JOBS = 60


def test_two_servers_send_each_job_once(new_postgresql: str) -> None:
    """Behind a balancer, two servers would both take a bulk retry up, and send each e-mail twice."""
    first, second = Shop(new_postgresql), Shop(new_postgresql)  # their clocks differ, so the lease is long
    with closing(first.store), closing(second.store), ExitStack() as stack:
        for number in range(JOBS):
            first.add_job(f"job-{number}")
        actions = [shop.begin(queue="emails", again=True) for shop in (first, second)]
        runners = [shop.runner(lease=shop.lease(3_600)) for shop in (first, second)]
        for runner in runners:
            runner.start()
            stack.callback(runner.close)
        for action in actions:
            wait_until(lambda action=action: first.progress(action)["state"] == "completed", 60, "it does not end")
        assert [first.progress(action)["succeeded"] for action in actions] == [JOBS, JOBS]
        sent = Counter(task_id for shop in (first, second) for task_id, _ in shop.broker.sent)
        claimed = Counter(
            item.task_id for action in actions for item in first.ledger.items(action, ItemState.SUCCEEDED, 10 * JOBS)
        )
        assert sent == claimed
        assert set(sent.values()) == {1}


def test_two_servers_do_not_retry_a_job_at_once(new_postgresql: str) -> None:
    """Of two clicks, or two operators, behind a balancer both would send the e-mail."""
    first, second = Shop(new_postgresql), Shop(new_postgresql)
    refusals: list[str] = []

    def retry(shop: Shop) -> None:
        with Senders() as senders:
            shop.actions.retry(uuid, "key 1", senders, again=False)

    def retry_meanwhile(_: str) -> None:
        with pytest.raises(RefusedError) as refusal:
            retry(second)
        refusals.append(refusal.value.message)

    with closing(first.store), closing(second.store):
        uuid = first.add_job()
        first.broker.on_send = retry_meanwhile
        retry(first)
        retry_meanwhile("")
        assert (len(first.broker.sent), len(second.broker.sent)) == (1, 0)
        assert "just now" in refusals[0]
        assert "was sent again" in refusals[1]
        with first.store.reading() as reader:
            assert reader.scalars(select(lease.c.name).where(lease.c.name.startswith("retry"))).all() == []


def test_jobs_are_selected_and_revoked(new_postgresql: str) -> None:
    """A filter, or a text of a job, that SQLite takes and PostgreSQL does not would fail the action."""
    shop = Shop(new_postgresql)
    with closing(shop.store):
        shop.add_job("job-ä", state="active")
        shop.add_job("job-2")
        action = shop.begin(Kind.REVOKE, search="send", errorClass=[], connectionId=None)
        runner = shop.runner()
        runner.start()
        try:
            wait_until(lambda: shop.progress(action)["state"] == "completed", 30, "it does not end")
        finally:
            runner.close()
        assert shop.progress(action)["succeeded"] == 1
        assert shop.broker.revoked == [["job-ä"]]
