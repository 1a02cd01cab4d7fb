"""The last check of `sluice-agent doctor`: one event that is sent through the journal, as all others are."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from uuid import uuid4

from sluice_agent.agent import Agent
from sluice_agent.commands.status import inspect_journal
from sluice_agent.doctor.findings import Finding, fault, ok
from sluice_agent.event import Event, Job
from sluice_agent.lifecycle.timestamps import timestamp_now
from sluice_agent.model import EventType, JobState
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations import configured
from sluice_agent.transport.journal.dead_letters import letters_in

TASK = "sluice_agent.doctor"
"""The name of the job in the event: it marks it wherever jobs are listed."""

_TIMEOUT = 15.0  # seconds: the shipper looks once a second, and a request takes 10 s at most


def send_marked_event(settings: Settings, timeout: float = _TIMEOUT) -> Iterator[Finding]:
    """Capture one event of a completed job, and wait for at most `timeout` seconds until it has arrived."""
    if not settings.active:
        return  # the check of the settings has reported it
    event = _event(settings)
    agent = Agent(settings, None, None)
    agent.capture(event.to_json())
    if agent.directory is None:
        return  # that of the directory has
    has_arrived = agent.flush(timeout)
    agent.shutdown(0)
    job = event.job.external_id if event.job is not None else ""
    answers = [letter.answer for letter in letters_in(agent.directory) if job in str(letter.events)]
    if answers:
        todo = "the answer names the reason; `sluice-agent dead show` has the event"
        yield fault("send", f"a marked event was refused: {answers[-1]}", todo)
    elif has_arrived:
        urls = " and ".join(destination.url(settings) for destination in configured(settings))
        yield ok("send", f"a marked event has arrived at {urls}: a completed job of the task {TASK}, id {job}")
    else:
        report, problems = inspect_journal(settings)
        error = report["last_error"]
        reason = error["message"] if error is not None else "no error is known"
        todo = "; ".join(problem.what for problem in problems) or "is a process running that ships this journal?"
        yield fault("send", f"a marked event has not arrived within {timeout:g} s: {reason}", todo)


def _event(settings: Settings) -> Event:
    now, mark = timestamp_now(), str(uuid4())
    job = Job(
        external_id=mark,
        name=TASK,
        state=JobState.COMPLETED,
        worker_id=f"doctor@{socket.gethostname()}",
        attempt=1,
        created_at=now,
        started_at=now,
        completed_at=now,
        extensions={"celeryState": "SUCCESS", "eventId": mark},
    )
    return Event(type=EventType.JOB_STATE_CHANGE, timestamp=now, connection_id=str(settings.connection), job=job)
