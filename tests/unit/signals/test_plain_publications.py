"""Plain publications take a way of their own, which writes the same bytes; all others take the ordinary one."""

from __future__ import annotations

import re
from threading import Thread
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.attempt_message import HEADER
from sluice_agent.signals.agent_header import CREATED_AT, PERIODIC_TASK, REPLACEMENTS
from sluice_agent.signals.producer import PublishingProcess
from sluice_agent.signals.publish_hook import Publication, new_publication
from sluice_agent.signals.published_for import call_for, periodic_task, retried
from tests.unit.signals.observed import STARTED, Observed

ID, OTHER = "cd613e30-d8f1-4adf-91b7-584a2265b1f5", "1e2feb89-414c-443c-9027-c4d1c386bbc4"

app = Celery("plain", broker="memory://", set_as_current=False)


class Producer:
    """A process that publishes, and the lines that it writes."""

    def __init__(self, *, is_ordinary: bool = False, message_header: bool = True, **options: Any) -> None:
        self.observed = Observed(**options)
        self.lines: list[bytes] = []
        self.observed.sink.emit = self.lines.append
        sink, recorder = self.observed.sink, self.observed.recorder
        self.process = PublishingProcess(sink, recorder, message_header=message_header)
        self.is_ordinary = is_ordinary

    def publish(self, publication: Publication, queue: str = "celery") -> list[bytes]:
        """Announce a message and let its publication fail; return the lines without the times of now."""
        if self.is_ordinary or not self.process.plain.announce(publication, "", queue):
            self.process.announce(publication, "", queue)
        self.process.failed(publication, ConnectionError("away"))
        return [re.sub(rb'"(timestamp|createdAt)":"[^"]*"', rb"\1", line) for line in self.lines]

    def is_plain(self, publication: Publication) -> bool:
        """Return whether the publication takes the way of plain ones; if not, it must have written nothing."""
        is_plain = self.process.plain.announce(publication, "", "celery")
        assert len(self.lines) == is_plain
        assert (publication.on_failure is not None) is is_plain
        return is_plain


def publication(
    external_id: Any = ID, properties: dict[str, Any] | None = None, options: Any = None, **headers: Any
) -> Publication:
    """Return the publication of a plain job, but for what is given."""
    sent = app.amqp.as_task_v2(ID, "plain.task")
    return new_publication(
        app,
        "plain.task",
        ({**sent.headers, "id": external_id, "root_id": external_id, **headers}, properties or {}, sent.body, None),
        {} if options is None else options,
    )


uuids = st.uuids(version=4).map(str)


@given(
    external_id=uuids,
    root_id=uuids | st.none() | st.just(""),
    parent_id=uuids | st.none(),
    priority=st.none() | st.integers(0, 255),
    queue=st.text(min_size=1, max_size=12),
    message_header=st.booleans(),
)
def test_both_ways_write_the_same_bytes(
    external_id: str, root_id: str | None, parent_id: str | None, priority: int | None, queue: str, message_header: bool
) -> None:
    """A job would be shown twice when its worker, or a monitor, reports it in the ordinary way."""

    def made() -> Publication:
        properties = {} if priority is None else {"priority": priority}
        return publication(external_id, properties, root_id=root_id, parent_id=parent_id)

    plain, ordinary = made(), made()
    assert Producer().is_plain(made())
    lines = Producer(message_header=message_header).publish(plain, queue)
    assert lines == Producer(is_ordinary=True, message_header=message_header).publish(ordinary, queue)
    assert len(lines) == 2
    for header in (plain.agent_header, ordinary.agent_header):
        assert (header is not None) is message_header
        assert header is None or header.pop(CREATED_AT)
    assert plain.agent_header == ordinary.agent_header


