"""Ackly as the second destination: the events it receives, how often, and that neither destination harms the other."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.transport.delivery.client import EndpointClient
from sluice_agent.transport.delivery.destinations import ACKLY
from sluice_agent.transport.delivery.destinations.ackly import ackly_event
from sluice_agent.transport.delivery.responses import Refused, Settled, TryAgain, Unanswered
from sluice_agent.transport.delivery.shippers import Shippers
from sluice_agent.transport.journal.cursor import Cursor, cursor_path, load_cursor
from sluice_agent.transport.journal.directory import journal_files
from sluice_agent.transport.journal.line import VITALS
from sluice_agent.transport.journal.line_selector import JobFilter
from tests.support.ackly import Ackly, created, lost_answer, refuses, reset_before
from tests.support.endpoint import Endpoint
from tests.support.process import ROOT
from tests.support.waiting import wait_until
from tests.unit.transport.lines import EVERY_END, heartbeat, job, report, write_file

Start = Callable[..., Shippers]


def ackly_client(ackly: Ackly, url: str = "", on_sending: Callable[[], None] = lambda: None) -> EndpointClient:
    """Return a client of `ackly`, or of the Ackly at `url`."""
    return EndpointClient(ACKLY, url or ackly.url, ackly.key, on_sending)


def ingested_ids(ackly: Ackly) -> list[str]:
    """Return the ids of the ingested events, in order."""
    return [event["externalId"] for event in list(ackly.events)]


@pytest.mark.parametrize(
    ("state", "attempt", "status"),
    [
        ("completed", 1, "success"),
        ("completed", 2, "partial"),
        ("failed", 1, "failure"),
        ("failed", 4, "failure"),
        ("cancelled", 1, "failure"),
    ],
)
def test_how_a_job_ended_becomes_a_status(state: str, attempt: int, status: str) -> None:
    """A nightly job that only went through at the third try must not look as good as one that simply worked."""
    assert ackly_event(json.loads(job(1, state, attempt=attempt)))["status"] == status


def test_a_failure_is_sent_with_all_its_fields() -> None:
    """The person who is woken by it sees which task, where, how long and why, without opening another tool."""
    ended = job(
        7,
        "failed",
        workerId="w@h",
        attempt=3,
        startedAt="2026-01-01T00:00:00.5Z",
        completedAt="2026-01-01T00:00:02.000001Z",
        error="ValueError: no such order",
        extensions={"celeryState": "FAILURE", "args": "secret"},
    )
    assert ackly_event(json.loads(ended)) == {
        "status": "failure",
        "message": "app.add failed in attempt 3: ValueError: no such order",
        "eventType": "app.add",
        "externalId": "job-7",
        "durationMs": 1500.001,
        "metadata": {
            "queue": "q",
            "worker": "w@h",
            "attempt": 3,
            "error": "ValueError: no such order",
            "rootId": "root",
            "celeryState": "FAILURE",
            "eventId": "failed-7",
        },
    }


def test_a_job_that_never_began_has_no_duration() -> None:
    """A revoked job that waited must not pass for one that took no time, nor a clock that was set back for magic."""
    assert "durationMs" not in ackly_event(json.loads(job(1, "cancelled", completedAt="2026-01-01T00:00:00Z")))
    times = {"startedAt": "2026-01-01T00:00:01Z", "completedAt": "2026-01-01T00:00:00Z"}
    assert ackly_event(json.loads(job(1, "completed", **times)))["durationMs"] == 0


@pytest.mark.parametrize(
    "times",
    [
        {"startedAt": "2025-06-30T23:59:59Z", "completedAt": "2025-06-30T23:59:60Z"},
        {"startedAt": "2026-01-01T00:00:00", "completedAt": "2026-01-01T00:00:00Z"},
        {"startedAt": 7, "completedAt": "2026-01-01T00:00:00Z"},
    ],
)
def test_a_duration_that_cannot_be_computed_is_left_out(times: dict[str, Any]) -> None:
    """A leap second must not cost the failure that happened in it."""
    assert "durationMs" not in ackly_event(json.loads(job(1, "failed", **times)))


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        ({"attempt": "2"}, {"status": "success", "message": "app.add succeeded"}),
        ({"error": 7}, {"message": "app.add succeeded: 7"}),
        ({"extensions": None}, {"eventType": "app.add"}),
    ],
)
def test_an_odd_event_is_sent_with_its_valid_fields(odd: dict[str, Any], expected: dict[str, Any]) -> None:
    """One invalid field, and Ackly would never receive the job's end."""
    line = json.loads(job(1, "completed"))
    line["job"] |= odd
    assert ackly_event(line).items() >= expected.items()


