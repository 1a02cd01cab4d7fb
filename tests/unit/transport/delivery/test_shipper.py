"""The shipper against an endpoint that misbehaves: every event is settled once, and counted."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.transport.delivery import shipper
from sluice_agent.transport.delivery.responses import Refused, Settled, Verdict
from sluice_agent.transport.delivery.shipper import Shipper
from sluice_agent.transport.journal.cursor import Cursor, cursor_path, load_cursor
from sluice_agent.transport.journal.directory import journal_files
from sluice_agent.transport.journal.line import EVENTS
from sluice_agent.transport.journal.retention import ensure_room
from sluice_agent.transport.journal.writer import JournalWriter
from tests.support import misbehaviour
from tests.support.endpoint import Endpoint, event_id_of
from tests.support.process import ROOT
from tests.support.waiting import wait_until
from tests.unit.transport.lines import event, figures, sluice_at, write_file

Ship = Callable[..., Shipper]


def numbers(endpoint: Endpoint) -> list[int]:
    return [int(str(event_id_of(wire_event)).removeprefix("event-")) for wire_event in endpoint.events]


def settled(directory: Path, **expected: Any) -> bool:
    stats = {name: value for name, value in figures(directory).items() if value}
    return stats == {"captured": sum_of(expected), **expected}


def sum_of(expected: dict[str, Any]) -> int:
    return sum(expected.get(name, 0) for name in ("delivered", "rejected", "pending")) + sum(
        expected.get("dropped", {}).values()
    )


def dead_letters(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((directory / "dead").glob("*.json"))]


def test_everything_arrives_and_the_files_are_removed(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """Delivered events that stay on the disk fill it."""
    write_file(directory, *map(event, range(1_200)))
    ship()
    wait_until(lambda: settled(directory, delivered=1_200))
    wait_until(lambda: journal_files(directory) == [])
    assert numbers(endpoint) == list(range(1_200))
    assert [len(request.events) for request in endpoint.requests] == [500, 500, 200]
    assert load_cursor(cursor_path(directory, "sluice")).offsets == {}


def test_what_trickles_in_goes_in_batches(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """A request for each event would meet the endpoint's rate limit, and cost the host more than its tasks."""
    journal = JournalWriter(directory, 64_000_000)
    ship(interval=0.2)
    for number in range(200):
        journal.append(event(number))
        time.sleep(0.002)
    wait_until(lambda: len(endpoint.events) == 200)
    journal.close()
    assert len(endpoint.requests) <= 10


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_what_fails_and_then_works_arrives_once(ship: Ship, directory: Path, endpoint: Endpoint, status: int) -> None:
    """A deployment of the endpoint must cost no event and double none."""
    endpoint.script(*[misbehaviour.status(status)] * 3)
    write_file(directory, *map(event, range(10)))
    ship()
    wait_until(lambda: settled(directory, delivered=10))
    assert numbers(endpoint) == list(range(10))
    assert endpoint.duplicates == []
    assert len(endpoint.requests) == 4


@pytest.mark.parametrize("loss", [misbehaviour.lost_answer, misbehaviour.reset_mid_answer])
def test_a_lost_answer_brings_the_same_bytes_again(
    ship: Ship, directory: Path, endpoint: Endpoint, loss: misbehaviour.Behaviour
) -> None:
    """The endpoint recognises a repetition by its bytes and its key: with others, everything would be shown twice."""
    endpoint.script(loss)
    write_file(directory, *map(event, range(10)))
    ship()
    wait_until(lambda: settled(directory, delivered=10, duplicates=10))
    first, second = endpoint.requests
    assert first.raw == second.raw
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert numbers(endpoint) == list(range(10))


