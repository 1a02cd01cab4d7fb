"""Two destinations side by side: neither delays, doubles or costs the other anything."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.settings import Settings
from sluice_agent.transport import removal, shipper
from sluice_agent.transport.audience import Audience
from sluice_agent.transport.cursor import Cursor, cursor_path, load
from sluice_agent.transport.eviction import room_for_more
from sluice_agent.transport.folder import EVENTS, VITALS, journal_files
from sluice_agent.transport.journal import Journal
from sluice_agent.transport.reader import next_batch
from sluice_agent.transport.report import report_on
from sluice_agent.transport.shippers import Shippers, destinations
from tests.support.ackly import Ackly, created, refuses
from tests.support.endpoint import Endpoint
from tests.support.waiting import wait_until
from tests.unit.transport.lines import CONNECTION, EVERY_END, event, heartbeat, job, report, write_file

Start = Callable[..., Shippers]


def told(ackly: Ackly) -> list[str]:
    """What was ingested, in order."""
    return [each["externalId"] for each in list(ackly.events)]


def test_one_that_is_down_delays_nothing_in_the_other(
    folder: Path, ackly: Ackly, endpoint: Endpoint, start: Start
) -> None:
    """Ackly's monthly limit lasts for days: Sluice goes on, and Ackly is told everything when it is over."""
    ackly.standing(refuses(429, {"Retry-After": "1"}))
    journal = Journal(folder, 64_000_000)
    start()
    for number in range(50):
        journal.append(job(number, "completed"))
    wait_until(lambda: len(endpoint.events) == 50)
    assert told(ackly) == []
    assert report(folder, "ackly")["pending"] == 50
    wait_until(lambda: "429" in str(report(folder, "ackly")["last_error"]))
    assert report(folder, "sluice")["last_error"] is None
    endpoint.down()
    for number in range(50, 100):
        journal.append(job(number, "completed"))
    journal.close()
    ackly.standing(created)
    wait_until(lambda: len(ackly.events) == 100, 20)
    assert report(folder, "sluice")["pending"] == 50
    endpoint.up()


def test_a_full_folder_costs_the_one_that_lags(folder: Path, ackly: Ackly, endpoint: Endpoint, start: Start) -> None:
    """Ackly is down and its backlog fills the folder: Sluice, which is up, loses no event and no heartbeat by it."""
    ackly.standing(refuses(429, {"Retry-After": "1"}))
    journal = Journal(folder, 1_000_000)
    start()
    for number in range(2_000):
        journal.append(job(number, "completed", error="x" * 1_000))
        if number % 100 == 0:
            journal.append(heartbeat(number), VITALS)
            wait_until(lambda sent=number: len(endpoint.events) >= sent)
    wait_until(lambda: len(endpoint.events) == 2_020)
    journal.close()
    assert report(folder, "sluice")["dropped"] == {}
    ackly.standing(created)
    wait_until(lambda: report(folder, "ackly")["pending"] == 0, 30)
    found = report(folder, "ackly")
    assert found["captured"] == 2_000
    assert found["dropped"] == {"journal_full": 2_000 - found["delivered"]} != {"journal_full": 0}
    assert 0 <= len(ackly.events) - found["delivered"] <= 1  # one may have been evicted while it was on its way


def test_two_may_read_a_file_at_once(folder: Path) -> None:
    """While one waits an hour with a file in its hands, the other must still see that its writer is gone."""
    write_file(folder, job(1, "completed"), torn=b'{"type":"job')
    first = next_batch(folder, {}, 1, 1_000_000, Audience("ackly", EVERY_END))
    second = next_batch(folder, {}, 500, 1_000_000, Audience("sluice"))
    assert (len(first.lines), len(second.lines), second.dropped) == (1, 1, {"corrupt": 1})
    first.release()
    second.release()


def test_what_is_passed_over_is_not_held(folder: Path) -> None:
    """Ackly waits for its next month: a week of files that hold nothing for it must not stay locked all the while."""
    passed = [write_file(folder, job(number, "queued")) for number in range(3)]
    write_file(folder, job(4, "completed"))
    audience, offsets = Audience("ackly", EVERY_END), dict[str, int]()
    for name in passed:
        batch = next_batch(folder, offsets, 1, 1_000_000, audience)
        assert (list(batch.offsets), batch.lines, batch.skipped, batch.is_full) == ([name], [], 1, True)
        offsets |= batch.offsets
        batch.release()
    batch = next_batch(folder, offsets, 1, 1_000_000, audience)
    assert batch.lines == [job(4, "completed")]
    batch.release()


