"""Events of one job, as agents and any other client may send them."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from tests.unit.server.events import at, job_event

STATES = [
    "queued",
    "scheduled",
    "active",
    "active",
    "active",
    "retrying",
    "unknown",
    "completed",
    "failed",
    "cancelled",
]
TRACES = [
    'Traceback (most recent call last):\n  File "/srv/app/tasks.py", line 12, in send\n    connect()\nValueError: no',
    "cut off",
]
SECONDS = st.sampled_from([0, 1, 1.5, 2, 3, 4.001, 5, 6])


def moments() -> st.SearchStrategy[str]:
    return SECONDS.map(at)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """Return an event of one job, as any client may send it."""
    fields = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "attempt": st.sampled_from([1, 1, 2, 3]),
                "createdAt": moments(),
                "startedAt": moments(),
                "completedAt": moments(),
                "maxRetries": st.sampled_from([3, 5]),
                "previousState": st.sampled_from(["queued", "active"]),
                "workerId": st.sampled_from(["celery@a", "celery@b"]),
                "queue": st.sampled_from(["q", "r"]),
                "error": st.sampled_from(["ValueError: no", "a.Lost: gone", "killed"]),
                "stacktrace": st.sampled_from(TRACES),
                "extensions": st.fixed_dictionaries(
                    {},
                    optional={
                        "redelivered": st.booleans(),
                        "requeued": st.booleans(),
                        "eta": st.sampled_from([at(3), at(9), None, "tomorrow"]),
                        "expires": st.sampled_from([at(30), at(90), None, "tomorrow"]),
                        "rootId": st.sampled_from(["root", 5]),
                        "parentId": st.sampled_from(["parent", "other", 5]),
                        "groupId": st.sampled_from(["group"]),
                        "args": st.sampled_from(["(1,)", "(2,)"]),
                        "kwargs": st.sampled_from(["{}"]),
                        "reason": st.sampled_from(["revoked", "lost"]),
                    },
                ),
            },
        )
    )
    state, second = draw(st.sampled_from(STATES)), draw(SECONDS)
    if state in ("queued", "scheduled") and draw(st.booleans()):
        fields["createdAt"] = at(second)
    if state == "active" and draw(st.booleans()):
        fields["progress"] = draw(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
    name = draw(st.sampled_from(["app.first", "app.first", "app.second", "unknown"]))
    return job_event(state, second, name=name, **fields)


def lives() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return the events of jobs: attempts as agents report them, with duplicates and any other event among them."""
    return st.tuples(st.integers(0, 3), st.lists(events(), max_size=8), st.randoms(use_true_random=False)).map(
        lambda drawn: mixed(plain_life(drawn[0]) + drawn[1], drawn[2])
    )


def plain_life(attempts: int) -> list[dict[str, Any]]:
    life = [job_event("queued", 0, createdAt=at(0), attempt=1, queue="q")] if attempts else []
    for attempt in range(1, attempts + 1):
        start = 2 * attempt - 1
        facts: dict[str, Any] = {"attempt": attempt, "startedAt": at(start), "workerId": "celery@a", "queue": "q"}
        life.append(job_event("active", start, **facts))
        life += [job_event("active", start + n / 10, progress=n / 10, **facts) for n in range(1, 4)]
        end = {"completedAt": at(start + 1)} if attempt == attempts else {}
        life.append(job_event("completed" if end else "retrying", start + 1, **facts, **end))
    return life


def mixed(events: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """Return `events` with some twice, mostly in order."""
    events = events + chance.sample(events, len(events) // 4)
    return sorted(events, key=lambda event: event["timestamp"] if chance.random() < 0.8 else at(chance.random() * 6))


def reports() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return the progress of one job that two observers report, with a few states between."""
    report = st.builds(
        lambda progress, worker, facts: ("active", {"progress": progress, "workerId": worker, **facts}),
        st.sampled_from([0.25, 0.5]),
        st.sampled_from(["celery@a", "celery@a", "celery@b"]),
        st.sampled_from([{}, {}, {"queue": "q"}]),
    )
    state = st.tuples(st.sampled_from(["unknown", "active", "retrying"]), st.just({}))
    return st.lists(report | report | report | state, min_size=4, max_size=8).map(in_order)


def in_order(steps: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        job_event(state, second, **fields, **({"createdAt": at(second)} if state == "queued" else {}))
        for second, (state, fields) in enumerate(steps)
    ]