def test_a_failure_that_a_person_must_mend_is_logged_once(
    ship: Ship, directory: Path, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that was revoked on a Friday would fill the log until Monday, and its repair would not be seen."""
    caplog.set_level(logging.INFO, "sluice_agent")
    endpoint.script(*[misbehaviour.status(401)] * 5)
    write_file(directory, event(1))
    ship()
    wait_until(lambda: settled(directory, delivered=1))
    wait_until(lambda: len(caplog.records) == 2)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.endswith("It refuses SLUICE_API_KEY: `sluice-agent doctor` checks it")
    assert second == "Events are delivered to sluice now."
    assert len(endpoint.requests) == 6


def test_a_failure_that_comes_and_goes_does_not_fill_the_log(
    ship: Ship, directory: Path, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind a balancer one server of two may refuse the key: each batch would bring two lines, in a user's own log."""
    caplog.set_level(logging.INFO, "sluice_agent")
    endpoint.script(*[misbehaviour.status(401), misbehaviour.ok] * 5)
    write_file(directory, *map(event, range(5)))
    ship(max_lines=1)
    wait_until(lambda: settled(directory, delivered=5))
    wait_until(lambda: len(caplog.records) >= 2)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert len(endpoint.requests) == 10


def test_two_batches_have_two_keys(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """Under one key the second batch would be taken for a repetition of the first, and dropped."""
    write_file(directory, event(0), event(1))
    ship(max_lines=1)
    wait_until(lambda: settled(directory, delivered=2))
    assert len({request.headers["idempotency-key"] for request in endpoint.requests}) == 2


def test_an_unpublished_limit_is_found_and_remembered(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """A proxy before the endpoint takes a megabyte, or 64 kB: no event may be lost to find that out again and again."""
    endpoint.standing(misbehaviour.limits(8_000))
    write_file(directory, *map(event, range(300)))
    ship()
    wait_until(lambda: settled(directory, delivered=300))
    assert numbers(endpoint) == list(range(300))
    endpoint.requests.clear()
    write_file(directory, *map(event, range(300, 600)))
    wait_until(lambda: settled(directory, delivered=600))
    assert {request.status for request in endpoint.requests} == {200}


def test_a_single_event_that_is_too_large_is_a_dead_letter(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """One task with a huge argument must not hold up everything behind it."""
    endpoint.standing(misbehaviour.limits(8_000))
    write_file(directory, event(0), event(1, filler=20_000), event(2))
    ship()
    wait_until(lambda: settled(directory, delivered=2, rejected=1))
    assert numbers(endpoint) == [0, 2]
    [letter] = dead_letters(directory)
    assert [event_id_of(wire_event) for wire_event in letter["events"]] == ["event-1"]
    assert letter["answer"].startswith("413 ")


@pytest.mark.parametrize("code", [400, 422])
def test_a_poisonous_event_is_found_and_the_rest_delivered(
    ship: Ship, directory: Path, endpoint: Endpoint, code: int
) -> None:
    """One event that the endpoint refuses must not take the 499 others of its batch with it."""
    endpoint.standing(
        misbehaviour.poisoned_by(lambda wire_event: event_id_of(wire_event) in ("event-17", "event-40"), code)
    )
    write_file(directory, *map(event, range(64)))
    ship()
    wait_until(lambda: settled(directory, delivered=62, rejected=2))
    assert sorted(numbers(endpoint)) == sorted(set(range(64)) - {17, 40})
    letters = dead_letters(directory)
    assert [[event_id_of(wire_event) for wire_event in letter["events"]] for letter in letters] == [
        ["event-17"],
        ["event-40"],
    ]
    assert {letter["answer"][:4] for letter in letters} == {f"{code} "}
    assert {path.stat().st_mode & 0o777 for path in (directory / "dead").iterdir()} == {0o600}


def test_a_line_that_is_broken_in_its_middle_is_poison_too(directory: Path) -> None:
    """A line that begins like an event but is not JSON is refused by the endpoint: the shipper must get past it."""
    endpoint = Endpoint()
    write_file(directory, event(0), b'{"type":"job_state_change",,}', event(2))
    running = Shipper(
        directory, "sluice", sluice_at(endpoint.url + "/ingest"), interval=0.02, max_lines=9, max_bytes=9_999
    )
    running.start()
    wait_until(lambda: settled(directory, delivered=2, rejected=1))
    running.stop(5)
    endpoint.close()
    assert numbers(endpoint) == [0, 2]


def test_while_the_key_is_wrong_everything_is_held(
    ship: Ship, directory: Path, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that was revoked by mistake costs no event, and one line in the log."""
    endpoint.key = "sk_another"
    write_file(directory, *map(event, range(10)))
    ship()
    wait_until(lambda: len(endpoint.requests) >= 3)
    assert figures(directory)["pending"] == 10
    assert "401" in str(load_cursor(cursor_path(directory, "sluice")).last_error)
    endpoint.key = "sk_test"
    wait_until(lambda: settled(directory, delivered=10))
    assert load_cursor(cursor_path(directory, "sluice")).last_error is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "sk_test" not in caplog.text


def test_what_the_endpoint_rejects_is_counted_and_kept(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """The answer does not name the rejected event: the user finds it in the copy of its batch."""
    endpoint.standing(misbehaviour.rejects(lambda wire_event: event_id_of(wire_event) == "event-3"))
    write_file(directory, *map(event, range(10)))
    ship()
    wait_until(lambda: settled(directory, delivered=9, rejected=1))
    [letter] = dead_letters(directory)
    assert len(letter["events"]) == 10
    assert json.loads(letter["answer"].partition(" ")[2])["rejected"] == 1


def test_a_batch_that_was_refused_whole_is_seen_in_the_status(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """Nothing arrives any more, and the status would show a delivery a second ago, and no error."""
    endpoint.standing(misbehaviour.poisoned_by(lambda wire_event: event_id_of(wire_event) != "event-9"))
    write_file(directory, event(0), event(1))
    ship()
    wait_until(lambda: settled(directory, rejected=2))
    cursor = load_cursor(cursor_path(directory, "sluice"))
    assert cursor.last_delivery is None
    assert cursor.last_error is not None
    assert cursor.last_error["message"].startswith("400 ")
    write_file(directory, event(9))
    wait_until(lambda: settled(directory, delivered=1, rejected=2))
    cursor = load_cursor(cursor_path(directory, "sluice"))
    assert cursor.last_delivery is not None
    assert cursor.last_error is None


def test_beyond_the_daily_limit_events_wait(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """The limit resets at midnight: the evening's events must still be there."""
    endpoint.script(misbehaviour.truncates(4))
    write_file(directory, *map(event, range(10)))
    running = ship()
    wait_until(lambda: load_cursor(cursor_path(directory, "sluice")).last_error)
    assert figures(directory)["pending"] == 10
    assert len(endpoint.requests) == 1
    running.stop(5)
    assert len(endpoint.requests) == 1, "before the limit resets there is nothing to ask"
    ship()
    wait_until(lambda: settled(directory, delivered=10, duplicates=4))
    assert numbers(endpoint) == list(range(10))


def test_a_proxys_page_is_no_delivery(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """A captive portal answers 200 to everything."""
    endpoint.script(misbehaviour.html(), misbehaviour.rubbish())
    write_file(directory, event(0))
    ship()
    wait_until(lambda: settled(directory, delivered=1))
    assert numbers(endpoint) == [0]


def test_an_endpoint_is_not_asked_sooner_than_it_wishes(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """A key that ignores Retry-After is locked out."""
    endpoint.script(misbehaviour.too_many("0.5"))
    write_file(directory, event(0))
    ship()
    wait_until(lambda: len(endpoint.requests) == 2)
    assert endpoint.requests[1].at - endpoint.requests[0].at >= 0.5


def test_a_shutdown_does_not_cut_a_wait_short(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """A fleet that is restarted while the endpoint asks for patience must not ask all at once."""
    endpoint.script(misbehaviour.too_many("30"))
    write_file(directory, event(0))
    running = ship()
    wait_until(lambda: endpoint.requests)
    wait_until(lambda: load_cursor(cursor_path(directory, "sluice")).last_error)
    began = time.monotonic()
    running.stop(20)
    assert time.monotonic() - began < 10
    assert len(endpoint.requests) == 1
    assert figures(directory)["pending"] == 1


def test_stop_delivers_what_there_is(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """A deployment must not leave events behind that only the next worker sends."""
    running = ship(interval=60)
    wait_until(lambda: running._holds_lock)
    write_file(directory, *map(event, range(1_200)))
    running.stop(5)
    assert settled(directory, delivered=1_200)
    assert journal_files(directory) == []


def test_stop_leaves_the_rest_when_the_endpoint_is_down(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """An endpoint that is away must not keep the worker from ending, and costs nothing."""
    endpoint.down()
    write_file(directory, *map(event, range(10)))
    running = ship()
    wait_until(lambda: load_cursor(cursor_path(directory, "sluice")).last_error)
    began = time.monotonic()
    running.stop(20)
    assert time.monotonic() - began < 10
    assert settled(directory, pending=10)
    endpoint.up()
    ship()
    wait_until(lambda: settled(directory, delivered=10))


def test_stop_keeps_to_its_budget_when_the_endpoint_is_silent(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """A worker that Kubernetes kills because it will not end loses more than pending events."""
    endpoint.standing(misbehaviour.hangs())
    write_file(directory, event(0))
    running = ship()
    wait_until(lambda: endpoint.requests)
    began = time.monotonic()
    running.stop(0.3)
    assert 0.2 < time.monotonic() - began < 5
    assert settled(directory, pending=1)


def test_stop_keeps_to_its_budget_when_there_is_too_much(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """A backlog of a day is no reason to keep the host from ending."""

    def slowly(exchange: Any) -> bool:
        time.sleep(0.1)
        return misbehaviour.ok(exchange)

    endpoint.standing(slowly)
    write_file(directory, *map(event, range(100)))
    running = ship(max_lines=1)
    wait_until(lambda: endpoint.requests)
    began = time.monotonic()
    running.stop(0.5)
    assert time.monotonic() - began < 5
    assert running._thread is not None
    running._thread.join(2)
    assert not running._thread.is_alive()
    assert 0 < figures(directory)["pending"] < 100


def test_one_ships_and_the_other_takes_over(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """Two that ship send everything twice; none after the first has ended sends nothing."""
    first = ship()
    wait_until(lambda: first._holds_lock)
    second = ship()
    write_file(directory, *map(event, range(10)))
    wait_until(lambda: settled(directory, delivered=10))
    assert not second._holds_lock
    first.stop(5)
    write_file(directory, *map(event, range(10, 20)))
    wait_until(lambda: settled(directory, delivered=20))
    assert numbers(endpoint) == list(range(20))
    assert endpoint.duplicates == []


def test_what_a_killed_shipper_left_is_shipped_by_the_next(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """A container that is killed in the middle of a request costs no event and doubles none."""
    endpoint.script(misbehaviour.ok, misbehaviour.hangs(accepted=True))
    write_file(directory, *map(event, range(4)))
    code = """
import sys, time
from pathlib import Path
from sluice_agent.transport.delivery.shipper import Shipper
from tests.unit.transport.lines import sluice_at
Shipper(Path(sys.argv[1]), "sluice", sluice_at(sys.argv[2]), interval=0.02, max_lines=2, max_bytes=9999).run()
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(directory), endpoint.url + "/ingest"], cwd=ROOT)
    try:
        wait_until(lambda: len(endpoint.requests) == 2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    ship()
    wait_until(lambda: settled(directory, delivered=4, duplicates=2))
    assert numbers(endpoint) == [0, 1, 2, 3]


def test_a_forked_child_leaves_the_delivery_to_its_parent(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """A child that takes the parent's lock from it, or keeps it after the parent's end, stops the delivery."""
    running = ship()
    wait_until(lambda: running._holds_lock)
    ready_reader, ready_writer = os.pipe()
    child = os.fork()
    if child == 0:
        running.forget()
        os.write(ready_writer, b".")
        signal.pause()
    try:
        os.read(ready_reader, 1)
        assert not ship()._holds_lock
        write_file(directory, event(0))
        wait_until(lambda: settled(directory, delivered=1))
        assert running._holds_lock
        running.stop(5)
        write_file(directory, event(1))
        wait_until(lambda: settled(directory, delivered=2))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_what_is_evicted_on_its_way_is_counted_once(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """The directory fills while the endpoint is away: an event that is dropped and yet delivered is one, not two."""
    endpoint.script(misbehaviour.hangs())
    journal = JournalWriter(directory, 64_000_000)
    journal.append(event(0))
    journal.drop("before_send")
    journal.append(event(1))
    ship()
    wait_until(lambda: endpoint.requests)
    journal.close()  # a rotation, or the process's end
    ensure_room(directory, 100, lambda evicted: journal.unwritten.update(journal_full=evicted["sluice"]))
    assert journal_files(directory, EVENTS) == []
    journal.append(event(2))
    endpoint.release()
    wait_until(lambda: numbers(endpoint) == [0, 1, 2])
    wait_until(lambda: settled(directory, delivered=1, dropped={"journal_full": 3}))
    journal.close()


def test_a_file_stays_until_every_destination_has_passed_it(ship: Ship, directory: Path) -> None:
    """A second, slower destination must not lose events that the first already has."""
    name = write_file(directory, event(0))
    other = Cursor(cursor_path(directory, "another"))
    other.save()
    ship()
    wait_until(lambda: settled(directory, delivered=1))
    time.sleep(0.1)  # a few steps, in any of which it could be removed
    assert journal_files(directory) == [name]
    other.offsets = {name: (directory / name).stat().st_size}
    other.save()
    wait_until(lambda: journal_files(directory) == [])


def test_empty_files_are_removed(ship: Ship, directory: Path) -> None:
    """Processes that were killed before their first line leave them: they would pile up for ever."""
    write_file(directory)
    ship()
    wait_until(lambda: journal_files(directory) == [])


def test_an_unexpected_fault_does_not_end_the_thread(
    ship: Ship, directory: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread that dies lets the journal fill, silently."""
    faults = [RuntimeError("on purpose")] * 2
    real = Cursor.save

    def save(cursor: Cursor) -> None:
        if faults:
            raise faults.pop()
        real(cursor)

    monkeypatch.setattr(Cursor, "save", save)
    write_file(directory, event(0))
    ship()
    wait_until(lambda: settled(directory, delivered=1))
    assert numbers(endpoint) == [0]
    assert "The shipper failed (RuntimeError: on purpose): it tries again." in caplog.text


def test_a_full_disk_is_emptied_by_delivery(
    ship: Ship, directory: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk the cursor can't be saved: delivered files must still be removed, and be counted later."""
    real, is_full = Cursor.save, threading.Event()
    is_full.set()

    def save(cursor: Cursor) -> None:
        if is_full.is_set():
            raise OSError(28, "No space left on device")
        real(cursor)

    monkeypatch.setattr(Cursor, "save", save)
    write_file(directory, *map(event, range(600)))
    ship()
    wait_until(lambda: journal_files(directory) == [])
    assert figures(directory)["captured"] == 0
    is_full.clear()
    wait_until(lambda: settled(directory, delivered=600))
    assert endpoint.duplicates == []
    assert "can't be saved" in caplog.text


def test_a_directory_that_is_removed_is_shipped_when_it_is_back(
    ship: Ship, directory: Path, endpoint: Endpoint
) -> None:
    """A user cleans up the temporary directory: the next events must arrive without a restart."""
    running = ship()
    wait_until(lambda: running._holds_lock)
    directory.rename(directory.parent / "gone")
    wait_until(lambda: not running._holds_lock)
    directory.mkdir(mode=0o700)
    write_file(directory, event(0))
    wait_until(lambda: numbers(endpoint) == [0])


def test_wake_ends_a_pause(ship: Ship, directory: Path, endpoint: Endpoint) -> None:
    """`flush()` must not take as long as the longest interval."""
    running = ship(interval=60)
    wait_until(lambda: running._holds_lock)
    write_file(directory, event(0))
    wait_until(lambda: running.wake() or endpoint.events)


def test_the_thread_ends_with_the_shipper(ship: Ship) -> None:
    """A thread that stays behind keeps its connection, and the lock that the next process waits for."""
    running = ship()
    wait_until(lambda: running._holds_lock)
    running.stop(5)
    assert running._thread is not None
    assert not running._thread.is_alive()
    assert running._thread not in threading.enumerate()


@pytest.mark.parametrize(
    "line",
    [
        b'{"dropped":{"disk":1e999}}',
        b'{"dropped":' + b"[" * 100_000,
        b'{"type":"job_state_change","job":{"state":"completed","nested":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"type":"job_state_change","job":{"maxRetries":inf,"again":False}}',
    ],
    ids=["infinite", "deep loss", "deep event", "no JSON"],
)
def test_no_line_stops_a_destination(directory: Path, line: bytes) -> None:
    """One unexpected line, and nothing behind it would ever arrive."""

    taken: list[bytes] = []

    class RefusingDestination:
        def send(self, lines: list[bytes]) -> Verdict:
            if line in lines:
                return Refused("400 on purpose")
            taken.extend(lines)
            return Settled(len(lines), 0, 0)

        def close(self) -> None:
            """Nothing is open."""

    write_file(directory, event(0), line, event(2))
    running = Shipper(
        directory, "sluice", lambda _: RefusingDestination(), interval=0.02, max_lines=9, max_bytes=999_999
    )
    running.start()
    wait_until(lambda: figures(directory)["pending"] == 0)
    running.stop(5)
    assert taken == [event(0), event(2)]
    stats = figures(directory)
    assert (stats["delivered"], stats["rejected"] + sum(stats["dropped"].values())) == (2, 1)


def test_a_fault_is_seen_in_the_status(
    ship: Ship, directory: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing arrives for hours, and the status would report no error."""

    def faulty(*_: Any) -> None:
        raise RuntimeError("on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(shipper.Reader, "next_batch", faulty)
        write_file(directory, event(0))
        ship()
        wait_until(lambda: load_cursor(cursor_path(directory, "sluice")).last_error)
        stats = load_cursor(cursor_path(directory, "sluice")).last_error
        assert stats is not None
        assert stats["message"] == "the shipper failed (RuntimeError: on purpose)"
    wait_until(lambda: settled(directory, delivered=1))
    assert load_cursor(cursor_path(directory, "sluice")).last_error is None
