"""How a job is published, and what becomes of it before and beside its run."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from celery import chain, chord, group
from celery.canvas import StampingVisitor

from tests.integration import tasks
from tests.integration.outcomes.table import ALL, Outcome
from tests.integration.outcomes.ways import (
    BEAT_ENTRY,
    by_an_app_with,
    by_beat,
    call,
    first_of,
    last_of,
    linked,
    message,
    published_by_a_task,
    revoked_early,
    revoked_while_held,
)

QUEUE = tasks.app.conf.task_default_queue
NOTHING = {ALL: ""}
"""No event tells of it."""


class Stamping(StampingVisitor):
    """Stamps every signature with a customer."""

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, str]:
        return {"customer": "c-1"}


def stamped(signature: Any) -> Any:
    signature.stamp(Stamping())
    return signature


PUBLISHINGS = (
    Outcome(
        "countdown",
        "published with a countdown",
        call(tasks.add, 1, 2, countdown=1),
        {ALL: "scheduled active completed"},
        extensions={"eta": ...},
        of_state={"scheduled": {"eta": ..., "celeryState": "PENDING"}},
    ),
    Outcome(
        "eta",
        "published with an ETA",
        lambda: str(tasks.add.apply_async((1, 2), eta=datetime.now(timezone.utc) + timedelta(seconds=2)).id),
        {ALL: "scheduled active completed"},
        extensions={"eta": ...},
        of_state={"scheduled": {"eta": ..., "celeryState": "PENDING"}},
    ),
    Outcome(
        "expired",
        "its `expires` passes before it is received",
        lambda: str(tasks.add.apply_async((1, 2), expires=datetime.now(timezone.utc) - timedelta(seconds=1)).id),
        {"@rabbitmq": None, "@rabbitmq-quorum": None, ALL: "queued cancelled"},
        extensions={"expired": True, "celeryState": "REVOKED"},
        note="RabbitMQ itself drops it, and nobody hears of it.",
    ),
    Outcome(
        "expired while held",
        "its `expires` passes while it waits for its ETA",
        call(tasks.add, 1, 2, countdown=3, expires=1),
        {ALL: "scheduled cancelled"},
        extensions={"expired": True, "celeryState": "REVOKED"},
    ),
    Outcome(
        "revoked while queued",
        "revoked before it is received",
        revoked_early,
        {ALL: "queued cancelled"},
        extensions={"celeryState": "REVOKED"},
    ),
    Outcome(
        "publishes tasks",
        "a task that publishes two others",
        call(tasks.publish_children, 2),
        {ALL: "queued active completed"},
    ),
    Outcome(
        "published by a task",
        "what another task publishes",
        published_by_a_task,
        {ALL: "queued active completed"},
        extensions={"parentId": ..., "rootId": ...},
    ),
    Outcome(
        "chain",
        "the last of a chain",
        last_of(lambda: chain(tasks.add.si(1, 2), tasks.add.s(3))),
        {ALL: "queued active completed"},
        extensions={"parentId": ..., "rootId": ...},
    ),
    Outcome(
        "group",
        "a member of a group",
        first_of(lambda: group(tasks.add.s(1, 1), tasks.add.s(2, 2))),
        {ALL: "queued active completed"},
        extensions={"groupId": ...},
    ),
    Outcome(
        "chord",
        "the body of a chord",
        last_of(lambda: chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.tsum.s())),
        {ALL: "queued active completed"},
        extensions={"parentId": ..., "rootId": ...},
    ),
    Outcome("progress", "reports progress", call(tasks.progress, 10), {ALL: "queued active completed"}),
    Outcome(
        "priority",
        "published with a priority",
        call(tasks.add, 1, 2, priority=3),
        {ALL: "queued active completed"},
        extensions={"priority": 3},
        of_state={"queued": {"priority": 3}},
    ),
    Outcome(
        "shadow name",
        "published under another name",
        call(tasks.add, 1, 2, shadow="sum of two"),
        {ALL: "queued active completed"},
        extensions={"taskName": "tests.integration.tasks.add"},
    ),
    Outcome(
        "link",
        "the callback of `link`",
        linked(tasks.add, 1, 2, link=tasks.add.s(3)),
        {ALL: "queued active completed"},
        extensions={"parentId": ...},
    ),
    Outcome(
        "link_error",
        "the callback of `link_error`, which takes the failed job's id",
        linked(tasks.fail, link_error=tasks.handle_error.s()),
        {ALL: "queued active completed"},
        extensions={"parentId": ...},
        note="A callback that takes request, exception and traceback is called in the failing job and is no job.",
    ),
    Outcome(
        "chord with a failing member",
        "the member of a chord that raises",
        first_of(lambda: chord([tasks.fail.s("member"), tasks.add.s(2, 2)], tasks.tsum.s())),
        {ALL: "queued active failed"},
        error="ValueError: member",
        extensions={"groupId": ...},
        note="The chord's body is never sent, so nothing is told of it.",
    ),
    Outcome(
        "nested canvas",
        "the last job of a chain that holds a group that holds a chain",
        last_of(lambda: chain(group(tasks.add.s(1, 1), chain(tasks.add.s(2, 2), tasks.add.s(3))), tasks.tsum.s())),
        {ALL: "queued active completed"},
        extensions={"parentId": ...},
    ),
    Outcome(
        "replace",
        "`self.replace` by another task",
        call(tasks.replace_self),
        {ALL: "queued active queued active completed"},
        job={"name": tasks.add.name},
        of_state={"queued": {"requeued": True}},
        note="The job goes on as another task under the same id.",
    ),
    Outcome(
        "stamped headers",
        "published with a stamp",
        last_of(lambda: stamped(tasks.add.si(1, 2))),
        {ALL: "queued active completed"},
        extensions={"stamps": {"customer": "c-1"}},
    ),
    Outcome(
        "periodic task",
        "sent by beat",
        by_beat,
        {ALL: "queued active completed"},
        extensions={"periodicTask": BEAT_ENTRY},
        of_state={"queued": {"periodicTask": BEAT_ENTRY}},
    ),
    Outcome(
        "custom queue",
        "published to a queue by its name",
        call(tasks.add, 1, 2, queue=f"{QUEUE}-direct"),
        {ALL: "queued active completed"},
        queue="-direct",
    ),
    Outcome(
        "custom exchange",
        "published to a direct exchange with a routing key",
        call(tasks.add, 1, 2, exchange=f"{QUEUE}-direct-exchange", routing_key="to-direct"),
        {ALL: "queued active completed"},
        queue="-direct",
    ),
    Outcome(
        "topic",
        "published to a topic exchange with a routing key",
        call(tasks.add, 1, 2, queue=f"{QUEUE}-topic", routing_key="order.created.eu"),
        {ALL: "queued active completed"},
        queue="-topic",
    ),
    Outcome(
        "eager",
        "`task_always_eager`: runs where it is called",
        by_an_app_with(tasks.add, 1, 2, task_always_eager=True),
        {ALL: "active completed"},
        watched=NOTHING,
        extensions={"eager": True},
        dated=False,
        queue=None,
        note="Nothing is published, so there is no queue and no `createdAt`.",
    ),
    Outcome(
        "eager, raises",
        "`task_always_eager`: raises where it is called",
        by_an_app_with(tasks.fail, "eager", task_always_eager=True),
        {ALL: "active failed"},
        watched=NOTHING,
        error="ValueError: eager",
        extensions={"eager": True},
        dated=False,
        queue=None,
    ),
    Outcome(
        "eager, retried",
        "`task_always_eager`: `self.retry` once, then returns, all of it where it is called",
        by_an_app_with(tasks.retry_then_succeed, 1, task_always_eager=True),
        {ALL: "active retrying active/2 completed/2"},
        watched=NOTHING,
        extensions={"eager": True},
        dated=False,
        queue=None,
    ),
    Outcome(
        "producer without the agent",
        "published where nobody watches; the worker tells `queued`",
        call(tasks.add, 1, 2),
        {ALL: "queued active completed"},
        bare=True,
        dated=False,
    ),
    Outcome(
        "task protocol 1",
        "published with `task_protocol = 1`",
        by_an_app_with(tasks.add, 1, 2, task_protocol=1),
        {ALL: "queued active completed"},
    ),
    Outcome(
        "task protocol 1, retried",
        "published with `task_protocol = 1`; `self.retry` once, then returns",
        by_an_app_with(tasks.retry_then_succeed, 1, task_protocol=1),
        {ALL: "queued active retrying active/2 completed/2"},
    ),
    Outcome(
        "malformed, no task",
        "a message that names no task, but has an id",
        message({"hello": "world"}, correlation_id="ID"),
        {ALL: "failed"},
        watched=NOTHING,
        error="InvalidTaskError: .*",
        extensions={"celeryState": "REJECTED"},
        traced=False,
        dated=False,
        named=False,
    ),
    Outcome(
        "malformed, wrong ETA",
        "a message with an ETA that is no time",
        message([[1, 2], {}, {}], {"task": tasks.add.name, "id": "ID", "eta": "tomorrow"}),
        {ALL: "failed"},
        watched=NOTHING,
        error="InvalidTaskError: .*ETA.*",
        job={"name": tasks.add.name},
        extensions={"celeryState": "REJECTED"},
        traced=False,
        dated=False,
    ),
    Outcome(
        "malformed, protocol 1",
        "a message of protocol 1 whose keyword arguments are a list",
        message({"task": tasks.add.name, "id": "ID", "args": [1, 2], "kwargs": []}),
        {ALL: "failed"},
        watched=NOTHING,
        error="InvalidTaskError: .*",
        job={"name": tasks.add.name},
        extensions={"celeryState": "REJECTED"},
        traced=False,
        dated=False,
    ),
    Outcome(
        "unknown task",
        "no worker has such a task",
        lambda: str(tasks.app.send_task("no.such.task").id),
        {ALL: "queued failed"},
        error=r"NotRegistered: 'no.such.task'",
        traced=False,
    ),
    Outcome(
        "revoked while held",
        "revoked while it waits for its ETA",
        revoked_while_held,
        {ALL: "scheduled cancelled"},
        extensions={"celeryState": "REVOKED"},
        note="It is told when the ETA comes: until then Celery holds it.",
    ),
)
