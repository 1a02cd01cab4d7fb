"""How many batches the server holds in memory at a time."""

from __future__ import annotations

import asyncio

import pytest

from sluice_agent.server.admission import Admission, AdmissionLimits, BusyError


async def _enter(admission: Admission, entered: list[str], name: str, leave: asyncio.Event, size: int = 1) -> None:
    async with admission.admit(size):
        entered.append(name)
        await leave.wait()


@pytest.mark.parametrize(
    ("limits", "size"),
    [(AdmissionLimits(admitted=1, waiting=1), 1), (AdmissionLimits(admitted=1, waiting=9, waiting_bytes=1_000), 999)],
    ids=["requests", "bytes"],
)
def test_requests_enter_in_turn_and_too_many_are_refused(limits: AdmissionLimits, size: int) -> None:
    """A crowd of agents after an outage would otherwise take the server's memory until the system kills it."""

    async def scenario() -> list[str]:
        admission, entered, leave = Admission(limits), [], asyncio.Event()
        tasks = [asyncio.create_task(_enter(admission, entered, name, leave, size)) for name in ("a", "b")]
        await asyncio.sleep(0)  # both have run as far as they can
        assert entered == ["a"]
        with pytest.raises(BusyError):
            await _enter(admission, entered, "c", leave, size=2)
        leave.set()
        await asyncio.gather(*tasks)
        await _enter(admission, entered, "d", leave)
        return entered

    assert asyncio.run(scenario()) == ["a", "b", "d"]


def test_a_request_that_gives_up_leaves_its_place() -> None:
    """Each client that closed its connection while it waited would otherwise take a place for ever."""

    async def scenario() -> list[str]:
        admission, entered, leave = Admission(AdmissionLimits(admitted=1, waiting=1)), [], asyncio.Event()
        first = asyncio.create_task(_enter(admission, entered, "a", leave))
        gone = asyncio.create_task(_enter(admission, entered, "gone", leave))
        await asyncio.sleep(0)
        gone.cancel()
        first.cancel()
        await asyncio.gather(first, gone, return_exceptions=True)
        leave.set()
        await _enter(admission, entered, "b", leave)
        return entered

    assert asyncio.run(scenario()) == ["a", "b"]
