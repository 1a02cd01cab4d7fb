"""How a run ends: by its own doing, by a limit, by a signal, by its process."""

from __future__ import annotations

from celery import chain

from tests.integration import tasks
from tests.integration.outcomes.table import ALL, EVENTLET, GEVENT, PREFORK, SOLO, THREADS, Outcome
from tests.integration.outcomes.ways import call, first_of, last_of, terminated, with_a_new_file

PREFORK_ONLY: dict[str, str | None] = {THREADS: None, SOLO: None, GEVENT: None, EVENTLET: None}
SILENT = "queued active unknown"
"""What a monitor tells of a run that ends without an event."""
TERMINATED: dict[str, str | None] = {
    THREADS: "queued active completed",
    SOLO: "queued active completed",
    "gevent<5.5": "queued active completed",
    ALL: "queued active cancelled",
}

ENDINGS = (
    Outcome("success", "returns", call(tasks.add, 1, 2), {ALL: "queued active completed"}),
    Outcome("exception", "raises", call(tasks.fail, "boom"), {ALL: "queued active failed"}, error=r"ValueError: boom"),
    Outcome(
        "exception with a cause",
        "raises from another exception",
        call(tasks.fail_with_cause),
        {ALL: "queued active failed"},
        error="ValueError: outer",
        stacktrace=r"^Traceback .*KeyError: 'NO_SUCH_VARIABLE'\n\n"
        r"The above exception was the direct cause .*\nValueError: outer$",
    ),
    Outcome(
        "retry to success",
        "`self.retry` twice, then returns",
        call(tasks.retry_then_succeed, 2),
        {ALL: "queued active retrying active/2 retrying/2 active/3 completed/3"},
    ),
    Outcome(
        "retry with a countdown",
        "`self.retry(countdown=…)` twice, then returns",
        call(tasks.retry_then_succeed, 2, 1.0),
        {ALL: "queued active retrying active/2 retrying/2 active/3 completed/3"},
        of_state={"retrying": {"celeryState": "RETRY", "eta": ..., "runtime": ...}},
    ),
    Outcome(
        "retry exhausted",
        "`self.retry(exc=…)` beyond `max_retries`",
        call(tasks.retry_exhausted),
        {ALL: "queued active retrying active/2 retrying/2 active/3 failed/3"},
        error=r"ValueError: attempt 3",
    ),
    Outcome(
        "retry exhausted, no exception",
        "`self.retry()` beyond `max_retries`",
        call(tasks.retry_exhausted_bare),
        {ALL: "queued active retrying active/2 retrying/2 active/3 failed/3"},
        error=r"MaxRetriesExceededError: .*",
    ),
    Outcome(
        "autoretry exhausted",
        "`autoretry_for` beyond `max_retries`",
        call(tasks.autoretry_exhausted),
        {ALL: "queued active retrying active/2 retrying/2 active/3 failed/3"},
        error=r"ValueError: attempt 3",
    ),
    Outcome(
        "retry in a chain",
        "the first of a chain is retried",
        first_of(lambda: chain(tasks.retry_then_succeed.s(1), tasks.noop.si())),
        {ALL: "queued active retrying active/2 completed/2"},
    ),
    Outcome(
        "chain after a retry",
        "the last of a chain whose first is retried",
        last_of(lambda: chain(tasks.retry_then_succeed.s(1), tasks.noop.si())),
        {ALL: "queued active completed"},
        extensions={"parentId": ...},
    ),
    Outcome(
        "ignore",
        "`raise Ignore`",
        call(tasks.ignore),
        {ALL: "queued active completed"},
        watched={ALL: SILENT},
        extensions={"celeryState": "IGNORED"},
    ),
    Outcome(
        "reject",
        "`raise Reject(requeue=False)`",
        call(tasks.reject),
        {ALL: "queued active failed"},
        error=r"Reject: .*on purpose.*",
        extensions={"celeryState": "REJECTED"},
    ),
    Outcome(
        "reject and requeue",
        "`raise Reject(requeue=True)`, then returns",
        with_a_new_file(tasks.reject_once),
        {ALL: "queued active queued active completed"},
        extensions={"redelivered": True},
        of_state={"queued": {"requeued": True, "celeryState": "REJECTED"}, "active": {"redelivered": True}},
    ),
    Outcome(
        "terminated by SIGTERM",
        "revoked with `terminate` while it runs",
        terminated("SIGTERM"),
        TERMINATED,
        of_state={"cancelled": {"celeryState": "REVOKED", "terminated": True, "signum": "15"}},
        blocks=True,
    ),
    Outcome(
        "terminated by SIGKILL",
        "revoked with `terminate` and `signal='SIGKILL'` while it runs",
        terminated("SIGKILL"),
        TERMINATED,
        of_state={"cancelled": {"celeryState": "REVOKED", "terminated": True, "signum": "9"}},
        blocks=True,
    ),
    Outcome(
        "soft time limit",
        "runs beyond its soft time limit",
        call(tasks.soft_limited, 2.5),
        {PREFORK: "queued active failed", ALL: "queued active completed"},
        error=r"SoftTimeLimitExceeded: .*",
        note="Other pools know no soft limit.",
        blocks=True,
    ),
    Outcome(
        "hard time limit",
        "runs beyond its hard time limit",
        call(tasks.hard_limited, 2.5),
        {PREFORK: "queued active failed", ALL: "queued active completed", GEVENT: "queued active failed"},
        watched={"gevent<5.7": SILENT},
        error=r"TimeLimitExceeded: .*1.*|Timeout: 1 second",
        note="Before 5.7 gevent tells no verdict: we do, with `extensions.reason`. Other pools know no hard limit.",
        blocks=True,
    ),
    Outcome(
        "killed",
        "its process gets SIGKILL",
        call(tasks.kill_self),
        {PREFORK: "queued active failed", **PREFORK_ONLY},
        error=r"WorkerLostError: .*(signal 9 \(SIGKILL\)|exitcode 0) .*",
        note="On filesystem, where another process of the pool ends within 10 s, Celery says exitcode 0.",
    ),
    Outcome(
        "killed and retried",
        "its process gets SIGKILL, with `retry_on_worker_lost` (new in Celery 5.7); then returns",
        call(tasks.kill_self_and_retry),
        {
            "prefork<5.7": "queued active failed",
            PREFORK: "queued active retrying active/2 completed/2",
            **PREFORK_ONLY,
        },
    ),
    Outcome(
        "killed, acks_late",
        "its process gets SIGKILL, with `acks_late`",
        call(tasks.kill_self_late),
        {PREFORK: "queued active failed", **PREFORK_ONLY},
        error=r"WorkerLostError: .*(signal 9 \(SIGKILL\)|exitcode 0) .*",
    ),
    Outcome(
        "killed and requeued",
        "its process gets SIGKILL, with `acks_late` and `reject_on_worker_lost`; then returns",
        with_a_new_file(tasks.kill_self_once),
        {
            "prefork@filesystem<5.6": None,
            PREFORK: "queued active queued active completed",
            **PREFORK_ONLY,
        },
        extensions={"redelivered": True},
        of_state={"queued": {"requeued": True, "celeryState": "REJECTED"}, "active": {"redelivered": True}},
        note="Before Celery 5.6 a pool on filesystem that has lost processes may never run it again.",
    ),
    Outcome(
        "sys.exit",
        "calls `sys.exit(1)`",
        call(tasks.exit_with, 1),
        {SOLO: None, ALL: "queued active failed"},
        watched={"prefork<5.7": SILENT, PREFORK: "queued active failed", ALL: SILENT},
        error=r"SystemExit: 1|WorkerLostError: .*exitcode [01].*",
        note="A solo worker ends. Threads, gevent, eventlet and, before 5.7, newer prefork pools tell no verdict: "
        "we say so in `extensions.reason`, within 3 s.",
    ),
    Outcome(
        "result that can't be serialised",
        "returns a lock",
        call(tasks.unserialisable_result),
        {ALL: "queued active failed"},
        error=r"EncodeError: .*",
    ),
    Outcome(
        "result that can't be stored",
        "the result backend is away for a moment",
        call(tasks.unstored_result),
        {ALL: "queued active completed failed"},
        error=r"ConnectionError: the result backend is away",
        watched={ALL: "queued active failed"},
        note="Celery says that the job has run, and then that it has failed: nobody gets its result.",
    ),
    Outcome(
        "exception that can't be pickled",
        "raises an error that holds a lock",
        call(tasks.unpicklable_error),
        {ALL: "queued active failed"},
        error=r"UnpicklableError: holds a lock",
    ),
    Outcome(
        "exception that can't be printed",
        "raises an error whose `str()` raises",
        call(tasks.unprintable_error),
        {ALL: "queued active failed"},
        error=r"UnprintableError: .*str\(\) failed.*",
    ),
    Outcome(
        "error of 1 MB",
        "raises an error with a long message",
        call(tasks.big_error, 1_000_000),
        {ALL: "queued active failed"},
        error=r"ValueError: x+…\[\d+ characters cut\]",
    ),
    Outcome(
        "error with lone surrogates",
        "raises an error that UTF-8 can't carry",
        call(tasks.surrogate_error),
        {ALL: "queued active failed"},
        error=r"ValueError: no such file: .*udcff.*",
    ),
)
