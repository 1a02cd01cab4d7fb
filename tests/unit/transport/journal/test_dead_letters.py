"""Dead letters: refused events can be listed, shown and retried."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sluice_agent.cli import main
from sluice_agent.errors import JournalUnavailableError
from sluice_agent.transport.journal.accounting import report_on
from sluice_agent.transport.journal.dead_letters import add, letters_in, retry
from sluice_agent.transport.journal.writer import JournalWriter
from tests.support.ackly import Ackly, refuses
from tests.support.endpoint import Endpoint
from tests.support.misbehaviour import poisoned_by
from tests.unit.transport.lines import CONNECTION, event, job

Run = Callable[..., Result]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The journal of this host."""
    path = tmp_path / CONNECTION
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def ackly() -> Iterator[Ackly]:
    """A fresh Ackly."""
    server = Ackly()
    yield server
    server.close()


@pytest.fixture
def run(endpoint: Endpoint, ackly: Ackly, tmp_path: Path, directory: Path) -> Run:
    """`run("dead", "list")` runs a command of this host, which must exit with `code`."""
    env = {"SLUICE_API_KEY": "sk_test", "SLUICE_CONNECTION_ID": CONNECTION, "SLUICE_API_URL": endpoint.url}
    env |= {"SLUICE_STATE_DIR": str(tmp_path), "SLUICE_FLUSH_INTERVAL": "0.05", **ackly.env}

    def command(*args: str, code: int = 0, **more: str) -> Result:
        result = CliRunner().invoke(main, args, env={**env, **more})
        assert result.exit_code == code, result.output
        return result

    return command


def write(directory: Path, *lines: bytes) -> None:
    """Write `lines` to the journal."""
    journal = JournalWriter(directory, 64_000_000)
    for line in lines:
        journal.append(line)
    journal.close()


def figures(directory: Path, name: str = "sluice") -> dict[str, Any]:
    """Return the figures of a destination, which must add up."""
    report: dict[str, Any] = dict(report_on(directory, {"sluice": None, "ackly": None})["destinations"][name])
    settled = report["delivered"] + report["rejected"] + sum(report["dropped"].values())
    assert report["captured"] == settled + report["pending"]
    return {name: report[name] for name in ("captured", "delivered", "rejected", "pending")}


def test_what_was_refused_is_shown_and_sent_again(run: Run, directory: Path, endpoint: Endpoint) -> None:
    """After the endpoint's bug is fixed, the events that it refused must not be lost to its users."""
    endpoint.standing(poisoned_by(lambda event: event["job"]["externalId"] == "job-1"))
    write(directory, event(0), event(1), event(2))
    run("ship", "--once")
    assert figures(directory) == {"captured": 3, "delivered": 2, "rejected": 1, "pending": 0}
    [row] = run("dead", "list").output.splitlines()
    letter_id, when, destination, count, answer = row.split(maxsplit=4)
    assert (destination, count) == ("sluice", "1")
    assert when.endswith("Z")
    assert answer.startswith("400 ")
    [entry] = [json.loads(line) for line in run("dead", "list", "--json").output.splitlines()]
    assert (entry["id"], entry["events"], entry["destination"]) == (letter_id, 1, "sluice")
    shown = json.loads(run("dead", "show", letter_id).output)
    assert "one of the events is not valid" in shown["answer"]
    assert shown["events"] == [json.loads(event(1))]

    endpoint.standing()
    assert "1 letters, 1 events" in run("dead", "retry", letter_id).output
    assert figures(directory) == {"captured": 4, "delivered": 2, "rejected": 1, "pending": 1}
    assert run("dead", "list").output == ""
    run("ship", "--once")
    assert [event["job"]["externalId"] for event in endpoint.events] == ["job-0", "job-2", "job-1"]
    assert figures(directory) == {"captured": 4, "delivered": 3, "rejected": 1, "pending": 0}


def test_a_retry_goes_to_the_destination_that_refused(
    run: Run, directory: Path, ackly: Ackly, endpoint: Endpoint
) -> None:
    """Ackly detects no duplicates: a retry of what Sluice refused would reach it twice, and the other way round."""
    ackly.script(refuses(400))
    write(directory, job(1, "completed"))
    run("ship", "--once")
    run("dead", "retry", "--all")
    assert figures(directory, "ackly") == {"captured": 2, "delivered": 0, "rejected": 1, "pending": 1}
    assert figures(directory) == {"captured": 1, "delivered": 1, "rejected": 0, "pending": 0}
    run("ship", "--once")
    assert [event["externalId"] for event in ackly.events] == ["job-1"]
    assert len(endpoint.requests) == 1
    assert figures(directory, "ackly") == {"captured": 2, "delivered": 1, "rejected": 1, "pending": 0}


def test_a_letter_that_is_refused_again_is_kept_again(run: Run, directory: Path, endpoint: Endpoint) -> None:
    """A user who retries too early must not lose the events."""
    endpoint.standing(poisoned_by(lambda event: True))
    write(directory, event(1))
    run("ship", "--once")
    run("dead", "retry", "--all")
    run("ship", "--once")
    [letter] = letters_in(directory)
    assert letter.events == [json.loads(event(1))]
    assert figures(directory) == {"captured": 2, "delivered": 0, "rejected": 2, "pending": 0}


