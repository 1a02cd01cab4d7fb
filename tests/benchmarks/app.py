"""The Celery app that is measured: one task that does nothing. BENCH_AGENT=1 instruments it."""

import os

from celery import Celery

app = Celery("bench", broker=os.environ.get("BROKER_URL", "memory://"))
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)

if os.environ.get("BENCH_AGENT") == "1":
    import sluice_agent

    sluice_agent.install()


@app.task
def noop() -> None:
    """Nothing."""
