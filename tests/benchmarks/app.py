"""The Celery app that is measured: one task that does nothing. BENCH_MODE selects the agent or bare receivers."""

import os

from celery import Celery, signals

app = Celery("bench", broker=os.environ.get("BROKER_URL", "memory://"))
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)

match os.environ.get("BENCH_MODE"):
    case "sluice-agent":
        import sluice_agent

        sluice_agent.install()
    case "signals":  # a receiver that does nothing at each signal of a task's course
        for signal in (
            signals.before_task_publish,
            signals.after_task_publish,
            signals.task_received,
            signals.task_prerun,
            signals.task_postrun,
        ):
            signal.connect(lambda **_: None, weak=False)


@app.task
def noop() -> None:
    """Do nothing."""
