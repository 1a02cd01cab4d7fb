"""Celery as it is without the agent, before and after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Task
from celery.app.amqp import AMQP
from celery.app.task import Context
from celery.app.trace import TraceInfo
from celery.backends.base import Backend
from celery.concurrency.base import BasePool
from celery.events.dispatcher import EventDispatcher
from celery.worker import WorkController
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu import Producer
from kombu.transport.virtual import Message

PATCHED = (
    *(AMQP, Backend, BasePool, Consumer, Context, EventDispatcher, Message),
    *(Producer, Request, Task, TraceInfo, WorkController),
)
"""The classes of which the agent replaces methods: a method is replaced once in a process."""


@pytest.fixture(autouse=True)
def restored_methods() -> Iterator[None]:
    """Restore the methods that a test lets the agent replace."""
    before = [(owner, dict(vars(owner))) for owner in PATCHED]
    yield
    for owner, members in before:
        for name, member in members.items():
            if vars(owner).get(name) is not member:
                setattr(owner, name, member)