def test_an_event_without_an_id_is_sent_without_one(ackly: Ackly) -> None:
    """It happened all the same."""
    endpoint = ackly_client(ackly)
    line = b'{"type":"job_state_change","job":{"state":"completed","name":"a"}}'
    assert endpoint.send([line]) == Settled(1, 0, 0)
    assert [event["eventType"] for event in ackly.events] == ["a"]
    endpoint.close()


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"job_state_change","job":{"state":"completed"}}',
        b'{"type":"job_state_change","job":7}',
        b'{"type":"worker_heartbeat"}',
        b'{"type":"job_state_change",,}',
        b'{"type":"job_state_change","job":' + b"[" * 100_000 + b"}",
    ],
    ids=["no name", "no job", "no job's", "no JSON", "deep"],
)
def test_an_event_that_does_not_fit_ackly_is_refused_with_the_reason(ackly: Ackly, line: bytes) -> None:
    """A line that Ackly's format can't hold must not be retried for ever, ahead of everything else."""
    endpoint = ackly_client(ackly)
    verdict = endpoint.send([line])
    assert isinstance(verdict, Refused)
    assert verdict.answer.startswith("not sent: Ackly's format can't hold this event (")
    assert not ackly.requests
    endpoint.close()


def test_a_job_filter_skips_a_line_that_is_nested_too_deeply() -> None:
    """The job filter parses every line that may match: none may stop it."""
    line = job(1, "completed")[:-1] + b',"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert not EVERY_END.wants(line)


@pytest.mark.parametrize(
    ("behaviour", "verdict"),
    [
        (created, Settled(1, 0, 0)),
        (lambda handler, _: handler.answer(201, "rubbish"), Settled(1, 0, 0)),
        (lambda handler, _: handler.answer(200, {"id": "x"}), Settled(1, 0, 0)),
        (lambda handler, _: handler.answer(200, {"error": "later"}), TryAgain("200 later")),
        (refuses(400), Refused('400 {"error": "on purpose"}')),
        (refuses(429), TryAgain("429: Ackly's monthly limit is reached, or its pace", wait=3600, exact=True)),
        (refuses(429, {"Retry-After": "7"}), TryAgain("429: Ackly's monthly limit is reached, or its pace", 7, True)),
        *(
            (refuses(429, {"Retry-After": soon}), TryAgain("429: Ackly's monthly limit is reached, or its pace"))
            for soon in ("0", "-5", "Thu, 01 Jan 2025 12:00:00 GMT")
        ),
        (
            refuses(429, {"Retry-After": "0.01"}),
            TryAgain("429: Ackly's monthly limit is reached, or its pace", 0.01),
        ),
        (
            refuses(429, {"Retry-After": "soon"}),
            TryAgain("429: Ackly's monthly limit is reached, or its pace", 3600, True),
        ),
        (refuses(503), TryAgain("503 on purpose")),
        (refuses(404), TryAgain("404 on purpose", until_corrected=True)),
    ],
)
def test_what_an_answer_means(ackly: Ackly, behaviour: Any, verdict: Any) -> None:
    """An event sent again after an answer is stored twice; one not sent again after a refusal is lost."""
    ackly.script(behaviour)
    endpoint = ackly_client(ackly)
    assert endpoint.send([job(1, "completed")]) == verdict
    endpoint.close()


@pytest.mark.parametrize("status", [200, 400, 422])
def test_a_page_that_is_not_acklys_holds_everything(ackly: Ackly, status: int) -> None:
    """A hotel's sign-in page answers 200 to everything: taken for a delivery, a night's events would be gone."""
    ackly.script(lambda handler, _: handler.answer(status, "<html>"))
    endpoint = ackly_client(ackly)
    verdict = endpoint.send([job(1, "completed")])
    reason = f"{status} with a body that is not a JSON object: check ACKLY_URL"
    assert verdict == TryAgain(reason, until_corrected=True, is_foreign=True)
    endpoint.close()