def test_a_letter_is_retried_by_one_process_at_a_time(directory: Path) -> None:
    """Two operators, or a cron job that overlaps itself, would double Ackly's events."""
    add(directory, "ackly", [job(1, "failed")], "400")
    [letter] = letters_in(directory)
    assert retry(directory, letter, 64_000_000)
    assert not retry(directory, letter, 64_000_000)
    assert figures(directory)["captured"] == 0


def test_a_letter_stays_where_the_journal_cannot_take_it(directory: Path) -> None:
    """On a full disk the letter is the only copy of its events."""
    add(directory, "sluice", [event(1, filler=50_000)] * 100, "400")
    held = JournalWriter(directory, 64_000_000)
    held.append(event(2, filler=1_000_000))
    [letter] = letters_in(directory)
    with pytest.raises(JournalUnavailableError, match="the letter is kept"):
        retry(directory, letter, 1_000_000)
    held.close()
    assert letters_in(directory) == [letter]


@pytest.mark.parametrize(
    "line", [b'{"type":"x","n":inf}', b'{"type":"x","deep":' + b"[" * 100_000 + b'\xff"}'], ids=["inf", "deep"]
)
def test_invalid_json_is_kept_as_it_is(directory: Path, line: bytes) -> None:
    """A line that a bug of ours wrote is the only trace of the bug, and of the event."""
    add(directory, "sluice", [line, event(1)], "400")
    [letter] = letters_in(directory)
    assert letter.events[1] == json.loads(event(1))
    assert retry(directory, letter, 64_000_000)
    first, *_ = sorted(directory.glob("*.ndjson"))
    assert first.read_bytes().splitlines()[0] == b'{"for":"sluice","event":' + line + b"}"


def test_a_retry_evicts_nothing(run: Run, directory: Path) -> None:
    """A user who retries old letters must not lose the events of this hour."""
    for number in range(3):
        add(directory, "sluice", [event(number, filler=300_000)], "400")
    write(directory, event(7, filler=300_000))
    output = run("dead", "retry", "--all", code=1, SLUICE_JOURNAL_MAX_BYTES="1048576").output
    assert "2 letters, 2 events: back in the journal" in output
    assert "the letter is kept, and so are those after it" in output
    assert len(letters_in(directory)) == 1
    assert figures(directory) == {"captured": 3, "delivered": 0, "rejected": 0, "pending": 3}
    assert report_on(directory, {"sluice": None})["dropped"] == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("00000000000000000001", '{"answer":"400","events":[' + "[" * 100_000),
        ("00000000000000000001", '{"answer":null,"events":[]}'),
        ("00000000000000000001", '{"destination":null,"answer":"400","events":[]}'),
        ("00000000000000000001", '{"answer":"400","events":{"a":1}}'),
        ("9" * 28, '{"answer":"400","events":[]}'),
        ("-0000000000000000001", '{"answer":"400","events":[]}'),
    ],
    ids=["deep", "no answer", "no destination", "no list", "long name", "before 1970"],
)
def test_an_odd_letter_hides_no_other(run: Run, directory: Path, name: str, content: str) -> None:
    """One file that a user, or a bug, has left there must not hide the others."""
    add(directory, "sluice", [event(1)], "400 no")
    (directory / "dead" / f"{name}.json").write_text(content)
    [row] = run("dead", "list").output.splitlines()
    assert row.endswith("400 no")


def test_only_regular_files_are_opened(run: Run, directory: Path) -> None:
    """To open a pipe would block until another process writes into it: for ever."""
    (directory / "dead").mkdir()
    os.mkfifo(directory / "dead" / "00000000000000000001.json")
    (directory / "dead" / "00000000000000000002.json").mkdir()
    (directory / "dead" / "00000000000000000003.json").symlink_to(directory / "dead" / "00000000000000000001.json")
    add(directory, "sluice", [event(1)], "400 no")
    assert len(run("dead", "list").output.splitlines()) == 1


def test_a_letter_that_cannot_be_written_leaves_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk every refusal would leave a torn file, which can't be read and takes the last space."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            add(directory, "sluice", [event(1)], "400")
    assert not list((directory / "dead").iterdir())


def test_with_the_clock_set_back_the_new_letter_stays(directory: Path) -> None:
    """At the letters' limit the oldest are removed: that must not be the one just written."""
    for number, now in enumerate((time.time_ns(), time.time_ns(), time.time_ns(), 1_000_000_000)):
        lines = [event(number, filler=2_000)]
        add(directory, "sluice", lines, f"{number}", max_bytes=5_000, clock=lambda now=now: now)
    assert [letter.answer for letter in letters_in(directory)] == ["2", "3"]


def test_a_file_that_is_not_a_letter_is_skipped(run: Run, directory: Path) -> None:
    """A crash in the middle of writing one must not hide all the others."""
    add(directory, "sluice", [event(1)], "400 no")
    (directory / "dead" / "00000000000000000001.json").write_text('{"answer": "4')
    (directory / "dead" / "notes.json").write_text("{}")
    (directory / "dead" / "00000000000000000002.json").write_text(json.dumps({"answer": "422", "events": []}))
    assert [letter.answer for letter in letters_in(directory)] == ["400 no"]
    assert "no letter" in run("dead", "show", "7", code=2).output
    assert "--all" in run("dead", "retry", code=2).output
    assert "--all" in run("dead", "retry", "7", "--all", code=2).output
