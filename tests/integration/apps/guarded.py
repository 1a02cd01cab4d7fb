"""An app that looks, wherever Celery lets it, for anything of the agent's; it looks from before the agent is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Task, chain, chord, group, signals

OURS = "sluice_agent"
FOUND = Path(os.environ["FOUND"])


def look(place: str, *things: Any) -> None:
    """Write down where something of the agent's was found."""
    for thing in things:
        shown = f"{thing!r} {sorted(vars(thing)) if hasattr(thing, '__dict__') else ''}"
        with FOUND.open("a") as file:
            file.write(f"{place}: {shown}\n" if "_sluice" in shown or f"'{OURS}'" in shown else f"{place}: clean\n")


def _look_at_signal(signal: Any, sender: Any = None, **arguments: Any) -> None:
    request = arguments.get("request")
    message = arguments.get("message") or getattr(request, "message", None)
    seen = [arguments.get("headers"), arguments.get("body"), arguments.get("properties")]
    seen += [vars(request) if hasattr(request, "__dict__") else None, getattr(request, "request_dict", None)]
    seen += [message and message.headers, getattr(arguments.get("task") or sender, "request", None)]
    look(signal.name, *(thing for thing in seen if thing is not None))


for signal in (
    signals.before_task_publish,
    signals.after_task_publish,
    signals.task_received,
    signals.task_prerun,
    signals.task_postrun,
    signals.task_success,
    signals.task_retry,
    signals.task_failure,
    signals.task_revoked,
    signals.task_unknown,
    signals.task_rejected,
):
    signal.connect(_look_at_signal, weak=False)

from tests.integration.tasks import app, replace_self_by_chain, replace_self_by_group, shared_task  # noqa: E402 - after that

__all__ = ["app", "replace_self_by_chain", "replace_self_by_group"]


@shared_task(bind=True, max_retries=1)
def looks(self: Task, *_: Any, retries: int = 0) -> None:
    """Look at the request, be retried, and look again."""
    look("request", self.request, self.request.headers, self.request.chain, self.request.chord)
    if self.request.retries < retries:
        raise self.retry(countdown=0)


@shared_task(bind=True)
def becomes(self: Task, kind: str) -> Any:
    """Go on as a task, a chain or a chord, whose parts look too."""
    look("request", self.request)
    one = looks.si()
    return self.replace({"task": one, "chain": chain(one, one, one), "chord": chord(group(one, one), one)}[kind])


@shared_task(bind=True)
def fails(self: Task) -> None:
    """Look, then raise."""
    look("request", self.request)
    raise ValueError("on purpose")


def send_everything() -> str:
    """Publish what looks, in each way; the id of the job that ends last."""
    looks.delay(retries=1)
    for kind in ("task", "chain", "chord"):
        becomes.delay(kind)
    fails.delay()
    app.send_task("no.such.task")
    looks.apply_async(expires=-1)
    group(looks.si(), looks.si())()
    return str(chain(looks.si(), chord([looks.si(), looks.si()], looks.si()), looks.si()).apply_async().id)
