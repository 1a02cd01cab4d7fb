"""The queue of a message, from the bindings of the app's queues."""

from __future__ import annotations

import gc
from weakref import ref

from celery import Celery
from kombu import Exchange, Queue

from sluice_agent.signals.queue_name import queue_of

DELIVERY = {"exchange": "media", "routing_key": "video.new"}


def shop() -> Celery:
    """An app with a topic exchange."""
    app = Celery("shop", set_as_current=False, broker="memory://")
    app.conf.task_queues = [Queue("celery"), Queue("videos", Exchange("media", type="topic"), routing_key="video.#")]
    return app


def test_a_queue_is_found_by_its_binding() -> None:
    """A user looks for jobs by the queue that they have named, not by a routing key."""
    app = shop()
    assert app.conf.task_queues
    assert [queue_of(app, DELIVERY) for _ in range(2)] == ["videos", "videos"]


def test_an_app_is_not_made_to_read_its_settings() -> None:
    """Celery would import a `celeryconfig` that the host never does, and execute it."""
    app = Celery("other", set_as_current=False)
    assert queue_of(app, DELIVERY) == "video.new"
    assert not app.configured


def test_an_app_that_its_host_discards_is_not_kept() -> None:
    """A host that makes an app for each of its customers would grow, with a connection pool for each."""
    app = shop()
    assert app.conf.task_queues
    assert queue_of(app, DELIVERY) == "videos"
    app.close()
    watched = ref(app)
    del app
    gc.collect()
    assert watched() is None
