"""Writers, reader, eviction and shipper in any order, with any failure: no event is lost silently."""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sluice_agent.transport.delivery.responses import Refused, Settled, TooLarge, TryAgain, Verdict
from sluice_agent.transport.delivery.shipper import Shipper
from sluice_agent.transport.delivery.timing import Timing
from sluice_agent.transport.journal import segment
from sluice_agent.transport.journal.directory import directory_bytes, journal_files
from sluice_agent.transport.journal.line import EVENTS, VITALS
from sluice_agent.transport.journal.reader import finished
from sluice_agent.transport.journal.writer import JournalWriter
from tests.support.examples import examples
from tests.unit.transport.lines import close_all, event, figures, numbers_in, write_file

LIMIT = 300_000
WRITERS = 3
POISON = 7  # every seventh event is refused


class Destination:
    """A destination in memory that takes everything, unless its script makes it misbehave."""

    def __init__(self) -> None:
        self.read: set[int] = set()
        self.script: list[str] = []

    def send(self, lines: list[bytes]) -> Verdict:
        numbers = numbers_in(lines)
        trouble = self.script.pop() if self.script else ""
        if trouble == "down":
            return TryAgain("down")
        if trouble == "too large" and len(lines) > 1:
            return TooLarge("413 on purpose")
        if any(number % POISON == 0 for number in numbers):
            return Refused("400 on purpose")
        known = len(self.read.intersection(numbers))
        self.read.update(numbers)
        return TryAgain("the answer is lost") if trouble == "lost answer" else Settled(len(lines), 0, known)

    def close(self) -> None:
        """Nothing is open."""


def no_space_left(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "on purpose")


class JournalMachine(RuleBasedStateMachine):
    """Three writers and a shipper, any of which may die at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.destination = Destination()
        self.writers = [self.new_writer() for _ in range(WRITERS)]
        self.shipper = self.new_shipper()
        self.captured = 0  # the model: every number below this one was captured,
        self.died = 0  # and so many of them were only counted in the memory of a process that was killed

    def new_writer(self) -> JournalWriter:
        return JournalWriter(self.directory, LIMIT, segment.Intervals(check=0.0, retry=0.0))

    def new_shipper(self) -> Shipper:
        return Shipper(
            self.directory,
            "sluice",
            lambda _: self.destination,
            interval=0,
            max_lines=50,
            max_bytes=20_000,
            timing=Timing(first_backoff=0, max_backoff=0),
        )

    @rule(writer=st.integers(0, WRITERS - 1), lane=st.sampled_from([EVENTS, VITALS]), size=st.integers(0, 400))
    def append(self, writer: int, lane: str, size: int) -> None:
        self.writers[writer].append(event(self.captured, filler=size), lane)
        self.captured += 1

    @rule(writer=st.integers(0, WRITERS - 1), count=st.integers(50, 200))
    def append_much(self, writer: int, count: int) -> None:
        for _ in range(count):
            self.append(writer, EVENTS, 300)

    @rule(
        writer=st.integers(0, WRITERS - 1),
        lane=st.sampled_from([EVENTS, VITALS]),
        sizes=st.lists(st.integers(0, 900), min_size=1, max_size=30),
    )
    def append_together(self, writer: int, lane: str, sizes: list[int]) -> None:
        lines = [event(self.captured + index, filler=size) for index, size in enumerate(sizes)]
        self.writers[writer].append_all(lines, lane)
        self.captured += len(lines)

    @rule(writer=st.integers(0, WRITERS - 1), lane=st.sampled_from([EVENTS, VITALS]))
    def append_to_a_full_disk(self, writer: int, lane: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(segment.SegmentWriter, "write", no_space_left)
            self.append(writer, lane, 0)

    @rule(writer=st.integers(0, WRITERS - 1))
    def drop(self, writer: int) -> None:
        self.writers[writer].drop("before_send")
        self.captured += 1

    @rule(writer=st.integers(0, WRITERS - 1))
    def close(self, writer: int) -> None:
        self.writers[writer].close()

    @rule(writer=st.integers(0, WRITERS - 1), torn=st.booleans())
    def die(self, writer: int, torn: bool) -> None:
        """SIGKILL, perhaps in the middle of a line. Counts that are only in its memory are lost with it."""
        dead = self.writers[writer]
        self.died += dead.unwritten.total()
        for lane, segment_writer in dead._segments.items():
            if torn and lane == EVENTS:
                line = event(self.captured)
                os.write(segment_writer.descriptor, line[: len(line) // 2])
                self.captured += 1
            close_all(segment_writer.descriptor)
        self.writers[writer] = self.new_writer()

    @rule(rng=st.randoms(), rubbish=st.sampled_from([b"\0", b"\xff", b"{", b'{"type":"']))
    def corrupt(self, rng: random.Random, rubbish: bytes) -> None:
        """A bad disk: one event of a finished file becomes rubbish of the same length."""
        for name in journal_files(self.directory):
            with finished(self.directory / name) as size:
                lines = (self.directory / name).read_bytes().splitlines(keepends=True) if size else []
                events = [number for number, line in enumerate(lines) if line.startswith(b'{"type"')]
                if not events:
                    continue
                number = rng.choice(events)
                lines[number] = rubbish.ljust(len(lines[number]) - 1, b"?") + b"\n"
                (self.directory / name).write_bytes(b"".join(lines))
                return

    @rule(rubbish=st.sampled_from([bytes(64), b"\xff\xfe", b'{"type":"job_state_change"', b"[]"]))
    def plant(self, rubbish: bytes) -> None:
        """A file that no writer of ours has written."""
        write_file(self.directory, rubbish)
        self.captured += 1

    @rule(script=st.lists(st.sampled_from(["", "down", "lost answer", "too large"]), max_size=4))
    def ship_a_batch(self, script: list[str]) -> None:
        self.destination.script = script
        self.shipper._step()

    @rule(script=st.lists(st.sampled_from(["", "lost answer"]), max_size=2))
    def ship_and_die(self, script: list[str]) -> None:
        """The endpoint fails until the shipper is killed in its backoff; the next one begins with the saved cursor."""
        self.destination.script = ["down", *script]
        self.shipper.stop(0)
        self.shipper._guarded(self.shipper._step)
        self.restart()

    @rule()
    def restart(self) -> None:
        self.shipper._lock.release()
        self.shipper = self.new_shipper()

    @invariant()
    def accounts_add_up(self) -> None:
        in_memory = sum(writer.unwritten.total() for writer in self.writers) + self.died
        assert figures(self.directory)["captured"] + in_memory == self.captured

    @invariant()
    def the_limit_holds(self) -> None:
        assert directory_bytes(self.directory) <= LIMIT

    def teardown(self) -> None:
        for writer in self.writers:
            writer.close()
        lost = self.died + sum(writer.unwritten.total() for writer in self.writers)
        self.destination.script = []
        while journal_files(self.directory):
            self.shipper._step()
        stats = figures(self.directory)
        missing = set(range(self.captured)) - self.destination.read
        self.shipper._lock.release()
        shutil.rmtree(self.directory)
        assert stats["pending"] == 0
        assert stats["captured"] + lost == self.captured
        assert len(missing) <= stats["rejected"] + sum(stats["dropped"].values()) + lost
        assert len(self.destination.read) >= stats["delivered"] - stats["duplicates"]


def test_no_event_is_lost_silently() -> None:
    """Whatever happens in whatever order: an event is delivered, or the user can read that it was not, and why."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        JournalMachine, settings=settings(max_examples=examples(25), stateful_step_count=30, deadline=None)
    )