@pytest.mark.parametrize(
    "headers",
    [
        {"retries": 1},
        {"eta": "2026-02-27T11:00:00+00:00"},
        {"expires": "2026-02-27T11:00:00+00:00"},
        {"group": OTHER},
        {"stamps": {"tenant": "a"}},
        {"shadow": "another name"},
        {"periodic_task_name": "nightly"},
        {"replaced_task_nesting": 1},
        {"root_id": "chosen"},
        {"parent_id": 7},
        {"delivery_info": {"priority": 3}},
        {"timelimit": [10, None]},
        {HEADER: "attempt"},
    ],
    ids=str,
)
def test_a_job_with_a_rare_header_takes_the_ordinary_way(headers: dict[str, Any]) -> None:
    """Its attempt, its ETA, its stamps or its time limits would be left out."""
    assert not Producer().is_plain(publication(**headers))


@pytest.mark.parametrize("external_id", ["job", ID.upper(), f"{ID}\n", ID.replace("4adf", "1adf"), 7], ids=repr)
def test_an_id_that_a_caller_has_chosen_takes_the_ordinary_way(external_id: Any) -> None:
    """Two publications under one id would be one, or the line would be no JSON."""
    assert not Producer().is_plain(publication(external_id))


@pytest.mark.parametrize("priority", [-1, 256, True, "high", 2**40], ids=repr)
def test_an_odd_priority_takes_the_ordinary_way(priority: Any) -> None:
    """What a caller has written would break the line."""
    assert not Producer().is_plain(publication(properties={"priority": priority}))


@pytest.mark.parametrize("options", [{"headers": {"tenant": "a"}}, {"serializer": "pickle"}], ids=str)
def test_a_call_with_options_takes_the_ordinary_way(options: dict[str, Any]) -> None:
    """A server that sends the job again would lose them."""
    assert not Producer().is_plain(publication(options=options))


def test_a_call_that_others_follow_takes_the_ordinary_way() -> None:
    """A server that sends the job again would start it without what follows it."""
    published = publication()
    headers, properties, (args, kwargs, embed), _ = published.message
    published.message = headers, properties, (args, kwargs, {**embed, "callbacks": [app.signature("next")]}), None
    assert not Producer().is_plain(published)


def test_captured_arguments_take_the_ordinary_way() -> None:
    """A user who asks for arguments would get none."""
    assert not Producer(redact=lambda _, value: value).is_plain(publication())


def test_an_ignored_task_is_not_reported() -> None:
    """A user who ignores a task would see it waiting for ever."""
    assert not Producer(ignored="plain.task").is_plain(publication())


def test_what_the_process_knows_of_a_job_is_not_lost() -> None:
    """The name of beat's entry, or when a job was created whose pool process was lost, would be missing."""
    published = publication()
    call_for(periodic_task, "nightly", Producer().publish, published)
    assert (published.agent_header or {})[PERIODIC_TASK] == "nightly"
    published = publication()
    call_for(retried, (ID, {CREATED_AT: STARTED, REPLACEMENTS: "1"}), Producer().publish, published)
    assert (published.agent_header or {})[CREATED_AT] == STARTED


def test_a_publication_within_the_report_of_another_takes_the_ordinary_way() -> None:
    """A `before_send` that publishes a task would call itself until Python's stack ends."""
    producer = Producer()
    within: list[bool] = []
    producer.observed.sink.emit = lambda _: within.append(producer.process.plain.announce(publication(), "", "celery"))
    assert producer.process.plain.announce(publication(), "", "celery")
    assert within == [False]
    producer.observed.sink.emit = producer.lines.append
    assert producer.is_plain(publication()), "and the next one is a plain one again"


def test_threads_that_publish_at_once_report_in_the_short_way() -> None:
    """A site that publishes from many threads would be as slow as before: one of them always reports."""
    producer = Producer()
    beside: list[bool] = []

    def publish_in_another_thread(_: bytes) -> None:
        producer.observed.sink.emit = producer.lines.append
        thread = Thread(target=lambda: beside.append(producer.process.plain.announce(publication(OTHER), "", "celery")))
        thread.start()
        thread.join()

    producer.observed.sink.emit = publish_in_another_thread
    assert producer.process.plain.announce(publication(), "", "celery")
    assert beside == [True]