@pytest.mark.parametrize("behaviour", [lost_answer, reset_before, refuses(504), refuses(524)])
def test_a_lost_answer_differs_from_a_refused_connection(ackly: Ackly, behaviour: Any) -> None:
    """Only an event that may have arrived may be stored twice: a network outage must not count as that."""
    ackly.script(behaviour)
    endpoint = ackly_client(ackly)
    assert isinstance(endpoint.send([job(1, "completed")]), Unanswered)
    endpoint.close()
    nowhere = ackly_client(ackly, "http://127.0.0.1:9/api/ingest")
    assert isinstance(nowhere.send([job(1, "completed")]), TryAgain)


def test_on_sending_is_called_only_for_what_is_sent(ackly: Ackly) -> None:
    """A worker that is restarted while Ackly can't be reached must not use up the two times that an event is sent."""
    sent: list[int] = []

    def record_send() -> None:
        sent.append(len(ackly.requests))

    nowhere = ackly_client(ackly, "http://127.0.0.1:9/api/ingest", record_send)
    nowhere.send([job(1, "completed")])
    assert sent == []
    endpoint = ackly_client(ackly, on_sending=record_send)
    for _ in range(2):  # with a new connection, and with a kept one
        endpoint.send([job(1, "completed")])
    assert sent == [0, 1]
    endpoint.close()


def test_only_ends_go_to_ackly_and_everything_to_sluice(
    directory: Path, ackly: Ackly, endpoint: Endpoint, start: Start
) -> None:
    """Every event there counts against a monthly limit: starts, retries and heartbeats would use it up."""
    states = ["queued", "active", "retrying", "completed", "failed", "cancelled"]
    write_file(directory, *(job(number, state) for number, state in enumerate(states)))
    write_file(directory, heartbeat(1), heartbeat(2), lane=VITALS)
    start()
    wait_until(lambda: not journal_files(directory), 10, "the files stay")
    assert ingested_ids(ackly) == ["job-3", "job-4", "job-5"]
    assert len({arrival.port for arrival in ackly.requests}) == 1
    assert len(endpoint.events) == 8
    result = report(directory, "ackly")
    assert (result["captured"], result["delivered"], result["pending"], result["skipped"]) == (
        3,
        3,
        0,
        3,
    )
    assert report(directory, "sluice")["captured"] == 8


def test_only_chosen_ends_of_chosen_tasks(directory: Path, ackly: Ackly, start: Start) -> None:
    """A user who selects failures of the nightly jobs gets only these, and no others in the accounts."""
    write_file(
        directory,
        job(1, "failed", "app.nightly.backup"),
        job(2, "completed", "app.nightly.backup"),
        job(3, "failed", "app.mail", extensions={"note": {"state": "failed", "name": "app.nightly"}}),
        job(4, "cancelled", "app.report"),
    )
    job_filter = JobFilter(("failed", "cancelled"), ("app.nightly.*", "app.rep?rt"))
    Cursor(cursor_path(directory, "ackly"), job_filter=job_filter).save()
    assert report(directory, "ackly")["pending"] == 2
    start(ackly_states="failed,cancelled", ackly_tasks="app.nightly.*,app.rep?rt")
    wait_until(lambda: not journal_files(directory), 10, "the files stay")
    assert ingested_ids(ackly) == ["job-1", "job-4"]


@pytest.mark.parametrize("first_answer", [lost_answer, reset_before])
def test_after_a_lost_answer_it_is_sent_once_more(
    directory: Path, ackly: Ackly, start: Start, caplog: pytest.LogCaptureFixture, first_answer: Any
) -> None:
    """Ackly does not deduplicate: the event may be stored twice, never three times, and that is logged and counted."""
    ackly.script(first_answer)
    write_file(directory, job(1, "completed"), job(2, "completed"))
    start()
    wait_until(lambda: report(directory, "ackly")["delivered"] == 2)
    assert [arrival.event["externalId"] for arrival in ackly.requests] == ["job-1", "job-1", "job-2"]
    assert report(directory, "ackly")["resent"] == 1
    assert "may be there twice" in caplog.text


