"""What acting needs of a broker: its interface, the message that is sent, and the ways in which sending fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


class BrokerAwayError(Exception):
    """The broker, or the result backend, can't be reached. Nothing was sent."""


class UnconfirmedError(Exception):
    """The connection failed while a message was sent: it is unknown whether the broker has it."""


class RejectedError(Exception):
    """The broker does not take this message, or it can't be encoded. Nothing was sent."""


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """A message that calls a task: its options are those of Celery's ``apply_async``, with limits in seconds."""

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str
    serializer: str = "json"
    priority: int | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool = False
    shadow: str | None = None
    headers: Mapping[str, Any] | None = None
    """The caller's own."""
    stamps: Mapping[str, Any] | None = None
    retries: int = 0
    """The number of attempts before this one."""
    expires: datetime | None = None
    """When workers discard it."""


@dataclass(frozen=True, slots=True)
class StoredCall:
    """The call of a task as a result backend keeps it, with ``result_extended``."""

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Takers:
    """Who takes messages from a queue, and how many of these wait there."""

    slots: int
    """The tasks that its workers execute at a time; 0: no worker takes from it."""
    waiting: int


class Sender(Protocol):
    """One open connection to a broker."""

    def send(self, message: TaskMessage, task_id: str, created_at: str | None) -> None:
        """Send `message` under `task_id`; `created_at` is its time of creation, a timestamp, if that was reported.

        Raises `UnconfirmedError` or `RejectedError`.
        """


class Broker(Protocol):
    """A broker with its workers, and the result backend, if there is one. All calls end within seconds.

    Every method raises `BrokerAwayError`.
    """

    def sending(self) -> AbstractContextManager[Sender]:
        """Connect for sending."""

    def revoke(self, task_ids: Sequence[str]) -> None:
        """Ask all workers not to run these jobs. Jobs that run are not stopped."""

    def registered_tasks(self) -> frozenset[str]:
        """Return the names of the tasks that live workers have."""

    def takers(self, queue: str) -> Takers:
        """Return who takes messages from a queue, as far as workers answer within a second."""

    def queue_of(self, task: str) -> str:
        """Return the queue to which messages of a task go, by the app's routes and its default. It asks no server.

        Raises `RejectedError` if the routes name none.
        """

    def queue_priority(self, priority: int) -> int:
        """Return the priority of a message, for one from 0 to 9 of which the highest comes first."""

    def stored_call(self, task_id: str) -> StoredCall | None:
        """Return the call of a job in the result backend; None if there is no backend, or it does not have the call."""
