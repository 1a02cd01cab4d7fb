"""The carrier by a broker: who takes its messages, as far as is known."""

from __future__ import annotations

from threading import Event
from typing import cast

from sluice_agent.jobs.engine.broker_connection import BrokerConnection
from sluice_agent.jobs.engine.messages import MessageCarrier
from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.server.actions.broker import Broker, Takers
from tests.support.waiting import wait_until

_NEVER = 3_600.0


class _Abandoned:
    """A broker without workers. `asked_again` is set when it is asked after its third answer."""

    def __init__(self) -> None:
        self.asked = 0
        self.asked_again = Event()

    def takers(self, queue: str) -> Takers:
        """Return that no worker takes messages."""
        assert queue == "sluice.jobs"
        self.asked += 1
        if self.asked > 3:
            self.asked_again.set()
        return Takers(0, 0)


def _is_asked_again(search: float) -> bool:
    broker = _Abandoned()
    carrier = MessageCarrier(BrokerConnection(cast("Broker", broker)), EngineOptions(look=0.0, search=search))

    def finds_none() -> bool:
        carrier.watch(is_executing=False)  # as each round of the engine does while runs wait
        return carrier.slots == 0

    try:
        wait_until(finds_none, 10, "a worker is taken for granted")
        carrier.watch(is_executing=False)
        return broker.asked_again.wait(0.2 if search else 10)
    finally:
        carrier.close()


def test_a_worker_is_searched_for_at_a_pace_of_its_own() -> None:
    """After a restart of all workers runs would wait five seconds longer than need be."""
    assert _is_asked_again(search=0.0)
    assert not _is_asked_again(search=_NEVER), "it is asked as where there are workers"
