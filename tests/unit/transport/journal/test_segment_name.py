"""A segment's name: its lane, its writer and its time are read from it, and no other file is taken for a segment."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice_agent.transport.journal.directory import SegmentName, count_writers, file_sizes, journal_files
from sluice_agent.transport.journal.line import EVENTS, VITALS
from sluice_agent.transport.journal.line_selector import JobFilter, Selector

NAME = "01767225600000000000-vitals-17-0badcafe.v1.ndjson"


def test_a_name_is_read_as_it_was_built() -> None:
    """A segment whose lane is misread is evicted too soon, or never delivered to one of two destinations."""
    name = SegmentName(1_767_225_600_000_000_000, VITALS, 17, "0badcafe")
    assert str(name) == NAME
    assert SegmentName.parse(NAME) == name


@pytest.mark.parametrize(
    "other",
    [
        f".{NAME}",
        NAME.replace("v1", "v2"),
        NAME.replace("-17", ""),
        NAME.replace("-17", "-17-18"),
        NAME.replace("17", "x"),
        "cursor-sluice.v1.json",
        "ship-sluice.lock",
    ],
)
def test_another_files_name_is_none(other: str, directory: Path) -> None:
    """A draft, a lock or a cursor that is read as a segment would be sent, counted as corrupt, and removed."""
    (directory / other).touch()
    assert journal_files(directory) == []
    assert file_sizes(directory) == {}


def test_a_process_is_one_writer_in_each_lane() -> None:
    """Writers that are counted twice get segments too small, and those that are missed fill the journal."""
    names = [SegmentName(time, lane, 1, "a") for time in (1, 2) for lane in (EVENTS, VITALS)]
    assert count_writers(map(str, [*names, SegmentName(3, EVENTS, 1, "b")])) == 3


def test_a_job_filter_reads_no_vitals() -> None:
    """Ackly would hold every heartbeat on the disk until it has passed it."""
    jobs_only = Selector("ackly", JobFilter(("failed",), ("*",)))
    events = NAME.replace(VITALS, EVENTS)
    assert (jobs_only.reads(NAME), jobs_only.reads(events)) == (False, True)
    assert Selector("sluice").reads(NAME)
