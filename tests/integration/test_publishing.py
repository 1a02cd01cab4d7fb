"""Reports of a publication when something else happens at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.accounting import status_of
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

ONCE_THE_BROKER_HAS_IT = """
    import os, signal
    from kombu.transport.redis import Channel
    from tests.integration.tasks import add
    put = Channel._put
    def put_and(self, queue, message, **options):
        put(self, queue, message, **options)
        {what_happens}
    Channel._put = put_and
    try:
        add.apply_async((1, 2), task_id={job!r}, retry=False)
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_a_producer_that_is_interrupted_or_killed_loses_no_job(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """A job that the broker has, but that is not reported until it runs, is missing just when its queue is long."""
    sender = producer()
    raised = ONCE_THE_BROKER_HAS_IT.format(what_happens="raise KeyboardInterrupt", job="raised")
    assert sender.run(raised) == "interrupted", "the host sees the exception"
    killed = sender.start(
        ONCE_THE_BROKER_HAS_IT.format(what_happens="os.kill(os.getpid(), signal.SIGKILL)", job="killed")
    )
    assert killed.wait(20) == -9
    wait_until(lambda: endpoint.states("raised") == ["queued", "unknown"], 20, "not reported", endpoint.walks)
    last = endpoint.jobs()["raised"][-1]["job"]
    assert last["error"] == "KeyboardInterrupt"
    assert "it is unknown whether the broker has it" in last["extensions"]["reason"]

    worker = start_worker()
    wait_until(lambda: endpoint.states("killed") == ["queued", "active", "completed"], 20, "killed", endpoint.walks)
    walk = ["queued", "unknown", "active", "completed"]
    wait_until(lambda: endpoint.states("raised") == walk, 20, "raised", endpoint.walks)
    assert endpoint.duplicates == []
    assert worker.terminate().code == 0
    report = status_of(worker.env)
    assert report["captured"] == report["delivered"], "and the counters include each event"


def test_a_publication_that_can_not_be_serialised_is_no_job(
    endpoint: Endpoint, producer: Callable[..., Producer]
) -> None:
    """A call whose arguments can't be serialised makes no job: a reported one would wait for ever."""
    code = """
        import sluice_agent
        from kombu.exceptions import EncodeError
        from tests.integration.tasks import add, noop
        try:
            add.apply_async((object(), 2), task_id="never")
        except EncodeError:
            print(noop.delay().id)
        sluice_agent.flush()
    """
    job = producer().run(code)
    wait_until(lambda: endpoint.states(job) == ["queued"], 20, "not reported", endpoint.walks)
    assert "never" not in endpoint.jobs()


def test_changes_by_other_receivers_are_reported(endpoint: Endpoint, producer: Callable[..., Producer]) -> None:
    """Receivers that set priorities and ETAs are common: otherwise the report would differ from the message."""
    code = """
        import sluice_agent
        from celery import signals
        from tests.integration.tasks import noop
        def change(headers, properties, **_):
            properties["priority"] = 7
            headers["eta"] = "2099-01-01T00:00:00+00:00"
        signals.before_task_publish.connect(change)
        print(noop.delay().id)
        sluice_agent.flush()
    """
    job = producer().run(code)
    wait_until(lambda: endpoint.states(job) == ["scheduled"], 20, "not reported", endpoint.walks)
    extensions = endpoint.jobs()[job][0]["job"]["extensions"]
    assert (extensions["priority"], extensions["eta"]) == (7, "2099-01-01T00:00:00.000000Z")


def test_the_queue_is_that_of_the_app_which_publishes(
    endpoint: Endpoint, producer: Callable[..., Producer], tmp_path: Path
) -> None:
    """Use of another app would make Celery import settings that the host never imports, and name a wrong queue."""
    (tmp_path / "celeryconfig.py").write_text("print('a celeryconfig is imported')")
    code = f"""
        import sys, threading
        sys.path.insert(0, {str(tmp_path)!r})
        import sluice_agent
        from tests.integration.outcomes.app import TOPIC, app
        from celery import Celery, _state
        def publish():
            print(app.send_task("tests.integration.tasks.add", (1, 2), queue=TOPIC, routing_key="order.created").id)
        thread = threading.Thread(target=publish)
        thread.start(); thread.join()
        other = Celery("other")  # the current app from here on
        publish()
        sluice_agent.flush()
        print(other.configured, _state.default_app)
    """
    in_thread, beside_another, rest = producer().run(code).splitlines()
    assert rest == "False None"
    for job in (in_thread, beside_another):
        wait_until(lambda job=job: endpoint.states(job) == ["queued"], 20, "not reported", endpoint.walks)
        assert endpoint.jobs()[job][0]["job"]["queue"].endswith("-topic")


def test_a_sender_that_was_made_before_the_agent_is_patched_too(
    endpoint: Endpoint, producer: Callable[..., Producer]
) -> None:
    """Otherwise the agent would never see the jobs of an app that publishes while its modules are imported."""
    code = """
        import os
        from celery import Celery
        app = Celery("early", broker=os.environ["BROKER_URL"])
        app.send_task("early")
        import sluice_agent
        sluice_agent.install()
        print(app.send_task("late").id)
        sluice_agent.flush()
    """
    job = producer(env={"SLUICE_TEST_INSTALL": "0"}).run(code)
    wait_until(lambda: endpoint.states(job) == ["queued"], 20, "not reported", endpoint.walks)
    assert list(endpoint.jobs()) == [job]


def test_a_wrapper_that_was_set_before_the_agent_stays(endpoint: Endpoint, producer: Callable[..., Producer]) -> None:
    """Tracers wrap the sender, as Celery's function: if the agent removed the wrapper, the host would lose traces."""
    code = """
        import functools, os
        from celery import Celery
        app = Celery("early", broker=os.environ["BROKER_URL"])
        send = app.amqp.send_task_message
        @functools.wraps(send)
        def traced(producer, name, *args, **kwargs):
            print(name)
            return send(producer, name, *args, **kwargs)
        app.amqp.send_task_message = traced
        import sluice_agent
        sluice_agent.install()
        print(app.send_task("late").id)
        sluice_agent.flush()
    """
    name, job = producer(env={"SLUICE_TEST_INSTALL": "0"}).run(code).splitlines()
    assert name == "late"
    wait_until(lambda: endpoint.states(job) == ["queued"], 20, "not reported", endpoint.walks)


def test_a_producer_that_copies_the_headers_is_reported_too(
    endpoint: Endpoint, producer: Callable[..., Producer]
) -> None:
    """A caller's producer may add headers. Otherwise its job would be missing while it waits, without being counted."""
    code = """
        import sluice_agent
        from kombu import Producer
        from tests.integration.tasks import noop
        class Tracing(Producer):
            def publish(self, body, headers=None, **options):
                return super().publish(body, headers={**headers, "trace": "1"}, **options)
        noop.app.conf.task_send_sent_event = True
        with noop.app.connection_for_write() as connection:
            print(noop.apply_async(producer=Tracing(connection)).id)
        sluice_agent.flush()
    """
    job = producer().run(code)
    wait_until(lambda: endpoint.states(job) == ["queued"], 20, "not reported", endpoint.walks)
    assert endpoint.jobs()[job][0]["job"]["queue"] != "celeryev"