def test_after_two_lost_answers_it_is_dropped(
    directory: Path, ackly: Ackly, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that takes events and never answers would fill up with copies of one."""
    ackly.script(lost_answer, lost_answer)
    write_file(directory, job(1, "completed"), job(2, "completed"))
    start()
    wait_until(lambda: report(directory, "ackly")["delivered"] == 1)
    assert ingested_ids(ackly) == ["job-1", "job-1", "job-2"]
    assert report(directory, "ackly")["dropped"] == {"answer_lost": 1}
    assert "is dropped" in caplog.text


def test_a_restart_does_not_forget_that_it_was_sent_once_more(directory: Path, ackly: Ackly, start: Start) -> None:
    """A worker that crashes in a loop while Ackly fails would add a copy at each start."""
    ackly.standing(lost_answer)
    write_file(directory, job(1, "completed"))
    for resent, dropped in ((0, {}), (1, {"answer_lost": 1}), (1, {"answer_lost": 1})):
        start(begin=False).deliver(10)  # once: a process that shuts down does not retry
        assert (report(directory, "ackly")["resent"], report(directory, "ackly")["dropped"]) == (resent, dropped)
    assert len(ackly.requests) == 2


KILLED = """
import sys
from pathlib import Path
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.shippers import Shippers
Shippers(Settings(api_key=None, ackly_ingest_key=sys.argv[2], ackly_url=sys.argv[3]), Path(sys.argv[1])).deliver(60)
"""


def test_a_process_that_is_killed_in_a_request_leaves_a_record(directory: Path, ackly: Ackly) -> None:
    """A worker that is restarted again and again while Ackly is slow would add a copy at each start."""
    asked, over = threading.Semaphore(0), threading.Event()

    def silent(handler: Any, event: dict[str, Any]) -> None:
        handler.server.ackly.ingest(event)
        asked.release()
        over.wait()

    def run(kill: bool) -> None:
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(directory), ackly.key, ackly.url], cwd=ROOT)
        if kill:
            assert asked.acquire(timeout=60)
            process.kill()
        process.wait(60)

    ackly.standing(silent)
    write_file(directory, job(1, "completed"))
    for resent in (0, 1):
        run(kill=True)
        assert report(directory, "ackly")["resent"] == resent
    older = write_file(directory, job(2, "completed"))  # of a process that runs for longer: it is read first
    (directory / older).rename(directory / f"0{older}")
    ackly.standing(created)
    run(kill=False)
    over.set()
    assert ingested_ids(ackly) == ["job-1", "job-1", "job-2"]
    assert report(directory, "ackly")["dropped"] == {"answer_lost": 1}
    assert report(directory, "ackly")["resent"] == 1
    assert load_cursor(cursor_path(directory, "ackly")).unconfirmed == {}


@pytest.mark.parametrize("answer", [refuses(429, {"Retry-After": "1"}), refuses(503), refuses(401)])
def test_what_was_not_taken_was_not_sent(directory: Path, ackly: Ackly, start: Start, answer: Any) -> None:
    """An outage that lasts over several restarts must not use up the two times that an event is sent."""
    ackly.standing(answer)
    write_file(directory, job(1, "completed"))
    for _ in range(3):
        start(begin=False).deliver(10)
        assert load_cursor(cursor_path(directory, "ackly")).unconfirmed == {}
    ackly.standing(created)
    start(begin=False).deliver(10)
    assert (report(directory, "ackly")["delivered"], report(directory, "ackly")["resent"]) == (1, 0)


def test_what_was_not_taken_the_second_time_is_sent_once_more(directory: Path, ackly: Ackly, start: Start) -> None:
    """Of the two times that it may be there one is left."""
    ackly.script(lost_answer, refuses(503))
    write_file(directory, job(1, "completed"))
    start()
    wait_until(lambda: report(directory, "ackly")["delivered"] == 1)
    assert ingested_ids(ackly) == ["job-1", "job-1"]
    assert report(directory, "ackly")["resent"] == 1


def test_the_cursor_is_saved_after_every_event(directory: Path, ackly: Ackly, start: Start) -> None:
    """After kill -9 everything since the last save is there twice: that must be one event at the most."""
    delivered: list[int] = []

    def record_delivered(handler: Any, event: dict[str, Any]) -> None:
        delivered.append(load_cursor(cursor_path(directory, "ackly")).counts.delivered)
        created(handler, event)

    ackly.standing(record_delivered)
    write_file(directory, *(job(number, "completed") for number in range(20)))
    start()
    wait_until(lambda: len(ackly.events) == 20)
    assert delivered == list(range(20))


def test_a_refused_event_is_a_dead_letter(directory: Path, ackly: Ackly, start: Start) -> None:
    """One event that Ackly does not take must not hold back those behind it, nor vanish."""
    ackly.script(refuses(400))
    write_file(directory, job(1, "completed"), job(2, "completed"))
    start()
    wait_until(lambda: report(directory, "ackly")["delivered"] == 1)
    assert report(directory, "ackly")["rejected"] == 1
    [letter] = (directory / "dead").iterdir()
    assert "400" in letter.read_text()
