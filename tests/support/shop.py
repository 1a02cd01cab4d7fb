"""A small shop as its agents would report it: jobs in every state, a canvas, workers and queues, and hostile texts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

CONNECTION = "550e8400-e29b-41d4-a716-446655440000"
HOSTILE_NAME = "../../x?y#z%00"
HOSTILE_TEXT = "<script>document.title='run'</script>\"><img src=x onerror=\"document.title='run'\">\u202egnp.exe"
LONG_TRACEBACK = "Traceback (most recent call last):\n" + "".join(
    f'  File "/srv/shop/mail.py", line {line}, in send_{line}\n    send(<b>{line}</b>)\n' for line in range(1, 2_000)
)
MAIL, REPORT, IMPORT = "shop.mail.send_email", "shop.reports.build_report", "shop.catalogue.import_products"

_WALKS: dict[str, list[tuple[str, float]]] = {
    "queued": [("queued", 0)],
    "scheduled": [("scheduled", 0)],
    "active": [("queued", 0), ("active", 0.4)],
    "completed": [("queued", 0), ("active", 0.3), ("completed", 1.7)],
    "failed": [("queued", 0), ("active", 0.2), ("failed", 2.4)],
    "retrying": [("queued", 0), ("active", 0.2), ("retrying", 1.1)],
    "cancelled": [("queued", 0), ("cancelled", 4.0)],
    "unknown": [("queued", 0), ("active", 0.5), ("unknown", 9.0)],
}
_DETAILS: dict[str, dict[str, Any]] = {
    "failed": {
        "error": "SMTPServerDisconnected: Connection unexpectedly closed",
        "stacktrace": (
            "Traceback (most recent call last):\n"
            '  File "/usr/lib/python3/dist-packages/celery/app/trace.py", line 453, in trace_task\n'
            "    R = retval = fun(*args, **kwargs)\n"
            '  File "/srv/shop/mail.py", line 41, in send_email\n'
            "    smtp.send_message(message)\n"
            "smtplib.SMTPServerDisconnected: Connection unexpectedly closed\n"
        ),
    },
    "retrying": {"error": "TimeoutError: timed out"},
}


def job_uuid(key: str) -> str:
    """Return the UUID of the job with this key, as Celery's ids are: the same each time."""
    return str(uuid5(NAMESPACE_URL, key))


class Shop:
    """Writes events of one connection, of `now` and before."""

    def __init__(self, now: datetime, connection: str = CONNECTION) -> None:
        self._now = now
        self._connection = connection

    def job(
        self, key: str, state: str, name: str = MAIL, *, ago: float = 60.0, queue: str = "mail", **fields: Any
    ) -> list[dict[str, Any]]:
        """Return the events of a job that was created `ago` seconds before now and has come to `state`.

        `fields` are fields of `job` in its last event, by their wire names.
        """
        extensions = fields.pop("extensions", {})
        walk = _WALKS[state]
        created = self._at(ago)
        events = []
        for index, (each, after) in enumerate(walk):
            details = {**_DETAILS.get(each, {}), **fields} if index == len(walk) - 1 else {}
            ran = {} if each in {"queued", "scheduled"} else {"workerId": "celery@web-1"}
            if each == "scheduled":
                details["extensions"] = {"eta": self._at(-3600)}
            job = {
                "externalId": job_uuid(key),
                "name": name,
                "queue": queue,
                "state": each,
                "createdAt": created,
                **ran,
                **details,
            }
            job["extensions"] = {"rootId": job_uuid(key), **extensions, **details.get("extensions", {})}
            events.append(self._event("job_state_change", ago - after, job=job))
        return events

    def every_state(self) -> Iterator[dict[str, Any]]:
        """Return the events of jobs in every state, of several tasks and queues."""
        for number, state in enumerate(_WALKS):
            yield from self.job(f"state-{state}", state, ago=90 + 20 * number)
        for number in range(24):
            yield from self.job(f"report-{number}", "completed", REPORT, ago=300 + 60 * number, queue="reports")
        for number in range(4):
            yield from self.job(f"bad-{number}", "failed", IMPORT, ago=200 + 90 * number, queue="catalogue")

    def canvas(self) -> Iterator[dict[str, Any]]:
        """Return the events of a job that has started a group, one member of which has failed."""
        root, group = job_uuid("canvas"), job_uuid("canvas-group")
        yield from self.job("canvas", "completed", IMPORT, ago=500, queue="catalogue")
        for number in range(5):
            extensions = {"rootId": root, "parentId": root, "groupId": group}
            state = "failed" if number == 3 else "completed"
            yield from self.job(f"member-{number}", state, REPORT, ago=480, queue="reports", extensions=extensions)

    def hostile(self) -> Iterator[dict[str, Any]]:
        """Return the events of a job all of whose texts are hostile, of a worker and a queue with such names."""
        yield from self.job(
            "hostile",
            "failed",
            HOSTILE_NAME,
            queue=HOSTILE_TEXT[:250],
            workerId=HOSTILE_TEXT,
            error=f"{HOSTILE_TEXT}: {HOSTILE_TEXT}",
            stacktrace=(LONG_TRACEBACK + HOSTILE_TEXT)[:50_000],
            extensions={"args": [HOSTILE_TEXT], "kwargs": {HOSTILE_TEXT: HOSTILE_TEXT}, "argsWhole": True},
        )
        yield from self.job("hostile-name", "failed", HOSTILE_TEXT, error="Error<b>: <i>x</i>")
        place = f'  File "/srv/{HOSTILE_TEXT[:60]}.py", line 3, in <script>\n    <b>run</b>()\n'
        traceback = f"Traceback (most recent call last):\n{place}ValueError: x\n"
        yield from self.job("hostile-place", "failed", error="ValueError: x", stacktrace=traceback)
        yield self.worker(HOSTILE_TEXT, "online")
        yield self.queue(HOSTILE_TEXT[:250], 7)

    def worker(self, name: str, state: str, *, ago: float = 1.0, active: int = 1) -> dict[str, Any]:
        """Return one event of a worker: a state, or a heartbeat."""
        worker = {
            "externalId": name,
            "hostname": name,
            "pid": 4711,
            "state": state,
            "concurrency": 4,
            "activeJobs": active,
            "queues": ["mail", "reports"],
            "metadata": {"pool": "prefork", "software": "celery", "softwareVersion": "5.7.0"},
        }
        return self._event("worker_heartbeat" if state == "heartbeat" else "worker_state_change", ago, worker=worker)

    def queue(self, name: str, depth: int, *, ago: float = 1.0) -> dict[str, Any]:
        """Return one sample of a queue."""
        return self._event("queue_snapshot", ago, queue={"name": name, "depth": depth, "consumers": 2})

    def fleet(self) -> Iterator[dict[str, Any]]:
        """Return the events of two workers, one of which is gone, and of three queues."""
        yield self.worker("celery@web-1", "online", ago=600)
        yield self.worker("celery@web-1", "heartbeat")
        yield self.worker("celery@web-2", "online", ago=600)
        yield self.worker("celery@web-2", "offline", ago=300, active=0)
        for number, name in enumerate(("mail", "reports", "catalogue")):
            for ago in (120, 60, 1):
                yield self.queue(name, 3 * number + ago // 60, ago=ago)

    def _at(self, ago: float) -> str:
        moment = self._now - timedelta(seconds=ago)
        return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"

    def _event(self, event_type: str, ago: float, **subject: Any) -> dict[str, Any]:
        return {
            "type": event_type,
            "timestamp": self._at(ago),
            "framework": "celery",
            "connectionId": self._connection,
            **subject,
        }
