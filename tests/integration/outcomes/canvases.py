"""Rows for jobs that belong together: jobs that a task publishes, and Celery's canvases."""

from __future__ import annotations

from typing import Any

from celery import chain, chord, group
from celery.canvas import StampingVisitor

from tests.integration import tasks
from tests.integration.outcomes.senders import call, first_of, last_of, linked, published_by_a_task
from tests.integration.outcomes.table import ALL, Outcome


class Stamping(StampingVisitor):
    """Stamp every signature with a customer."""

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, str]:
        return {"customer": "c-1"}


def stamped(signature: Any) -> Any:
    signature.stamp(Stamping())
    return signature


CANVASES = (
    Outcome(
        "publishes tasks",
        "a task that publishes two others",
        call(tasks.publish_children, 2),
        {ALL: "queued active completed"},
    ),
    Outcome(
        "published by a task",
        "a job that another task publishes",
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
        note="The chord's body is never published, so no event reports it.",
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
        note="The job continues as another task under the same id.",
    ),
    Outcome(
        "replace after a retry",
        "`self.retry` once, then `self.replace` by another task",
        call(tasks.retry_and_replace_self),
        {ALL: "queued active retrying active/2 queued active completed"},
        job={"name": tasks.add.name},
        of_state={"queued": {"requeued": True}},
        note="Celery counts the attempts of the other task from 1.",
    ),
    Outcome(
        "retry after a replace",
        "`self.replace` by a task that calls `self.retry` once",
        call(tasks.replace_self_by_retrying_task),
        {ALL: "queued active queued active retrying active/2 completed/2"},
        job={"name": tasks.retry_then_succeed.name},
    ),
    Outcome(
        "replace by a chain",
        "`self.replace` by a chain of three",
        call(tasks.replace_self_by_chain),
        {ALL: "queued active queued active completed"},
        job={"name": tasks.add.name},
        of_state={"queued": {"requeued": True}},
        note="The last of the chain has the job's id; the others are separate jobs. Until it is published, the job "
        "stays `active`.",
    ),
    Outcome(
        "replace by a group",
        "`self.replace` by a group of two",
        call(tasks.replace_self_by_group),
        {ALL: "queued active queued active completed"},
        job={"name": "celery.accumulate"},
        of_state={"queued": {"requeued": True}},
        note="The task that collects the group's results has the job's id. Until its publication the job is `active`.",
    ),
    Outcome(
        "chain after a replace",
        "the last of a chain whose first calls `self.replace`",
        last_of(lambda: chain(tasks.replace_self.si(), tasks.add.s(3))),
        {ALL: "queued active completed"},
        extensions={"parentId": ...},
    ),
    Outcome(
        "replace by a chain in a chain",
        "the first of a chain, which calls `self.replace` by a chain",
        first_of(lambda: chain(tasks.replace_self_by_chain.si(), tasks.add.s(5))),
        {ALL: "queued active queued active completed"},
        job={"name": tasks.add.name},
        of_state={"queued": {"requeued": True}},
    ),
    Outcome(
        "stamped headers",
        "published with a stamp",
        last_of(lambda: stamped(tasks.add.si(1, 2))),
        {ALL: "queued active completed"},
        extensions={"stamps": {"customer": "c-1"}},
    ),
)
