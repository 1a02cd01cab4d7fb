"""The last point before the broker: what is announced there, what the message gets, and what fails after it."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from celery.signals import before_task_publish
from kombu import Connection, Producer

from sluice_agent.signals.agent_header import HEADER
from sluice_agent.signals.publish_hook import Publication, patch_publishing
from tests.unit.signals.observed import Observed


def do_nothing(*_: Any, **__: Any) -> None: ...


class Hook:
    """What is called around the publications of an app."""

    def __init__(self) -> None:
        self.announced: list[tuple[str, str, str]] = []
        self.failed: list[tuple[str, BaseException]] = []
        self.agent_header: dict[str, str] | None = {"createdAt": "now"}
        self.app = Celery("published", broker="memory://", set_as_current=False)
        self.task = self.app.task(name="published.task")(do_nothing)
        patch_publishing(Observed().sink, self._announce)

    def _announce(self, publication: Publication, exchange: str, routing_key: str) -> None:
        publication.on_failure = self._fail
        publication.agent_header = self.agent_header
        self.announced.append((publication.name, exchange, routing_key))

    def _fail(self, publication: Publication, error: BaseException) -> None:
        self.failed.append((publication.name, error))

    def publish(self, **options: Any) -> dict[str, Any]:
        """Publish a job to a queue of its own; return the headers of the message that the broker gets."""
        queue = f"queue-{id(self)}"
        self.task.apply_async(queue=queue, **options)
        with self.app.connection() as connection:
            headers: dict[str, Any] = connection.default_channel.basic_get(queue).headers
            return headers


def test_the_message_has_the_header_and_no_receiver_sees_it() -> None:
    """A worker would report the job a second time; a receiver that copies the headers would break another job."""
    hook = Hook()
    seen: list[Any] = []

    def receiver(headers: dict[str, Any], **_: Any) -> None:
        seen.append(dict(headers))
        headers["stamp"] = "changed after us"

    before_task_publish.connect(receiver)
    try:
        headers = hook.publish()
    finally:
        before_task_publish.disconnect(receiver)
    assert (headers[HEADER], headers["stamp"]) == ({"createdAt": "now"}, "changed after us")
    assert HEADER not in seen[0]
    assert [name for name, _, _ in hook.announced] == ["published.task"]
    assert hook.announced[0][2] == f"queue-{id(hook)}"


def test_a_message_without_the_header_is_sent_as_it_is() -> None:
    """A user who switches the header off would send it all the same."""
    hook = Hook()
    hook.agent_header = None
    assert HEADER not in hook.publish()


def test_an_app_that_made_its_sender_before_is_covered() -> None:
    """The failures of an app that published before the agent was installed would never be reported."""
    app = Celery("earlier", broker="memory://", set_as_current=False)
    assert app.amqp.send_task_message
    hook = Hook()
    hook.app, hook.task = app, app.task(name="published.earlier")(do_nothing)
    with pytest.raises(OSError, match="away"):
        hook.task.apply_async(producer=away(), retry=False)
    assert [name for name, _ in hook.failed] == ["published.earlier"]


def test_a_broker_that_fails_is_reported() -> None:
    """The job was reported as waiting: it would wait for ever."""
    hook = Hook()
    with pytest.raises(OSError, match="away"):
        hook.task.apply_async(producer=away(), retry=False)
    assert [(name, type(error)) for name, error in hook.failed] == [("published.task", OSError)]


def test_a_job_that_is_published_within_another_by_one_producer() -> None:
    """Of a task whose publication starts another task, with the same producer, one job would not be reported."""
    hook = Hook()
    inner = hook.app.task(name="published.inner")(do_nothing)
    with hook.app.producer_pool.acquire() as producer:

        def receiver(sender: str, **_: Any) -> None:
            if sender == "published.task":
                inner.apply_async(queue=f"inner-{id(hook)}", producer=producer)

        before_task_publish.connect(receiver)
        try:
            headers = hook.publish(producer=producer)
        finally:
            before_task_publish.disconnect(receiver)
    assert headers[HEADER] == {"createdAt": "now"}
    assert [name for name, _, _ in hook.announced] == ["published.inner", "published.task"]


def test_what_fails_before_the_message_is_made_is_not_reported() -> None:
    """The caller gets the error, and no job exists: it would be shown as lost."""
    hook = Hook()
    with pytest.raises(TypeError):
        hook.task.apply_async(args=5)
    with pytest.raises(Exception, match="serializable"):
        hook.task.apply_async(args=(object(),))
    assert (hook.announced, hook.failed) == ([], [])


def test_a_message_that_is_a_list_is_announced() -> None:
    """Code that changes Celery's message before it passes it on would publish jobs that wait unseen."""
    hook = Hook()
    amqp = hook.app.amqp
    message = amqp.create_task_message("listed", "published.task", (), {})
    with hook.app.connection() as connection:
        amqp.send_task_message(Producer(connection.default_channel), "published.task", list(message), queue="listed")
    assert hook.announced == [("published.task", "", "listed")]


def test_other_messages_are_not_jobs() -> None:
    """Celery's own events and a user's messages would be reported as jobs."""
    hook = Hook()
    with hook.app.connection() as connection:
        Producer(connection.default_channel).publish({}, routing_key="other", headers={"id": "other"})
    assert hook.announced == []


def away() -> Producer:
    """Return a producer whose broker is away."""
    channel: Any = Connection("memory://").channel()

    def basic_publish(*_: Any, **__: Any) -> None:
        raise OSError("away")

    channel.basic_publish = basic_publish
    return Producer(channel)
