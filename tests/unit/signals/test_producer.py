"""Jobs as their producer reports them, before the message is sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, Task

from sluice_agent.signals.agent_header import (
    CREATED_AT,
    HEADER,
    PERIODIC_TASK,
    PRIORITY,
    PUBLISHED_AT,
    REPLACEMENTS,
    read_header,
)
from sluice_agent.signals.producer import PublishingProcess
from sluice_agent.signals.replacing import patch_replacements
from tests.unit.signals.observed import Observed, executing
from tests.unit.signals.test_publish_hook import away, do_nothing


class Shop:
    """An app that publishes jobs, and the events of its process."""

    def __init__(self, observed: Observed | None = None, *, message_header: bool = True) -> None:
        self.observed = observed or Observed()
        self.app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
        self.task: Task = self.app.task(name="shop.task")(do_nothing)
        self.process = PublishingProcess(self.observed.sink, self.observed.recorder, message_header=message_header)
        self.process.patch(lambda _: {})

    def publish(self, **options: Any) -> dict[str, str]:
        """Publish a job to a queue of its own, and return the agent header of its message."""
        queue = f"queue-{id(self)}"
        self.task.apply_async(queue=queue, **options)
        with self.app.connection() as connection:
            return read_header(connection.default_channel.basic_get(queue).headers)


@pytest.mark.parametrize(("options", "state"), [({}, "queued"), ({"countdown": 60}, "scheduled")])
def test_a_published_job_waits(options: dict[str, Any], state: str) -> None:
    """A job would appear only when a worker has received it, which may be never."""
    shop = Shop()
    agent_header = shop.publish(task_id="job", **options)
    assert (shop.observed.walk, shop.observed.last["queue"]) == (state, f"queue-{id(shop)}")
    assert agent_header == {CREATED_AT: shop.observed.last["createdAt"]}


def test_a_job_has_the_priority_of_its_message() -> None:
    """A worker of task protocol 2 does not see it."""
    shop = Shop()
    assert shop.publish(priority=7)[PRIORITY] == "7"


def test_arguments_are_captured_through_the_users_function() -> None:
    """Secrets in arguments would be sent, or a user who asks for arguments gets none."""
    shop = Shop(Observed(redact=lambda name, value: f"{name}: {value}"))
    shop.publish(args=(1,), kwargs={"a": 2})
    assert (shop.observed.last["args"], shop.observed.last["kwargs"]) == ("args: (1,)", "kwargs: {'a': 2}")


def test_without_the_header_the_message_stays_as_it_is() -> None:
    """A consumer that is not Celery may refuse a message with headers that it does not know."""
    shop = Shop(message_header=False)
    assert (shop.publish(), shop.observed.walk) == ({}, "queued")


def test_an_ignored_task_is_not_reported() -> None:
    """A user who ignores a task would see it waiting for ever."""
    shop = Shop(Observed(ignored="shop.task"))
    assert (shop.publish(), shop.observed.jobs) == ({}, [])


def test_a_job_that_may_not_be_published_is_unknown() -> None:
    """It would wait for ever; that the broker has refused it is not certain, as the answer may be lost."""
    shop = Shop()
    with pytest.raises(OSError, match="away"):
        shop.task.apply_async(producer=away(), retry=False)
    assert (shop.observed.walk, shop.observed.last["error"]) == ("queued unknown", "OSError: away")


def test_a_retry_is_published_by_the_run_that_ends_by_it() -> None:
    """Reported as queued, the job would seem to wait before its attempt has ended."""
    shop = Shop()
    with executing(shop.task):
        shop.observed.task_process.prerun(task=shop.task)
        created_at = shop.publish(task_id="job", retries=1)[CREATED_AT]
        shop.observed.task_process.postrun(task=shop.task, state="SUCCESS")
    assert shop.observed.walk == "active retrying"
    assert created_at


def test_a_retry_that_is_not_published_leaves_the_run_to_end_by_the_error() -> None:
    """It would end in a retry that never comes."""
    shop = Shop()
    with executing(shop.task):
        shop.observed.task_process.prerun(task=shop.task)
        with pytest.raises(OSError, match="away"):
            shop.task.apply_async(task_id="job", retries=1, producer=away(), retry=False)
        shop.observed.task_process.postrun(task=shop.task, state="SUCCESS")
    assert shop.observed.walk == "active completed"


def test_a_job_that_a_run_publishes_after_its_end_is_no_retry_of_it() -> None:
    """A hook that starts the job once more would be reported as its retry, and the new job not at all."""
    shop = Shop()
    with executing(shop.task):
        shop.observed.task_process.prerun(task=shop.task)
        shop.observed.task_process.postrun(task=shop.task, state="SUCCESS")
        shop.publish(task_id="job", retries=1)
    assert shop.observed.walk == "active completed queued"


def test_a_replacement_is_the_same_job_that_waits_again() -> None:
    """The job would be created a second time, under its own id."""
    shop = Shop()
    patch_replacements(shop.observed.sink)
    queue = f"queue-{id(shop)}"
    with executing(shop.task, is_eager=False, root_id="job", parent_id=None, called_directly=False) as context:
        shop.observed.task_process.prerun(task=shop.task)
        with pytest.raises(Exception, match="Replaced by new task"):
            shop.task.replace(shop.task.si().set(queue=queue))
    with shop.app.connection() as connection:
        agent_header = read_header(connection.default_channel.basic_get(queue).headers)
    assert (shop.observed.walk, shop.observed.last["requeued"]) == ("active queued", True)
    assert (agent_header[REPLACEMENTS], PUBLISHED_AT in agent_header) == ("1", True)
    assert context.id == shop.observed.last["externalId"]


def test_a_job_of_beat_has_the_name_of_its_schedule() -> None:
    """A user could not see which schedule starts a job."""
    shop = Shop()
    headers: list[dict[str, str]] = []
    scheduler = SimpleNamespace(apply_async=lambda entry: headers.append(shop.publish()))
    shop.process.name_periodic_tasks(SimpleNamespace(scheduler=scheduler))
    scheduler.apply_async(SimpleNamespace(name="nightly"))
    assert headers[0][PERIODIC_TASK] == "nightly"
    assert shop.observed.last["periodicTask"] == "nightly"
    assert PERIODIC_TASK not in shop.publish()
    assert HEADER not in shop.observed.last
