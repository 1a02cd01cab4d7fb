"""The filters of a list: from parameters and JSON, back to them, and in words."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.model import Framework, JobState
from sluice_agent.server.queries.filter_text import filter_text
from sluice_agent.server.queries.job_filter import PARAMETERS, InvalidFilterError, JobFilter
from sluice_agent.server.timestamps import moment_of
from tests.unit.server.events import CONNECTION

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
SEVERAL = st.lists(TEXTS, max_size=3)
MOMENTS = st.integers(-(10**15), 4 * 10**15)
FILTERS = st.builds(
    JobFilter,
    states=st.lists(st.sampled_from(JobState), max_size=3),
    names=SEVERAL,
    queues=SEVERAL,
    workers=SEVERAL,
    error_classes=SEVERAL,
    connection_id=st.none() | st.uuids(),
    framework=st.none() | st.sampled_from(Framework),
    root_id=st.none() | TEXTS,
    group_id=st.none() | TEXTS,
    created_from=st.none() | MOMENTS,
    created_to=st.none() | MOMENTS,
    search=st.none() | TEXTS,
)
MORNING = moment_of("2026-11-30T09:30:00Z") or 0
TODAY = moment_of("2026-11-30") or 0
HOUR = 3_600_000_000


@given(FILTERS)
def test_a_filter_survives_an_address_and_json(wanted: JobFilter) -> None:
    """A link that a user sends to a colleague, or a bulk action after a restart, would select other jobs."""
    address = urlencode(wanted.to_parameters())
    for read in (JobFilter.parse(parse_qsl(address, keep_blank_values=True)), JobFilter.from_json(wanted.to_json())):
        assert read.to_json() == wanted.to_json()
        assert (read.created_from, read.created_to) == (wanted.created_from, wanted.created_to)
        assert (read.connection_id, list(read.states)) == (wanted.connection_id, list(wanted.states))


def test_parameters_are_read() -> None:
    """A user would get a list that his address does not describe."""
    address = f"state=failed,retrying&state=active&name=a&name=b,c&connectionId={CONNECTION}&from=2026-11-30&limit=5"
    assert JobFilter.parse(parse_qsl(address)) == JobFilter(
        states=[JobState.FAILED, JobState.RETRYING, JobState.ACTIVE],
        names=["a", "b,c"],
        connection_id=UUID(CONNECTION),
        created_from=TODAY,
    )


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("state=asleep", "state"),
        ("state=failed,", "state"),
        ("name=", "name"),
        ("connectionId=7", "connectionId"),
        ("framework=cron", "framework"),
        ("framework=celery&framework=sidekiq", "framework"),
        ("from=2026-11-30&from=2026-11-29", "from"),
        ("search=", "search"),
        ("from=1764460800", "from"),
        ("to=2026-02-31", "to"),
        ("&".join(["queue=q"] * 101), "queue"),
    ],
)
def test_what_is_no_filter_is_named(address: str, name: str) -> None:
    """A list would show, or a bulk action retry, other jobs than the user believes."""
    with pytest.raises(InvalidFilterError) as caught:
        JobFilter.parse(parse_qsl(address, keep_blank_values=True))
    assert list(caught.value.details) == [name]
    assert str(caught.value).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-30", "2026-11-30T00:00:00Z"),
        ("2026-11-30T09:30", "2026-11-30T09:30:00Z"),
        ("2026-11-30 09:30:00.25", "2026-11-30T09:30:00.250000Z"),
        ("2026-11-30T09:30:00+02:00", "2026-11-30T07:30:00Z"),
    ],
)
def test_times_are_utc_unless_they_have_an_offset(text: str, same: str) -> None:
    """The terminal, a page and the API would mean other jobs by the same time."""
    assert JobFilter.parse([("from", text)]).to_json() == {"from": same}


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (JobFilter(), "all jobs"),
        (JobFilter(connection_id=UUID(CONNECTION)), "all jobs"),
        (JobFilter([JobState.FAILED], ["send_email"], created_from=TODAY), "failed send_email of today"),
        (
            JobFilter([JobState.FAILED, JobState.RETRYING, JobState.ACTIVE], queues=["a"], workers=["w"]),
            "failed, retrying or active jobs in queue a on worker w",
        ),
        (
            JobFilter(error_classes=["KeyError", "OSError"], root_id="r", group_id="g"),
            "jobs with error KeyError or OSError of group g of canvas r",
        ),
        (JobFilter(framework=Framework.SIDEKIQ, search="mail"), 'sidekiq jobs that match "mail"'),
        (JobFilter(names=["a"], framework=Framework.CELERY), "a of celery"),
        (JobFilter(created_from=TODAY - 24 * HOUR, created_to=TODAY), "jobs of 2026-11-29"),
        (JobFilter(created_from=TODAY - HOUR), "jobs created since 2026-11-29 23:00 UTC"),
        (JobFilter(created_to=MORNING + 1), "jobs created before 2026-11-30 09:30:00.000001 UTC"),
        (
            JobFilter(created_from=TODAY, created_to=MORNING + 5_000_000),
            "jobs created from 2026-11-30 00:00 to 2026-11-30 09:30:05 UTC",
        ),
    ],
)
def test_a_filter_in_words(wanted: JobFilter, text: str) -> None:
    """An operator is asked whether these jobs should be retried: he must see which they are."""
    assert filter_text(wanted, MORNING) == text


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "connectionId"])
def test_no_filter_is_left_out_of_the_words(name: str) -> None:
    """An operator would agree to retry more jobs than go, or other ones."""
    values = {"state": "failed", "framework": "celery", "from": "2026-11-01", "to": "2026-11-02", "problem": "slow"}
    wanted = JobFilter.parse([(name, values.get(name, "xyz"))])
    assert filter_text(wanted, MORNING) != "all jobs"
    assert values.get(name, "xyz") in filter_text(wanted, MORNING)
    assert PARAMETERS[name].description.endswith(".")


def test_the_terminal_needs_no_package_of_the_server() -> None:
    """`sluice-agent` would not start where the extra is not installed."""
    modules = "sluice_agent.cli, sluice_agent.commands.job, sluice_agent.commands.jobs, sluice_agent.commands.tail"
    code = f"import sys, {modules}; print({{'fastapi', 'sqlalchemy', 'uvicorn', 'alembic'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"