def test_what_one_has_not_read_goes_before_what_nobody_has(folder: Path) -> None:
    """The backlog of Ackly, which has been down for days, must not cost the heartbeats that Sluice is about to get."""
    backlog = write_file(folder, job(1, "completed", error="x" * 300_000))
    fresh = write_file(folder, heartbeat(1, filler=300_000), lane=VITALS)
    also_fresh = write_file(folder, job(2, "completed", error="x" * 300_000))
    size = (folder / backlog).stat().st_size
    Cursor(cursor_path(folder, "sluice"), {backlog: size}).save()
    Cursor(cursor_path(folder, "ackly"), choice=EVERY_END).save()
    said: list[Any] = []
    room_for_more(folder, 1_000_000, said.append)
    assert journal_files(folder) == [fresh, also_fresh]
    assert said == [{"ackly": 1}]


def test_a_switched_off_destination_does_not_fill_the_disk(
    folder: Path, endpoint: Endpoint, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes the Ackly key away keeps the backlog for a day, for the case that it was a mistake, and no longer."""
    monkeypatch.delenv("ACKLY_INGEST_KEY", raising=False)
    write_file(folder, job(1, "completed"), job(2, "queued"), lane=EVENTS)
    place = Cursor(cursor_path(folder, "ackly"), choice=EVERY_END)
    place.save()
    sluice = start(ackly_ingest_key=None)
    wait_until(lambda: report(folder, "sluice")["delivered"] == 2)
    assert journal_files(folder)
    sluice.stop(1)
    long_ago = time.time() - 90_000
    os.utime(place.path, (long_ago, long_ago))
    again = start(ackly_ingest_key=None)
    wait_until(lambda: again._all[0]._mine)
    again.stop(5)
    start(begin=False, ackly_ingest_key=None).deliver(5)
    assert journal_files(folder), "the one that ships to Ackly may be about to start"
    monkeypatch.setattr(shipper, "_UP_FOR", 0.0)
    start(begin=False, ackly_ingest_key=None).deliver(5)
    assert journal_files(folder), "a command sees one moment of a host"
    start(ackly_ingest_key=None)
    wait_until(lambda: not journal_files(folder), 10, "the files stay")
    assert report(folder, "ackly")["dropped"] == {"switched_off": 1}
    assert time.time() - place.path.stat().st_mtime > 80_000


def test_one_that_ships_counts_however_old_its_place(folder: Path, ackly: Ackly, start: Start) -> None:
    """A destination that has been down for a week still waits for what it has not been told."""
    ackly.standing(refuses(429))
    name = write_file(folder, job(1, "completed"))
    start()
    wait_until(lambda: report(folder, "sluice")["delivered"] == 1 and report(folder, "ackly")["last_error"])
    path = cursor_path(folder, "ackly")
    os.utime(path, (0, 0))
    removal.remove_passed(folder, load(cursor_path(folder, "sluice")))
    assert journal_files(folder) == [name]


def test_a_worker_may_tell_ackly_alone(folder: Path, ackly: Ackly, start: Start) -> None:
    """Without a Sluice account there is no cursor of Sluice that would hold the files, and no accounts to look at."""
    write_file(folder, job(1, "completed"), event(2))
    write_file(folder, heartbeat(1), lane=VITALS)
    alone = {"api_key": None, "connection_id": None}
    start(**alone)
    wait_until(lambda: not journal_files(folder), 10, "the files stay")
    assert told(ackly) == ["job-1"]
    assert destinations(Settings(ackly_ingest_key=ackly.key, **alone)) == {"ackly": EVERY_END}
    assert report_on(folder, {"ackly": EVERY_END})["destinations"].keys() == {"ackly"}


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"api_key": "sk_test", "connection_id": CONNECTION}, ["sluice"]),
        ({"api_key": "sk_test", "connection_id": CONNECTION, "ackly_ingest_key": "k"}, ["sluice", "ackly"]),
        ({"connection_id": CONNECTION, "ackly_ingest_key": "k"}, ["ackly"]),
        ({"ackly_ingest_key": "k"}, ["ackly"]),
        ({"connection_id": CONNECTION, "ship": "never"}, ["sluice"]),
        ({}, ["sluice"]),
    ],
)
def test_a_destination_is_one_that_somebody_ships_to(keys: dict[str, Any], named: list[str]) -> None:
    """Apps that tell Ackly alone, each in a journal of its own: `flush()` and `status` would wait for Sluice."""
    nothing = {"api_key": None, "connection_id": None, "ackly_ingest_key": None}
    assert list(destinations(Settings(**{**nothing, **keys}))) == named


def test_what_waits_is_right_before_anybody_has_shipped(folder: Path) -> None:
    """A status that counts starts and heartbeats as waiting for Ackly would cry wolf on the first day."""
    write_file(folder, job(1, "queued"), job(1, "active"), job(1, "completed"))
    assert report_on(folder, {"sluice": None, "ackly": EVERY_END})["destinations"]["ackly"]["pending"] == 1
