"""An app on a Celery and a kombu that publish by other methods than those that the agent patches."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from celery.app.amqp import AMQP
from kombu import Producer

OTHER = os.environ["OTHER"]

if OTHER == "names":
    publish = Producer._publish

    def _publish(producer: Producer, *parts: Any, **options: Any) -> Any:
        """Publish, with arguments that have no names."""
        return publish(producer, *parts, **options)

    Producer._publish = _publish
elif OTHER == "publisher":
    Producer._hand_over = Producer._publish
    del Producer._publish

    def _attribute(producer: Producer, name: str) -> Any:
        """Return an attribute that only the object has, not its class."""
        if name != "_publish":
            raise AttributeError(name)
        return producer._hand_over

    Producer.__getattr__ = _attribute
elif OTHER == "sender":
    AMQP._make_sender = AMQP._create_task_sender
    del AMQP._create_task_sender
    AMQP.send_task_message = cached_property(lambda amqp: amqp._make_sender())
    AMQP.send_task_message.__set_name__(AMQP, "send_task_message")

from tests.integration.tasks import app, noop, retry_then_succeed  # noqa: E402 - after the changes above

__all__ = ["app", "noop", "retry_then_succeed"]
