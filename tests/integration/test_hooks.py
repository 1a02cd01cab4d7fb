"""Hooks with which a user changes, hides or drops events; other users' headers stay."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.support.accounting import status_of
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

HOOKED = "tests.integration.apps.hooked"
DONE = ["queued", "active", "completed"]


def test_before_send_changes_events_and_drops_them(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Otherwise data that a user must not send would be sent, or events would be dropped without being counted."""
    env = {"SLUICE_TEST_INSTALL": "0"}
    worker = start_worker(app=HOOKED, env=env)
    code = f"from {HOOKED} import *\nprint(tasks.noop.delay().id, secret_name.delay().id)"
    dropped, renamed = producer(env=env).run(code).split()
    wait_until(lambda: endpoint.states(renamed) == DONE, 20, "the job did not arrive", worker.tail)
    assert {event["job"]["name"] for event in endpoint.jobs()[renamed]} == {"hidden"}
    assert worker.terminate().code == 0
    assert dropped not in endpoint.jobs()
    report = status_of(worker.env)
    assert report["dropped"] == {"before_send": 3}
    assert report["captured"] == report["delivered"] + 3


def test_arguments_are_sent_only_on_request_and_through_the_redaction(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Otherwise the installation of a monitor would send customers' data to a third party."""
    env = {"SLUICE_TEST_INSTALL": "0", "SLUICE_CAPTURE_ARGS": "1"}
    worker = start_worker(app=HOOKED, env=env)
    job = producer(env=env).run(f"from {HOOKED} import *\nprint(greet.delay('Ada').id)")
    wait_until(lambda: endpoint.states(job) == DONE, 20, "the job did not arrive", worker.tail)
    extensions = [event["job"]["extensions"] for event in endpoint.jobs()[job]]
    assert (extensions[0]["args"], extensions[0]["kwargs"]) == ({"length": 1}, {"length": 0})
    assert extensions[-1]["result"] == {"length": len("Hello Ada")}
    assert "Ada" not in json.dumps(endpoint.events)

    assert worker.terminate().code == 0  # it consumes the same queue
    plain = start_worker()
    job = producer().send("add", 1, 2)
    wait_until(lambda: endpoint.states(job) == DONE, 20, "the job did not arrive", plain.tail)
    assert not {"args", "kwargs", "result"} & endpoint.jobs()[job][-1]["job"]["extensions"].keys()


def test_a_call_that_was_captured_whole_says_so(endpoint: Endpoint, producer: Callable[..., Producer]) -> None:
    """Otherwise a server would send a job again with other arguments, or without its time limit and headers."""
    code = """
        import datetime
        from tests.integration.tasks import add
        print(add.apply_async((1, 2.5), time_limit=30, headers={"tenant": "a"}).id)
        print(add.delay(1, datetime.date.today()).id)
    """
    whole, cut = producer(env={"SLUICE_CAPTURE_ARGS": "1"}).run(code).split()
    wait_until(lambda: {whole, cut} <= endpoint.jobs().keys(), 20, "the jobs did not arrive")
    extensions = endpoint.jobs()[whole][0]["job"]["extensions"]
    assert (extensions["args"], extensions["kwargs"], extensions["argsWhole"]) == ([1, 2.5], {}, True)
    options = {"serializer": "json", "timeLimit": 30, "headers": {"tenant": "a"}, "headersWhole": True}
    assert extensions["message"] == options
    assert "argsWhole" not in endpoint.jobs()[cut][0]["job"]["extensions"]


def test_tasks_that_are_ignored_leave_no_trace(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Otherwise an uninteresting task that runs ten times a second would cost more than all others."""
    env = {"SLUICE_IGNORE_TASKS": "other.*, *.noop"}
    worker = start_worker(env=env)
    ignored, seen = producer(env=env).send_all(("noop",), ("add", 1, 2))
    wait_until(lambda: endpoint.states(seen) == DONE, 20, "the job did not arrive", worker.tail)
    assert worker.terminate().code == 0
    assert ignored not in endpoint.jobs()


def test_the_task_does_not_see_our_header_and_others_stay(
    start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Otherwise a task that copies its headers would publish ours, or a tracer would lose its trace."""
    worker = start_worker()
    code = """
        import json
        from tests.integration.tasks import headers_seen
        print(json.dumps(headers_seen.apply_async(headers={"traceparent": "00-ab-cd-01"}).get(timeout=20)))
        print(json.dumps(headers_seen.apply_async().get(timeout=20)))
    """
    traced, plain = (json.loads(line) for line in producer().run(code).splitlines())
    assert traced == {"headers": {"traceparent": "00-ab-cd-01"}, "attributes": []}, worker.tail()
    assert plain == {"headers": None, "attributes": []}
